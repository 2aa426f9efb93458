"""`ups data inspect` and `ups data audit`: every planted property is found, every layout is told from the others."""

import json
import shutil
from math import pi

import h5py
import numpy as np
import pytest
import yaml
from flat_files import fields, write_flat
from small_surrogate import METADATA
from standin import ROOT
from typer.testing import CliRunner

from ups.cli.data import app
from ups.data.dataset import DatasetWriter
from ups.inspection import views
from ups.inspection.layouts import Kind, recognise
from ups.inspection.measurements import chosen, shares
from ups.inspection.report import inspect, text
from ups.inspection.split_audit import audit
from ups.parameters.files import read_yaml, validate_section
from ups.parameters.schema import Parameters

POINTS, FRAMES = 64, 5


def waves(samples: int = 6) -> np.ndarray:
    """u = 0.25 + 2^-t (sin 2 pi x + sin 2 pi 16 x + i/8 cos 2 pi 5 x): every figure is known by hand."""
    x = (np.arange(POINTS) + 0.5) / POINTS
    decay = 0.5 ** np.arange(FRAMES)
    shape = np.sin(2 * pi * x) + np.sin(2 * pi * 16 * x)
    own = np.arange(samples)[:, None] / 8 * np.cos(2 * pi * 5 * x)
    return (0.25 + decay[None, :, None] * (shape + own)[:, None]).astype(np.float32)


def test_figures_are_those_of_the_formula(tmp_path):
    path = write_flat(tmp_path / "waves.h5", np.repeat(waves(1), 3, axis=0), {"Nu": 0.01})
    made = inspect(path, 0)
    found = made.found
    assert made.usable
    assert found.channels["u"]["mean"] == pytest.approx(0.25, abs=1e-6)
    assert found.mean_drift["u"]["largest"] < 1e-6
    # mean of u^2/2: 1/32 from the mean, 1/2 from two sines at t = 0, 1/2 / 256 of that at the end
    assert found.energy["median"] == pytest.approx((1 / 32 + 0.5 / 256) / (1 / 32 + 0.5), rel=1e-4)
    assert found.energy["largest_growth"] < 0
    for frame in ("first", "last"):
        assert found.spectrum[frame] == pytest.approx({"low": 0.5, "mid": 0.0, "high": 0.5}, abs=1e-4)
    assert (made.axes["x"]["step"], made.axes["t"]["step"]) == pytest.approx((1 / POINTS, 0.25), rel=1e-5)
    assert made.axes["t"]["stored"] == FRAMES + 1
    assert f"nu/pi = {0.01 / pi:.4g}" in "\n".join(text(made))


def test_what_is_planted_is_found(tmp_path):
    tensor = waves()
    tensor[2, 3, 7], tensor[2, 0, 0], tensor[5, 1, 1] = np.nan, np.nan, np.inf
    tensor[4, 0] = tensor[1, 0]
    tensor[3, -1] += 0.5
    made = inspect(write_flat(tmp_path / "planted.h5", tensor, {"Nu": 0.01}), 0)
    found = made.found
    assert (found.nan, found.inf, found.damaged, found.damaged_numbers) == (2, 1, 2, [2, 5])
    assert (found.duplicates, found.duplicate_pairs) == (1, [(4, 1)])
    assert found.mean_drift["u"]["largest"] == pytest.approx(0.5, rel=1e-5)
    assert found.mean_drift["u"]["trajectory"] == 3
    assert not made.usable
    assert "2 of 6 trajectories" in made.problems[0]


def test_growing_energy_is_reported(tmp_path):
    tensor = waves(2)
    tensor[1, 3] = tensor[1, 0]
    made = inspect(write_flat(tmp_path / "growing.h5", tensor, {"Nu": 0.01}), 0)
    assert made.found.energy["largest_growth"] > 0.5


def test_no_more_is_read_at_a_time_than_allowed(tmp_path, monkeypatch):
    path = write_flat(tmp_path / "waves.h5", waves(), {"Nu": 0.01})
    whole = inspect(path, 0)
    sizes = []
    read = views._rows

    def noting(data, numbers, frames):
        block = read(data, numbers, frames)
        sizes.append(block.nbytes)
        return block

    monkeypatch.setattr(views, "_rows", noting)
    monkeypatch.setattr(views, "_BYTES", 2 * 4 * POINTS * FRAMES)
    parts = inspect(path, 0)
    assert max(sizes) <= 2 * 4 * POINTS * FRAMES
    assert parts.found.energy == pytest.approx(whole.found.energy)
    assert parts.found.spectrum["last"] == pytest.approx(whole.found.spectrum["last"])
    assert parts.found.channels["u"] == pytest.approx(whole.found.channels["u"])
    assert parts.found.duplicates == whole.found.duplicates == 0


