"""The stage on a small folder, with a surrogate whose error is known."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from example_fields import advected_sines, drift

from ups.data.dataset import DatasetWriter
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
COMPUTE = {"device": "cpu", "precision": "fp32", "num_threads": None, "compile": False, "deterministic": True}


class KnownSurrogate:
    """Its operator adds a constant per step, its assembled form half of that."""

    modes = ("operator", "assembled")

    def to(self, device):
        return self

    def forecaster(self, mode):
        forecaster = drift(0.1 if mode == "operator" else 0.05)
        forecaster.evaluations_per_step = 1
        return forecaster

    def reconstruct(self, fields):
        return fields + 0.01

    def save(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "surrogate.json").write_text("{}")


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Splits that differ in their mean: train 0, validation 5, test 0.3."""
    folders = {name: tmp_path / name for name in ("prepare_data", "codec", "operator", "corrector", "student", "fno")}
    for folder in folders.values():
        folder.mkdir()
    path = folders["prepare_data"] / "dataset.h5"
    test = advected_sines(trajectories=3, frames=9, first_index=0)
    with DatasetWriter(path) as writer:
        for split, mean, first in (("train", 0.0, 20), ("validation", 5.0, 10), ("test", 0.3, 0)):
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
    # On validation, by hand: the third frame held and drifting, against the six that follow.
    fields = advected_sines(trajectories=3, frames=9, mean=5.0).fields[:, :, 0].double()
    for mode, amount in (("operator", 0.1), ("assembled", 0.05)):
        held = fields[:, 2:3] + amount * torch.arange(1, 7)[:, None]
        ratio = (held - fields[:, 3:]).square().mean(-1).sqrt() / fields[:, 3:].square().mean(-1).sqrt()
        found = metrics["validation"][mode]["pdebench"]["nrmse"]["mean"]
        assert found == pytest.approx(float(ratio.mean()), rel=1e-5)
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
