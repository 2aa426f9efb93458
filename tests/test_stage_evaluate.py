"""The stage on a small folder, with a surrogate whose error is known."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from example_fields import advected_sines

from ups.data.dataset import DatasetWriter
from ups.evaluation.baselines import exact_forecasters
from ups.evaluation.table import results_table
from ups.models.fno import fno_of_size
from ups.models.weights import save_model, save_skipped
from ups.stages import evaluate
from ups.stages.runner import _finite

EVALUATE = {
    "protocols": ["one_step", "rollout_ic", "pdebench"],
    "horizons": [1, 4],
    "batch_size": 2,
    "correlation_threshold": 0.8,
    "finite_volume": {"cells": [16, 32], "max_seconds": 0.5, "compile": False},
    "ensemble": {"members": 3, "seed": 0},
    "panel_trajectories": 1,
}
TEST_MEAN = 0.3
COMPUTE = {"device": "cpu", "precision": "fp32", "num_threads": None, "compile": False, "deterministic": True}


@dataclass(frozen=True)
class KnownSurrogate:
    """Its operator adds .1 per step to an exact forecast, in single steps as in rollouts; its corrector and student
    nothing in a single step, and from then on `corrected` and `student` per step.
    """

    corrected: float | None = None
    student: float | None = None
    choice: str = "operator"
    made: list[str] = field(default_factory=list)  # what was forecast on the test split

    @property
    def corrector(self):
        return self.corrected

    @property
    def modes(self):
        has_corrector = ("zero_correction", "corrected") if self.corrected is not None else ()
        return ("operator", *has_corrector, *(("student",) if self.student is not None else ()), "assembled")

    def to(self, device):
        return self

    def forecaster(self, mode):
        exact = exact_forecasters(advected_sines().metadata)["exact_shift"]
        error = {"operator": 0.1, "corrected": self.corrected, "student": self.student}[mode]

        def forecaster(given, num_steps, coefficients):
            if abs(float(given[:, -1].mean()) - TEST_MEAN) < 0.1:
                self.made.append(mode)
            growth = error * torch.arange(1, num_steps + 1)
            if mode != "operator":
                growth[0] = 0.0
            scatter = torch.linspace(0.9, 1.1, len(given))[:, None]
            return exact(given, num_steps, coefficients) + (scatter * growth)[:, :, None, None]

        forecaster.evaluations_per_step = 2 if mode == "corrected" else 1
        return forecaster

    def reconstruct(self, fields):
        return fields + 0.01

    def reduced(self):
        return self

    def save(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "surrogate.json").write_text(json.dumps({"assembled": self.choice}))


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Splits that differ in their mean: train 0, validation 5, test 0.3."""
    folders = {name: tmp_path / name for name in ("prepare_data", "codec", "operator", "corrector", "student", "fno")}
    for folder in folders.values():
        folder.mkdir()
    path = folders["prepare_data"] / "dataset.h5"
    test = advected_sines(trajectories=3, frames=9, first_index=0)
    with DatasetWriter(path) as writer:
        for split, mean, first in (("train", 0.0, 20), ("validation", 5.0, 10), ("test", TEST_MEAN, 0)):
            data = advected_sines(trajectories=3, frames=9, mean=mean, first_index=first)
            writer.begin_split(split, data.index.tolist(), 9, 1, [32])
            writer.append(data.fields.numpy(), data.coefficients.numpy())
        writer.finish(test.metadata)
    for name in ("corrector", "student"):
        save_skipped(folders[name], "0 epochs")
    (folders["corrector"] / "metrics.json").write_text(json.dumps({"status": "skipped"}))
    torch.manual_seed(0)
    fno = fno_of_size(2_000, modes=4, layers=1, metadata=test.metadata)
    save_model(folders["fno"], fno, fno.arguments, "fingerprint")
    history = pd.DataFrame({"updates": [1, 2], "train_loss": [1.0, 0.5], "val_loss": [1.0, 0.6]})
    history.to_csv(folders["codec"] / "history.csv", index=False)
    monkeypatch.setattr(evaluate, "load_surrogate", lambda **_: KnownSurrogate())
    models = ("codec", "operator", "corrector", "student", "fno")
    found = {name: folders[name] / "model.safetensors" for name in models}
    return {**found, "data": path, "corrector_metrics": folders["corrector"] / "metrics.json"}


