"""The stages `simulate` and `prepare_data`, from a parameter file to the files of the next stage."""

import errno
import json
import shutil
from collections import namedtuple

import h5py
import numpy as np
import pytest
import torch
import yaml
from flat_files import fields, write_flat
from standin import ROOT
from typer.testing import CliRunner

from ups.cli.data import app as commands
from ups.data.cole_hopf import cole_hopf
from ups.data.dataset import DatasetWriter, read_metadata, read_split
from ups.data.initial_conditions import cell_centres, draw
from ups.data.simulation import relative_error
from ups.data.write_errors import plain_write_errors
from ups.errors import ArtifactError, DataError, ParameterError
from ups.stages import prepare_data, simulate
from ups.stages.runner import execute

OWN = "artifacts/simulate/data.h5"


def parameters(**changes):
    base = {
        "task": {
            "name": "burgers1d",
            "equation": "burgers",
            "coefficients": {"viscosity": 0.02},
            "domain_extent": 1.0,
            "final_time": 1.0,
        },
        "data": {
            "path": OWN,
            "space_stride": 1,
            "time_stride": 1,
            "splits": {"test": [0, 3], "validation": [3, 5], "train": [5, None]},
        },
        "simulate": {
            "seed": 42,
            "samples": 12,
            "points": 64,
            "frames": 6,
            "method": "exact",
            "nodes": 512,
            "refinement": 8,
            "substeps": 8,
            "courant": 0.8,
            "batch_size": 5,
            "check_samples": 3,
            "max_error": 3e-4,
        },
        "prepare_data": {"min_distance": 1e-3},
    }
    for key, value in changes.items():
        *path, last = key.split("__")
        section = base
        for part in path:
            section = section[part]
        section[last] = value
    return base