def test_some_trajectories_stand_for_all_and_it_is_said(tmp_path):
    assert chosen(10, 4) == [0, 3, 6, 9]
    assert chosen(3, 4) == chosen(3, 0) == [0, 1, 2]
    tensor = waves()
    tensor[1] *= 100  # between those looked at
    made = inspect(write_flat(tmp_path / "waves.h5", tensor, {"Nu": 0.01}), 2)
    assert made.found.looked_at == 2
    assert made.found.channels["u"]["maximum"] < 10
    assert "2 evenly spaced of 6 trajectories" in "\n".join(text(made))


def test_shares_leave_the_mean_out_and_add_up():
    spectrum = np.zeros(33)
    spectrum[[0, 3, 4, 11, 12, 32]] = [100, 1, 1, 1, 1, 1]
    assert shares(spectrum) == pytest.approx({"low": 0.2, "mid": 0.4, "high": 0.4})
    assert shares(np.zeros(33)) == {"low": 0, "mid": 0, "high": 0}


@pytest.mark.parametrize(
    ("samples", "points", "frames", "strides"), [(100, 1024, 201, (4, 5)), (9, 64, 41, (1, 1)), (12, 96, 42, (1, 2))]
)
def test_the_suggested_parameters_are_valid_and_pass(tmp_path, samples, points, frames, strides):
    tensor = fields(samples, 2, points)
    path = tmp_path / "own.hdf5"
    times = np.linspace(0, 1, frames)
    with h5py.File(path, "w") as file:  # one frame is written, the others are zero: quick
        file.create_dataset("tensor", shape=(samples, frames, points), dtype=np.float32)[:, 0] = tensor[:, 0]
        file["x-coordinate"], file["t-coordinate"] = (np.arange(points) + 0.5) / points, times
        file.attrs["beta"] = 0.5
    made = inspect(path, 1)
    shown = yaml.safe_load("\n".join(text(made)).split("Then: ups data audit; make repro\n")[1])
    assert shown == made.parameters
    assert (shown["data"]["space_stride"], shown["data"]["time_stride"]) == strides
    parameters = validate_section(Parameters, read_yaml(ROOT / "params/base.yaml") | shown)
    assert (parameters.task.name, parameters.task.coefficients) == ("advection1d", {"velocity": 0.5})
    report = audit(path, parameters.task, parameters.data, parameters.prepare_data)
    assert report.refused == ""


def test_what_the_reader_refuses_is_a_problem(tmp_path):
    x = np.linspace(-1, 1, 64, endpoint=False, dtype=np.float32) + np.float32(1 / 64)
    made = inspect(write_flat(tmp_path / "old.h5", waves(), {"Nu": 0.01}, x=x), 0)
    assert not made.usable
    assert "first generation" in made.problems[0]
    uneven = np.array([0, 0.1, 0.2, 0.5, 0.6])
    made = inspect(write_flat(tmp_path / "uneven.h5", waves(), {"Nu": 0.01}, t=uneven), 0)
    assert made.axes["t"]["step"] is None
    assert "not equidistant" in "\n".join(text(made))


def darcy(file):
    file["nu"], file["tensor"] = np.ones((3, 8, 8), np.float32), np.ones((3, 1, 8, 8), np.float32)
    file["x-coordinate"] = file["y-coordinate"] = np.arange(8.0)


def flow(file):
    for name in ("density", "pressure", "Vx"):
        file[name] = np.random.default_rng(0).random((3, 4, 16), dtype=np.float32)
    file["x-coordinate"], file["t-coordinate"] = np.arange(16.0), np.arange(5.0)


def grouped(file):
    for number in range(3):
        file[f"{number:04d}/data"] = np.full((4, 16, 2), number, np.float32)
        file[f"{number:04d}/grid/x"], file[f"{number:04d}/grid/t"] = np.arange(16.0), np.arange(4.0)


def no_axes(file):
    file["tensor"] = np.ones((3, 4, 16), np.float32)


def unknown(file):
    file["run/u"] = np.ones((3, 16), np.float32)