def test_evaluates_the_test_split_and_writes_everything(inputs, tmp_path, capsys):
    outputs = tmp_path / "evaluate"
    outputs.mkdir()
    metrics = evaluate.run(evaluate.Params(evaluate=EVALUATE), inputs, outputs)
    json.dumps(_finite(metrics, "metrics.json"))  # the runner's own check
    table = pd.read_parquet(outputs / "per_trajectory.parquet")
    # Planted: the indices of the test split, and the mean of its fields, which the other splits do not have.
    assert sorted(table.trajectory.unique()) == [0, 1, 2]
    held = table[(table.model == "spatial_mean") & (table.metric == "vrmse") & (table.horizon == "full")]
    assert np.allclose(held.value, np.sqrt(31 / 32), atol=1e-5)
    lengths = {name: metrics["operator"][name]["frames_predicted"] for name in EVALUATE["protocols"]}
    assert lengths == {"one_step": 8, "rollout_ic": 8, "pdebench": 6}
    # rms of .3 + sin is sqrt(.09 + .5): with mean 5 it would be 5.05.
    assert metrics["reconstruction"]["nrmse"]["mean"] == pytest.approx(0.01 / np.sqrt(0.59), rel=1e-4)
    assert metrics["exact_shift"]["rollout_ic"]["nrmse"]["mean"] < 1e-5
    assert metrics["operator"]["pdebench"]["evaluations_per_trajectory"] == 6
    assert set(metrics["paired_with_operator"]) >= {"assembled", "fno", "persistence_last"}
    assert "finite_volume_choice" not in metrics  # advection has its exact shift
    # On validation, by hand: exact but for .1 per step, scattered by a tenth over each batch of two.
    fields = advected_sines(trajectories=3, frames=9, mean=5.0).fields[:, :, 0].double()
    wrong = 0.1 * torch.tensor([0.9, 1.1, 0.9])[:, None] * torch.arange(1, 7)
    by_hand = (wrong / fields[:, 3:].square().mean(-1).sqrt()).mean()
    for mode in ("operator", "assembled"):
        found = metrics["validation"][mode]["pdebench"]["nrmse"]["mean"]
        assert found == pytest.approx(float(by_hand), rel=1e-4)
    assert {path.name for path in outputs.iterdir()} == {
        "per_trajectory.parquet",
        "error_vs_time.csv",
        "summary.json",
        "figures",
        "surrogate",
    }
    summary = json.loads((outputs / "summary.json").read_text())
    assert summary["operator"]["pdebench"] == {"nrmse": metrics["operator"]["pdebench"]["nrmse"]["mean"]}
    assert set(summary) == set(table.model)
    assert (outputs / "figures" / "training_curves.png").is_file()
    rows = [row[0] for row in results_table(metrics).rows]
    assert {"FNO", "operator", "assembled surrogate", "exact shift"} <= set(rows)
    assert "operator" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("corrected", "student", "expected"),
    [(0.05, None, "corrected"), (0.2, 0.2, "operator"), (0.1 * 8 / 7, None, "operator"), (0.05, 0.0502, "student")],
)
def test_rollouts_of_validation_decide_and_what_is_the_same_model_is_forecast_once(
    inputs, tmp_path, monkeypatch, capsys, corrected, student, expected
):
    """Every corrector here is perfect one step ahead. What it does in rollouts decides."""
    surrogate = KnownSurrogate(corrected, student)
    monkeypatch.setattr(evaluate, "load_surrogate", lambda **_: surrogate)
    monkeypatch.setattr(evaluate, "draw_figures", lambda *_: None)  # seconds, and they decide nothing
    one_step = {"status": "trained", "explained_residual": 1.0, "beats_zero_correction": True}
    inputs["corrector_metrics"].write_text(json.dumps(one_step))
    outputs = tmp_path / "evaluate"
    outputs.mkdir()
    short = {**EVALUATE, "protocols": ["rollout_ic"], "batch_size": 3}
    metrics = evaluate.run(evaluate.Params(evaluate=short), inputs, outputs)
    assert metrics["assembly"]["assembled"] == expected
    assert metrics["assembly"]["trajectories"] == 3
    assert metrics["corrector"] == one_step
    assert metrics["assembled"] == metrics[expected]
    assert metrics["zero_correction"] == metrics["operator"]
    assert json.loads((outputs / "surrogate" / "surrogate.json").read_text()) == {"assembled": expected}
    assert metrics["assembly"]["reason"] in capsys.readouterr().out
    # Once without the clock and once with it, each.
    present = ["operator", "corrected", *(["student"] if student else [])]
    assert sorted(surrogate.made) == sorted(2 * present)


def test_skipped_baseline_has_no_row(inputs, tmp_path):
    save_skipped(inputs["fno"].parent, "0 epochs")
    outputs = tmp_path / "evaluate"
    outputs.mkdir()
    short = {**EVALUATE, "protocols": ["rollout_ic"]}
    metrics = evaluate.run(evaluate.Params(evaluate=short), inputs, outputs)
    assert "fno" not in metrics
    assert "operator" in metrics


def test_every_input_is_a_file_of_an_earlier_stage():
    assert all(path.startswith("artifacts/") for path in evaluate.INPUTS.values())
    assert "artifacts/simulate" not in " ".join(evaluate.INPUTS.values())