ADVECTION = {
    "name": "advection1d",
    "equation": "advection",
    "coefficients": {"velocity": 0.5},
    "domain_extent": 1.0,
    "final_time": 1.0,
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(stage, **changes):
        (tmp_path / "params").mkdir(exist_ok=True)
        (tmp_path / "params" / "base.yaml").write_text(yaml.safe_dump(parameters(**changes)))
        return execute(stage.NAME, stage.Params, stage.INPUTS, stage.run)

    return run


def test_simulated_data_are_exact_point_values(project):
    metrics = project(simulate)
    # float32 rounding, 6e-8, and the kinks at 512 nodes, which fall with the square of their number.
    assert metrics["error_nrmse_max_over_frames"] < 2e-5
    with h5py.File(OWN) as file:
        tensor, attributes = file["tensor"][:], dict(file.attrs)
        assert file["tensor"].chunks is None
        assert np.array_equal(file["x-coordinate"][:], (np.arange(64) + 0.5) / 64)
        assert np.allclose(file["t-coordinate"][:], np.linspace(0, 1, 6))
    assert tensor.shape == (12, 6, 64)
    assert tensor.dtype == np.float32
    assert attributes["Nu"] == 0.02
    assert attributes["values"] == "point values at cell centres"
    exact = cole_hopf(draw(42, 0, 12), cell_centres(64), torch.linspace(0, 1, 6, dtype=torch.float64), 0.02)
    assert relative_error(torch.from_numpy(tensor), exact).max() < 2e-5


@pytest.mark.parametrize("method", ["exact", "finite_volume"])
def test_the_batch_size_does_not_change_the_data(project, method):
    stored = []
    for batch_size in (12, 1, 5):
        changes = {"simulate__batch_size": batch_size, "simulate__method": method, "simulate__max_error": 1.0}
        project(simulate, **changes, simulate__refinement=1, task__final_time=0.3)
        with h5py.File(OWN) as file:
            stored.append(file["tensor"][:])
    # A product of matrices may round differently in another shape: the last bit of float32.
    assert np.allclose(stored[0], stored[1], rtol=0, atol=3e-7)
    assert np.allclose(stored[0], stored[2], rtol=0, atol=3e-7)


def test_finite_volumes_are_measured_and_refused_when_too_coarse(project):
    changes = {"simulate__method": "finite_volume", "task__final_time": 0.2, "simulate__frames": 3}
    metrics = project(simulate, **changes, simulate__refinement=4, task__coefficients={"viscosity": 0.05})
    assert 1e-7 < metrics["error_nrmse_max_over_frames"] < 3e-4
    before = simulate.Path(OWN).read_bytes()
    with pytest.raises(DataError, match=r"Raise simulate.refinement"):
        project(simulate, **changes, simulate__refinement=1)
    assert simulate.Path(OWN).read_bytes() == before


def test_impossible_simulations_are_parameter_errors(project):
    with pytest.raises(ParameterError, match="viscosity"):
        project(simulate, task__coefficients={"viscosity": 0.0})
    with pytest.raises(ParameterError, match="use nodes >="):
        project(simulate, simulate__nodes=8)
    with pytest.raises(ParameterError, match="finite_volume"):
        project(simulate, task=ADVECTION, simulate__method="finite_volume")


def test_nothing_is_simulated_for_another_file(project):
    metrics = project(simulate, data__path="data/other.h5")
    assert metrics["status"] == "skipped"
    assert "data/other.h5" in metrics["reason"]
    assert not (simulate.ARTIFACTS / "simulate" / "data.h5").exists()


def test_prepared_data_equal_the_source(project):
    project(simulate)
    metrics = project(prepare_data, data__space_stride=2, data__time_stride=5)
    path = prepare_data.Path("artifacts/prepare_data/dataset.h5")
    with h5py.File(OWN) as file:
        tensor = file["tensor"][:]
    for name, rows in {"test": range(3), "validation": range(3, 5), "train": range(5, 12)}.items():
        part = read_split(path, name)
        assert np.array_equal(part.fields[:, :, 0].numpy(), tensor[rows.start : rows.stop, ::5, ::2])
        assert part.index.tolist() == list(rows)
        assert part.coefficients.tolist() == [[np.float32(0.02)]] * len(rows)
    metadata = read_metadata(path)
    train = tensor[5:, ::5, ::2].astype(np.float64)
    assert metadata.normalization.mean[0] == pytest.approx(train.mean(), rel=1e-12)
    assert metadata.normalization.std[0] == pytest.approx(train.std(), rel=1e-12)
    assert (metadata.dt, metadata.grid.points, metadata.grid.extent) == (1.0, (32,), (1.0,))
    assert np.allclose(metadata.grid.coordinates().numpy(), (np.arange(0, 64, 2) + 0.5) / 64, atol=1e-15)
    assert metrics["trajectories"] == {"train": 7, "validation": 2, "test": 3}
    audit = json.loads((path.parent / "audit.json").read_text())
    assert audit["notes"] == []
    assert audit["splits"]["train"]["samples"] == [5, 12]
    with h5py.File(path) as file:
        assert file["train/fields"].chunks is None


def test_a_file_as_pdebench_writes_it(project, capsys):
    """One more time than frames, float32 coordinates, one attribute; the file's coefficient wins over the task's."""
    write_flat(simulate.Path("data/1D_Advection_Sols_beta0.7.hdf5"), fields(12, 6, 64), {"beta": 0.7})
    path = "data/1D_Advection_Sols_beta0.7.hdf5"
    project(prepare_data, data__path=path, task=ADVECTION)
    part = read_split(prepare_data.Path("artifacts/prepare_data/dataset.h5"), "test")
    assert part.coefficients.tolist() == [[np.float32(0.7)]] * 3
    assert (part.metadata.equation, part.metadata.coefficients) == ("advection", ("velocity",))
    assert part.metadata.dt == pytest.approx(0.2, abs=1e-9)
    printed = capsys.readouterr().err
    assert "velocity = 0.7, task.coefficients.velocity is 0.5" in printed
    assert "another MD5" in printed


def test_a_file_that_does_not_say_what_it_holds(project, capsys):
    write_flat(simulate.Path("data/a.h5"), fields(12, 6, 64), {})
    project(prepare_data, data__path="data/a.h5")
    part = read_split(prepare_data.Path("artifacts/prepare_data/dataset.h5"), "test")
    assert part.metadata.equation == "burgers"
    assert part.coefficients[0, 0] == np.float32(0.02)
    assert "does not say which equation" in capsys.readouterr().err


def test_what_prepare_data_refuses(project):
    def refuses(error, match, tensor, attributes=None, **changes):
        write_flat(simulate.Path("data/a.h5"), tensor, {"Nu": 0.02} if attributes is None else attributes)
        with pytest.raises(error, match=match):
            project(prepare_data, data__path="data/a.h5", **changes)
        assert not prepare_data.Path("artifacts/prepare_data").exists()

    good = fields(12, 6, 64)
    copied = good.copy()
    copied[8, 0] = copied[1, 0] * np.float32(1.0001)
    broken = good.copy()
    broken[6, 2, 3] = np.nan
    still = np.ones_like(good) * (2 + np.arange(12, dtype=np.float32))[:, None, None]
    still[5:] = 1
    refuses(DataError, "'advection'.*task.equation is 'burgers'", good, {"beta": 0.5})
    refuses(DataError, "almost the same field", copied)
    refuses(DataError, "sample 6, frame 2, point 3", broken)
    refuses(DataError, "more than the 4 trajectories", good[:4])
    refuses(DataError, "constant over the training split", still, prepare_data__min_distance=1e-6)
    with pytest.raises(ArtifactError, match=r"data/none.h5 does not exist"):
        project(prepare_data, data__path="data/none.h5")


@pytest.mark.parametrize("stage", [simulate, prepare_data])
def test_a_full_disk(project, tmp_path, monkeypatch, stage):
    project(simulate)
    project(prepare_data)
    before = {path: path.read_bytes() for path in (tmp_path / "artifacts").rglob("*") if path.is_file()}
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("ups.data.write_errors.shutil.disk_usage", lambda _: usage(10, 10, 1000))
    with pytest.raises(OSError, match="No space left") as caught:
        project(stage)
    assert caught.value.errno == errno.ENOSPC
    assert f".{stage.NAME}." in caught.value.filename
    assert {path: path.read_bytes() for path in (tmp_path / "artifacts").rglob("*") if path.is_file()} == before


def test_failed_writes_are_ordinary_errors():
    message = (
        "Can't write data (file write failed: time = Sat\n, errno = 28, error message = 'No space left on device')"
    )
    with pytest.raises(OSError, match="No space left") as caught, plain_write_errors(simulate.Path("a/b.h5")):
        raise OSError(message)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "a/b.h5")
    with pytest.raises(OSError, match="something else"), plain_write_errors(simulate.Path("a/b.h5")):
        raise OSError("something else")