@pytest.mark.parametrize(
    ("fill", "kind", "words"),
    [
        (darcy, Kind.DARCY, "steady"),
        (flow, Kind.FLOW, "Navier-Stokes"),
        (grouped, Kind.GROUPED, "group"),
        (no_axes, Kind.FOREIGN, "x-coordinate and t-coordinate missing"),
        (unknown, Kind.FOREIGN, "`run/u` (3, 16)"),
    ],
)
def test_other_layouts_are_recognised_and_not_usable(tmp_path, fill, kind, words):
    with h5py.File(tmp_path / "file.h5", "w") as file:
        fill(file)
    made = inspect(tmp_path / "file.h5", 0)
    assert made.what.kind is kind
    assert words in made.what.description
    assert not made.usable
    assert not made.parameters
    if kind is not Kind.FOREIGN:
        assert made.layout["trajectories"] == 3
        assert set(made.found.channels) == set(made.layout["channels"])
    json.dumps(made.as_json(), allow_nan=False)
    assert text(made)


def test_channels_of_grouped_files_keep_their_values(tmp_path):
    with h5py.File(tmp_path / "file.h5", "w") as file:
        grouped(file)
        file["0002/data"][..., 1] = 7
    found = inspect(tmp_path / "file.h5", 0).found
    assert (found.channels["channel 0"]["maximum"], found.channels["channel 1"]["maximum"]) == (2, 7)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html>", "error page"),
        (b"\x93NUMPY\x01", "NumPy"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"PK\x03\x04", "zip"),
        (b"\x80\x04", "pickle"),
        (b"nothing", "No HDF5"),
        (b"", "0 bytes"),
    ],
)
def test_what_is_no_hdf5_is_named(tmp_path, content, words):
    path = tmp_path / "file.hdf5"
    path.write_bytes(content)
    found = recognise(path)
    assert found.kind is Kind.FOREIGN
    assert words in found.description
    assert found.advice


def test_a_truncated_file_is_named(tmp_path):
    path = write_flat(tmp_path / "cut.hdf5", waves(), {"Nu": 0.01})
    path.write_bytes(path.read_bytes()[:5000])
    assert "cut off" in recognise(path).description


def test_the_projects_own_files_are_usable(tmp_path):
    path = tmp_path / "dataset.h5"
    with DatasetWriter(path) as writer:
        for name, first in (("train", 0), ("validation", 3), ("test", 4)):
            count = 3 if name == "train" else 1
            writer.begin_split(name, range(first, first + count), 9, 1, (32,))
            block = np.arange(first, first + count, dtype=np.float32)[:, None, None, None]
            writer.append(np.broadcast_to(block, (count, 9, 1, 32)) + 0, np.full((count, 1), 0.01, np.float32))
        writer.finish(METADATA)
    made = inspect(path, 0)
    assert made.usable
    assert (made.layout["trajectories"], made.found.channels["u"]["maximum"]) == (5, 4)
    assert made.found.duplicates == 0
    (tmp_path / "surrogate.json").write_text("{}")
    assert recognise(tmp_path).kind is Kind.SURROGATE
    assert not recognise(tmp_path).usable


def test_the_command_draws_and_speaks_json(tmp_path, monkeypatch):
    path = write_flat(tmp_path / "waves.h5", waves(), {"Nu": 0.01})
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["inspect", str(path), "--plot", "waves.png", "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert (shown["kind"], shown["layout"]["trajectories"], shown["usable"]) == ("pdebench-flat", 6, True)
    assert (tmp_path / "waves.png").read_bytes().startswith(b"\x89PNG")


def test_the_audit_finds_a_copy_in_another_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "params", tmp_path / "params")
    sections = {"test": [0, 4], "validation": [4, 8], "train": [8, None]}
    base = (tmp_path / "params/base.yaml").read_text()
    base = base.replace("test: [0, 128]", f"test: {sections['test']}").replace("[128, 192]", "[4, 8]")
    base = base.replace("train: [192, 704]", "train: [8, null]")
    (tmp_path / "params/base.yaml").write_text(base)
    tensor = fields(20, FRAMES, POINTS)
    write_flat(tmp_path / "own.h5", tensor, {"Nu": 0.01})
    clean = CliRunner().invoke(app, ["audit", "own.h5"])
    assert (clean.exit_code, "PASSED" in clean.stdout) == (0, True), clean.output
    tensor[13, 0] = tensor[2, 0] * np.float32(1 + 1e-5)
    write_flat(tmp_path / "own.h5", tensor, {"Nu": 0.01})
    result = CliRunner().invoke(app, ["audit", "own.h5", "--json"])
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert not report["passed"]
    assert "sample 13 (train) and sample 2 (test)" in report["refused"]
    assert set(report["splits"]) == {"train", "validation", "test"}
