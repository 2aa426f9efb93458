"""Three viscosities, two of them trained on, through all stages and into the library."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from standin import ROOT

import ups
from ups.data.latents import read_latents
from ups.errors import InputError
from ups.inference.surrogate import load_bundle
from ups.library.prediction import Request, predict
from ups.models.weights import read_config
from ups.parameters.overlay import resolve
from ups.stages import (
    distill,
    encode_latents,
    evaluate,
    prepare_data,
    simulate,
    train_baseline,
    train_codec,
    train_diffusion,
    train_operator,
    train_steady_prior,
)
from ups.stages.runner import execute

TRAINED, BETWEEN = (0.02, 0.08), 0.04
STAGES = (
    simulate,
    prepare_data,
    train_codec,
    encode_latents,
    train_operator,
    train_diffusion,
    distill,
    train_steady_prior,
    train_baseline,
    evaluate,
)


def parameters():
    """The flagship, in its moving frame and with its symmetries, made as small as it gets."""
    base = yaml.safe_load((ROOT / "params/base.yaml").read_text())
    params = resolve(base, "burgers1d-viscosities", "flagship", "tiny")
    params["task"]["coefficients"] = {"viscosity": [0.02, 0.04, 0.08]}
    params["data"] |= {"train_on": {"viscosity": list(TRAINED)}}
    params["data"]["splits"] = {"test": [0, 2], "validation": [2, 4], "train": [4, 8]}
    params["simulate"] |= {"samples": 8, "points": 32, "frames": 8, "nodes": 512, "check_samples": 1}
    params["latent"]["tokens"] = 8
    params["train_operator"]["model"] |= {"hidden": 16, "blocks": 2}
    for stage, updates in (("train_codec", 40), ("train_operator", 30), ("train_baseline", 2)):
        params[stage]["optimization"] |= {"epochs": 1, "updates_per_epoch": updates, "warmup_updates": 0}
    params["train_baseline"] |= {"num_parameters": 2000, "modes": 4, "layers": 2}
    params["evaluate"]["finite_volume"]["cells"] = [32]
    return params


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regimes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        content = parameters()
        patch.chdir(folder)
        (folder / "params").mkdir()
        (folder / "params/base.yaml").write_text(yaml.safe_dump(content))
        for stage in STAGES:
            execute(stage.NAME, stage.Params, stage.INPUTS, stage.run)
    return folder / "artifacts"


@pytest.fixture(scope="module")
def metrics(project):
    return json.loads((project / "evaluate/metrics.json").read_text())


@pytest.fixture(scope="module")
def surrogate(project):
    return ups.load(project / "evaluate/surrogate")


def test_latents_carry_the_viscosity_of_every_trajectory(project):
    path = project / "encode_latents/latents.h5"
    for split, count, values in (("train", 4, TRAINED), ("validation", 2, TRAINED), ("test", 2, (0.02, 0.04, 0.08))):
        found = read_latents(path, split).coefficients[:, 0]
        assert found.tolist() == pytest.approx(list(values) * count)


def test_the_scale_of_conditioning_is_that_of_the_training_split(project):
    for stage in ("train_operator", "train_baseline"):
        scale = read_config(project / stage)["arguments"]["conditioning"]
        logs = np.log(np.float32(TRAINED).astype(float))
        assert scale["mean"] == pytest.approx([logs.mean()])
        assert scale["std"] == pytest.approx([logs.std()])
        assert scale["visible"] is True


def test_results_are_there_by_regime(metrics, project):
    assert {name: about["kind"] for name, about in metrics["regime_kinds"].items()} == {
        "viscosity=0.02": "trained",
        "viscosity=0.04": "between",
        "viscosity=0.08": "trained",
    }
    assert [about["trajectories"] for about in metrics["regime_kinds"].values()] == [2, 2, 2]
    table = pd.read_parquet(project / "evaluate/per_trajectory.parquet")
    chosen = table[(table.model == "assembled") & (table.protocol == "rollout_ic") & (table.horizon == "full")]
    by_regime = chosen[chosen.metric == "nrmse"].groupby("regime").value.mean()
    for name, by_model in metrics["regimes"].items():
        assert by_model["assembled"]["rollout_ic"]["nrmse"]["mean"] == pytest.approx(by_regime[name])
    assert len(by_regime) == 3
    assert chosen[chosen.metric == "nrmse"].trajectory.is_unique


def test_finite_volumes_solve_each_trajectory_with_its_own_viscosity(metrics):
    """As few cells go, they are far nearer to the truth than what holds still, at every viscosity."""
    for by_model in metrics["regimes"].values():
        solved, held = (by_model[name]["rollout_ic"]["nrmse"]["mean"] for name in ("finite_volume_32", "spatial_mean"))
        assert solved < 0.3 * held


def test_the_library_says_what_it_was_trained_for(surrogate):
    assert "trained for viscosity 0.02, 0.08" in str(surrogate)
    u = np.sin(2 * np.pi * surrogate.x)
    with pytest.raises(InputError, match=r"viscosity = 0\.2, but .* trained for viscosity 0\.02, 0\.08"):
        surrogate.state(u, viscosity=0.2)
    surrogate.state(u, viscosity=0.05)  # inside the range: what a model of several regimes is for


def test_no_logarithm_of_what_is_not_positive(project):
    anyway = ups.load(project / "evaluate/surrogate", extrapolate=True)
    with pytest.raises(InputError, match=r"viscosity = 0, but 'burgers' needs it above 0"):
        anyway.state(np.zeros(32), viscosity=0.0)


def test_each_trajectory_has_its_own_viscosity_in_a_batch(surrogate):
    u = np.sin(2 * np.pi * surrogate.x)
    values = np.array([0.02, 0.05, 0.08])
    batch = surrogate.state(np.broadcast_to(u, (3, 1, 32)), viscosity=values)
    together = np.stack([state.u for state in surrogate.rollout(batch, 3)])
    for row, value in enumerate(values):
        alone = np.stack([state.u for state in surrogate.rollout(surrogate.state(u, viscosity=value), 3)])
        np.testing.assert_allclose(together[:, row, 0], alone, atol=1e-5)
    assert np.abs(together[-1, 0] - together[-1, 2]).max() > 1e-4  # and the network listens to it


def test_the_bundle_is_the_same_network(project):
    """Without its scale, which is in no weight, a loaded network would see other numbers."""
    parts = load_bundle(project / "evaluate/surrogate")
    scale = parts.operator.scale
    assert scale is not None
    shown = scale(torch.tensor([[0.02], [0.08]]))[:, 0]
    assert shown.tolist() == pytest.approx([-1.0, 1.0], abs=1e-4)


def test_predicting_a_file_gives_the_numbers_of_evaluate(project, surrogate, metrics, tmp_path):
    """The test split is initial conditions 0 and 1 in three regimes: samples 0..5 of the file."""
    output = tmp_path / "forecast.h5"
    made = predict(surrogate, project / "simulate/data.h5", output, Request(samples=(0, 6), batch_size=4))
    for protocol in ("one_step", "rollout_ic"):
        assert made.scores[protocol]["mean"] == pytest.approx(metrics["assembled"][protocol]["nrmse"]["mean"], rel=1e-4)
    with h5py.File(output) as file:
        assert file["Nu"][:].tolist() == [0.02, 0.04, 0.08] * 2
        assert file["initial-condition"][:].tolist() == [0, 0, 0, 1, 1, 1]
        assert "Nu" not in file.attrs
    with pytest.raises(InputError, match=r"was made with viscosity = 0\.02 to 0\.08 \(3 values\); leave"):
        predict(surrogate, project / "simulate/data.h5", output, Request(coefficients={"viscosity": 0.02}))


def test_the_results_name_the_regimes(metrics):
    from ups.evaluation.regime_table import regime_tables

    tables = regime_tables(metrics)
    assert [table.header[0] for table in tables] == ["nRMSE rollout_ic by regime", "nRMSE pdebench by regime"]
    assert [row[:3] for row in tables[0].rows] == [
        ("viscosity=0.02", "trained", "2"),
        ("viscosity=0.04", "between", "2"),
        ("viscosity=0.08", "trained", "2"),
    ]