def test_an_unfinished_dataset_has_no_name(tmp_path):
    def write(rows, then):
        with DatasetWriter(tmp_path / "dataset.h5") as writer:
            writer.begin_split("train", range(2), 3, 1, (8,))
            writer.append(np.zeros((rows, 3, 1, 8), np.float32), np.zeros((rows, 1), np.float32))
            then(writer)

    def interrupt(writer):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(2, interrupt)
    with pytest.raises(ValueError, match="declared with 2 trajectories, 1 were written"):
        write(1, lambda writer: writer.begin_split("test", range(1), 3, 1, (8,)))
    with pytest.raises(ValueError, match="finish"):
        write(2, lambda writer: None)
    assert list(tmp_path.iterdir()) == []


def test_a_data_file_of_ones_own_making(tmp_path, monkeypatch):
    """`ups data simulate` makes any task's data at any place; if they are too far off, what is there stays."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)

    def command(output: str, *options: str):
        asked = ["simulate", "-o", output, "--samples", "3", *options]
        return CliRunner().invoke(commands, asked, catch_exceptions=False)

    assert "3 trajectories of burgers1d (exact)" in command("own.h5", "--task", "burgers1d", "--seed", "9").output
    with h5py.File("own.h5") as file:
        tensor = torch.from_numpy(file["tensor"][:])
        times = torch.linspace(0, 2, 41, dtype=torch.float64)
        exact = cole_hopf(draw(9, 0, 3), cell_centres(256), times, 0.01)
        assert file.attrs["made_by"] == "ups data simulate"
    assert relative_error(tensor, exact).max() < 2e-5
    before = (tmp_path / "own.h5").read_bytes()
    with pytest.raises(DataError, match=r"Raise simulate.refinement"):
        command("own.h5", "--task", "burgers1d-nu1e-3", "--method", "finite_volume", "--refinement", "1")
    assert (tmp_path / "own.h5").read_bytes() == before
    with pytest.raises(ParameterError, match="method"):
        command("own.h5", "--method", "magic")
    with pytest.raises(DataError, match="make it first"):
        command("none/own.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.h5", "params"]
