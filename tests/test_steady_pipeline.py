"""A steady task through all stages: in one process at the smallest size, and the variants as sweeps run them."""

import importlib
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from standin import ROOT
from swept_variants import artifacts, metrics, run

from ups.errors import ParameterError
from ups.models.weights import is_skipped
from ups.parameters.overlay import resolve
from ups.pipeline.stages import stage_names
from ups.stages.runner import execute

TASK = "darcy2d"
WITHOUT_TIME = ("train_operator", "train_diffusion", "distill", "train_reward", "evaluate_ttc")
SMALLER = {
    "simulate": {"points": 16, "max_error": 0.02, "samples": 12, "check_samples": 2},
    "latent": {"tokens": 16, "dim": 32},
    "train_baseline": {"modes": 4},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """All stages of `steady-prior` on 16 x 16 points, in this process."""
    folder = tmp_path_factory.mktemp("steady")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        base = yaml.safe_load(Path("params/base.yaml").read_text())
        parameters = resolve(base, TASK, "steady-prior", "tiny")
        for section, values in SMALLER.items():
            parameters[section].update(values)
        parameters["data"]["splits"]["train"] = [8, 12]
        parameters["evaluate"]["finite_volume"]["cells"] = [8, 16]
        parameters["train_reward"]["optimization"]["epochs"] = 1  # it too has nothing to do
        names = stage_names()
        patch.chdir(folder)
        Path("params").mkdir()
        Path("params/base.yaml").write_text(yaml.safe_dump(parameters))
        for name in names:
            stage = importlib.import_module(f"ups.stages.{name}")
            execute(name, stage.Params, stage.INPUTS, stage.run)
    return folder / "artifacts"


def read(project, stage, name="metrics.json"):
    return json.loads((project / stage / name).read_text())


def test_stages_without_a_time_say_that_they_are_skipped(project):
    for name in WITHOUT_TIME:
        found = read(project, name)
        assert (found["status"], found["reason"]) == ("skipped", "the equation is steady"), name
        assert name == "evaluate_ttc" or is_skipped(project / name)
    assert read(project, "train_diffusion")["beats_zero_correction"] is False
    assert read(project, "evaluate_ttc", "summary.json") == {}


def test_the_codec_and_the_prior_are_trained(project):
    for name in ("train_codec", "train_steady_prior", "train_baseline"):
        found = read(project, name)
        assert found["status"] == "trained"
        assert found["overfitting"]
    sizes = {name: read(project, name, "config.json")["parameters"] for name in ("train_codec", "train_steady_prior")}
    assert read(project, "train_baseline")["size_of_surrogate"] == sum(sizes.values())
    assert read(project, "train_steady_prior")["val_first_nrmse"] > 0


def test_the_evaluation_has_every_model_baseline_and_verdict(project):
    found = read(project, "evaluate")
    models = {name for name, value in found.items() if isinstance(value, dict) and "steady" in value}
    assert {"steady_prior", "steady_prior_1", "steady_prior_2", "steady_prior_8", "fno", "mean_solution"} <= models
    assert any(name.startswith("finite_volume_") for name in models)
    assert found["steady_prior"]["steady"]["evaluations_per_trajectory"] == 4
    assert found["steady_prior_8"]["steady"]["evaluations_per_trajectory"] == 8
    assert found["reconstruction"]["nrmse"]["mean"] < found["mean_solution"]["steady"]["nrmse"]["mean"]
    assert {"pays", "reason"} <= set(found["iterating"])
    assert {"gate", "problem", "finite_volume_choice", "paired_with_mean_solution"} <= set(found)
    assert found["finite_volume_choice"]["against"] == "steady_prior"
    table = pd.read_csv(project / "evaluate/error_vs_iterations.csv")
    assert table["iterations"].tolist() == [1, 2, 4, 8]
    rows = pd.read_parquet(project / "evaluate/per_trajectory.parquet")
    assert set(rows["model"]) == models
    assert set(rows["trajectory"]) == {0, 1, 2, 3}
    for figure in ("solutions", "error_vs_iterations", "error_vs_cost_steady", "spectra_steady", "training_curves"):
        assert (project / f"evaluate/figures/{figure}.png").stat().st_size > 1000


def test_a_task_with_a_time_is_refused_by_the_stage_too(project, tmp_path):
    """For a file of one's own, whose equation the parameters do not know."""
    from ups.data.dataset import read_metadata
    from ups.data.latents import LatentsWriter, read_latents
    from ups.stages import train_steady_prior as stage

    raw = yaml.safe_load((project.parent / "params/base.yaml").read_text())
    params = stage.Params.model_validate({key: raw[key] for key in stage.Params.model_fields})
    metadata = read_metadata(project / "prepare_data/dataset.h5").model_copy(update={"equation": "navier_stokes"})
    with LatentsWriter(tmp_path / "latents.h5", metadata, "codec") as writer:
        for split in ("train", "validation"):
            kept = read_latents(project / "encode_latents/latents.h5", split)
            writer.write(split, kept.tokens, kept.coefficients)
    with pytest.raises(ParameterError, match=r"'navier_stokes', which has a time. Set it to 0, or choose a steady"):
        stage.run(params, {"latents": tmp_path / "latents.h5"}, tmp_path)


SWITCHES = {
    "last-alone": "supervise: last",
    "latent-alone": "losses: {latent: 1.0, decoded: 0.0}",
    "narrow": "model: {hidden: 16}",
}


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_variants_share_data_and_codec_and_every_switch_changes_the_prior(variants_project):
    """Each switch against `steady-prior`: what it leaves alone is the same file, and the prior is another one."""
    folder = variants_project / "params/variants"
    for name, change in SWITCHES.items():
        text = f"tasks: [{TASK}]\nextends: steady-prior\nhypothesis: h\nvaries: [train_steady_prior]\n"
        (folder / f"{name}.yaml").write_text(f"{text}train_steady_prior: {{{change}}}\n")
    for name in ("steady-prior", "steady-prior-one-step", *SWITCHES):
        run(variants_project, name, TASK)

    def of(variant, stage="train_steady_prior"):
        return metrics(variants_project, variant, stage, TASK)

    def file(variant, name):
        return (artifacts(variants_project, variant, TASK) / name).resolve()

    for variant in ("steady-prior-one-step", *SWITCHES):
        codec, prior = "train_codec/model.safetensors", "train_steady_prior/model.safetensors"
        assert file(variant, codec) == file("steady-prior", codec)
        assert file(variant, prior) != file("steady-prior", prior)
        assert of(variant)["val_loss"] != of("steady-prior")["val_loss"]
    one = of("steady-prior-one-step", "evaluate")
    assert one["steady_prior"]["steady"]["evaluations_per_trajectory"] == 1
    assert of("steady-prior-one-step")["val_loss"] == of("steady-prior-one-step")["val_first_nrmse"]
    assert of("narrow")["parameters"] < of("steady-prior")["parameters"]
    columns = pd.read_csv(file("latent-alone", "train_steady_prior/history.csv")).columns
    assert "loss_latent" in columns
    assert "loss_decoded" not in columns
    assert of("last-alone")["val_first_nrmse"] > of("steady-prior")["val_first_nrmse"]


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_without_epochs_the_baselines_are_evaluated_alone(variants_project):
    run(variants_project, "golden", TASK)
    assert metrics(variants_project, "golden", "train_steady_prior", TASK)["status"] == "skipped"
    found = metrics(variants_project, "golden", "evaluate", TASK)
    assert not any(name.startswith("steady_prior") for name in found)
    assert found["finite_volume_choice"]["against"] == "mean_solution"
