"""`simulate` and `prepare_data` of every task but the default one: sizes, errors, and what the audit says."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from standin import ROOT

from ups.data.dataset import read_split
from ups.errors import DataError, ParameterError
from ups.parameters.overlay import resolve
from ups.stages import prepare_data, simulate
from ups.stages.runner import execute

OWN = Path("artifacts/simulate/data.h5")
# What a stored frame may differ from the reference by at these small sizes, and the audit's largest change of what is
# conserved: rounding of float32, of energies up to 50.
TASKS = {
    "diffusion_reaction1d": {"error": 1e-4, "fields": (27, 1, 64), "conserved": {}},
    "wave1d": {"error": 1e-6, "fields": (27, 2, 64), "conserved": {"mean_velocity": 1e-6, "energy": 1e-4}},
    "darcy2d": {"error": 2e-2, "fields": (1, 2, 16, 16), "conserved": {}},
    "navier_stokes2d": {"error": 3e-4, "fields": (5, 1, 32, 32), "conserved": {"mean": 1e-6}},
}
SMALLER = {
    "darcy2d": {"points": 16, "max_error": 0.02},
    "navier_stokes2d": {"points": 32, "frames": 5, "refinement": 2, "substeps": 8, "samples": 12, "check_samples": 2},
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    def run(stage, task, **changes):
        monkeypatch.chdir(ROOT)
        base = yaml.safe_load(Path("params/base.yaml").read_text())
        parameters = resolve(base, task, None, "tiny")
        parameters["simulate"].update(SMALLER.get(task, {}), **changes)
        parameters["data"]["splits"]["train"] = [8, 12]
        if task == "navier_stokes2d":
            parameters["task"]["final_time"] = 0.4
        (tmp_path / "params").mkdir(exist_ok=True)
        (tmp_path / "params/base.yaml").write_text(yaml.safe_dump(parameters))
        monkeypatch.chdir(tmp_path)
        return execute(stage.NAME, stage.Params, stage.INPUTS, stage.run)

    return run


@pytest.mark.parametrize("task", list(TASKS))
def test_data_of_a_task(project, task):
    expected = TASKS[task]
    metrics = project(simulate, task)
    assert metrics["error_nrmse_max_over_frames"] < expected["error"]
    project(prepare_data, task)
    data = read_split(Path("artifacts/prepare_data/dataset.h5"), "train")
    assert tuple(data.fields.shape[1:]) == expected["fields"]
    assert (data.fields.flatten(3).std(-1) > 0).any()
    audit = json.loads(Path("artifacts/prepare_data/audit.json").read_text())
    changes = audit["splits"]["train"]["largest_change_of_conserved"]
    assert set(changes) == set(expected["conserved"])
    assert all(changes[name] < largest for name, largest in expected["conserved"].items()), changes
    assert audit["notes"] == []
    assert (audit["splits"]["train"]["largest_wrap_ratio"] is None) == (task == "darcy2d")


def test_a_wrong_speed_shows_in_the_audit_and_in_the_error(project, monkeypatch):
    """Planted: data of speed 0.5 called 0.6 do not conserve the energy of a wave of speed 0.6."""
    project(simulate, "wave1d")
    with h5py.File(OWN, "a") as file:
        file.attrs["speed"] = 0.6
    project(prepare_data, "wave1d")
    audit = json.loads(Path("artifacts/prepare_data/audit.json").read_text())
    assert audit["splits"]["train"]["largest_change_of_conserved"]["energy"] > 0.1
    assert "speed = 0.6, task.coefficients.speed is 0.5" in " ".join(audit["notes"])


def test_too_few_steps_are_refused_by_the_measured_error(project):
    with pytest.raises(DataError, match=r"Raise simulate.refinement or simulate.substeps"):
        project(simulate, "navier_stokes2d", refinement=1, max_error=1e-7)
    with pytest.raises(ParameterError, match=r"use substeps >="):
        project(simulate, "navier_stokes2d", substeps=1, refinement=2, frames=2)


def test_a_file_of_another_task_is_refused(project):
    project(simulate, "wave1d")
    with pytest.raises(DataError, match=r"'wave'.*task.equation is 'burgers'|fields u, v"):
        project(prepare_data, "burgers1d")


def test_batches_do_not_change_the_data(project):
    stored = []
    for size in (12, 5):
        project(simulate, "navier_stokes2d", batch_size=size, frames=3, substeps=12, refinement=1, max_error=0.1)
        with h5py.File(OWN) as file:
            stored.append(np.stack([file[name]["data"][:] for name in sorted(file)]))
    assert np.allclose(*stored, rtol=0, atol=2e-6)  # float32 rounding of values up to 15
