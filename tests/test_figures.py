import math

import pandas as pd
import pytest
import torch
from example_fields import advected_sines, drift, metadata

from ups.evaluation import records
from ups.evaluation.figures.gallery import draw_figures
from ups.evaluation.figures.rollout_panel import draw_rollout_panel
from ups.evaluation.figures.style import line_style
from ups.evaluation.names import model_label, model_order
from ups.evaluation.scores import score

MODELS = [
    "persistence_initial",
    "persistence_last",
    "spatial_mean",
    "exact_shift",
    "zero_correction",
    "finite_volume_64",
    "finite_volume_128",
    "fno",
    "operator",
    "corrected",
    "student",
    "assembled",
]


def test_lines_are_told_apart_without_colour():
    looks = {(line_style(model)["marker"], str(line_style(model)["linestyle"])) for model in MODELS}
    assert len(looks) == len(MODELS)


def test_the_lines_of_a_steady_evaluation_are_told_apart_too():
    models = ["mean_solution", "finite_volume_16", "finite_volume_32", "fno"]
    models += ["steady_prior", "steady_prior_1", "steady_prior_2", "steady_prior_8"]
    looks = {(line_style(model)["marker"], line_style(model)["color"]) for model in models}
    assert len(looks) == len(models)
    assert all(model_label(model) for model in models)
    assert model_label("steady_prior_2") == "steady prior, iterations: 2"
    assert sorted([*models[3:], *models[:3]], key=model_order) == models


def test_models_have_words_and_an_order():
    assert all(model_label(model) for model in MODELS)
    assert model_label("finite_volume_choice") == model_label("reconstruction") == ""
    shuffled = [*MODELS[5:], *MODELS[:5]]
    assert sorted(shuffled, key=model_order) == MODELS


def test_every_figure_is_drawn_even_with_a_diverged_model(tmp_path):
    data = advected_sines(trajectories=3, frames=9)

    def explodes(given, num_steps, coefficients):
        return drift(math.nan)(given, num_steps, coefficients)

    forecasters = {
        "assembled": drift(0.01),
        "operator": drift(0.1),
        "finite_volume_64": drift(0.02),
        "student": explodes,
    }
    scores = {
        model: {
            name: score(forecaster, data, name, batch_size=3, num_examples=2)
            for name in ("one_step", "rollout_ic", "pdebench")
        }
        for model, forecaster in forecasters.items()
    }
    history = pd.DataFrame({"updates": [1, 2], "train_loss": [1.0, 0.5], "val_loss": [1.0, 0.6]})
    histories = {"train_codec": history, "train_diffusion": history.assign(val_zero_correction=0.8)}
    candidate = {"cells": 64, "seconds_per_trajectory": 0.001, "nrmse": 0.01, "protocol": "pdebench"}
    draw_figures(tmp_path, scores, data, records.nested_metrics(scores), histories, "assembled", [candidate])
    assert {path.name for path in tmp_path.iterdir()} == {
        "error_vs_time.png",
        "training_curves.png",
        "rollout_rollout_ic.png",
        "rollout_pdebench.png",
        "spectra_rollout_ic.png",
        "spectra_pdebench.png",
        "error_vs_cost_rollout_ic.png",
        "error_vs_cost_pdebench.png",
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_panels_of_planes_and_of_lost_forecasts(tmp_path, value):
    truth = torch.rand(1, 3, 1, 8, 6, generator=torch.Generator().manual_seed(0))
    draw_rollout_panel(tmp_path / "panel.png", truth, truth + value, metadata(points=(8, 6)), 1, "a plane")
    assert (tmp_path / "panel.png").is_file()
