"""`ups predict`: the same numbers as `evaluate`, in a file that says where they came from."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from flat_files import fields, write_flat
from small_surrogate import write_models
from standin import ROOT, ups

from ups import load
from ups.cli.predict import _samples, coefficient_of
from ups.cli.predict import predict as command
from ups.data.readers import open_source
from ups.errors import DataError, InputError, ParameterError
from ups.evaluation import finite_volume
from ups.evaluation.metrics import nrmse
from ups.library.prediction import Request, predict
from ups.models.weights import save_skipped
from ups.parameters.shared import Data, Task
from ups.stages import evaluate, prepare_data

TEST = (2, 7)  # samples of the file; the other splits are 0, 1 and 7 .. 11
PROTOCOLS = ["one_step", "rollout_ic", "pdebench"]


def source_file(path: Path, **changes) -> Path:
    """Write 12 trajectories on 64 points and 17 frames every .025: twice the surrogate's points, half its step."""
    arguments = {"attributes": {"Nu": 0.01}, "t": np.arange(18, dtype=np.float32) * np.float32(0.025)}
    return write_flat(path, fields(12, 17, 64), **{**arguments, **changes})


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Run the real stages: a folder with `source.h5`, `evaluate/surrogate`, `evaluate/metrics.json`."""
    folder = tmp_path_factory.mktemp("predict")
    source = source_file(folder / "source.h5")
    parts = write_models(folder)
    one_step = {"beats_zero_correction": True, "explained_residual": 0.5}
    (parts["corrector"] / "metrics.json").write_text(json.dumps(one_step))
    for name in ("prepared", "fno", "evaluate"):
        (folder / name).mkdir()
    save_skipped(folder / "fno", "0 epochs")
    splits = {"test": TEST, "validation": (0, 2), "train": (7, None)}
    task = {"name": "t", "equation": "burgers", "coefficients": {"viscosity": 0.01}, "domain_extent": 1.0}
    params = prepare_data.Params(
        task=Task(**task, final_time=0.4),
        data=Data(path=str(source), space_stride=2, time_stride=2, splits=splits),
        prepare_data={"min_distance": 1e-3},
    )
    prepare_data.run(params, {"source": source}, folder / "prepared")
    settings = {"protocols": PROTOCOLS, "horizons": [1], "batch_size": 3, "correlation_threshold": 0.8}
    settings |= {"finite_volume": {"cells": [16], "max_seconds": 0.5, "compile": False}, "panel_trajectories": 1}
    settings |= {"ensemble": {"members": 2, "seed": 0}}
    inputs = {
        name: folder / name / "model.safetensors" for name in ("codec", "operator", "corrector", "student", "fno")
    }
    inputs |= {"data": folder / "prepared/dataset.h5", "corrector_metrics": folder / "corrector/metrics.json"}
    with pytest.MonkeyPatch.context() as patch:  # figures and solvers take seconds and change no forecast
        patch.setattr(evaluate, "draw_figures", lambda *_: None)
        patch.setattr(finite_volume, "applicable", lambda _: False)
        metrics = evaluate.run(evaluate.Params(evaluate=settings), inputs, folder / "evaluate")
    (folder / "evaluate/metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture(scope="module")
def surrogate(project):
    return load(project / "evaluate/surrogate")


def test_the_bundle_knows_what_it_was_trained_for(surrogate):
    training = surrogate.metadata.training
    assert (training.coefficients, training.trajectories, training.frames) == (((0.01, 0.01),), 5, 9)
    with pytest.raises(InputError, match=r"viscosity = 0\.02, but .* trained for viscosity 0\.01"):
        surrogate.state(np.zeros(32), viscosity=0.02)


def test_its_errors_are_those_of_evaluate(project, surrogate, tmp_path):
    metrics = json.loads((project / "evaluate/metrics.json").read_text())
    assert metrics["assembly"]["assembled"] in surrogate.modes
    for mode in surrogate.modes:
        made = predict(surrogate, project / "source.h5", tmp_path / "out.h5", Request(samples=TEST, mode=mode))
        assert (made.strides, made.trajectories, made.diverged) == ((2, 2), 5, 0)
        assert list(made.scores) == PROTOCOLS
        for protocol, value in made.scores.items():
            expected = metrics[mode][protocol]["nrmse"]
            assert value["mean"] == pytest.approx(expected["mean"], rel=1e-5)
            assert value["stderr"] == pytest.approx(expected["stderr"], rel=1e-4)


def test_the_file_holds_the_forecasts_that_were_scored(project, surrogate, tmp_path):
    made = predict(surrogate, project / "source.h5", tmp_path / "out.h5", Request(samples=TEST, batch_size=2))
    truth = fields(12, 17, 64)[TEST[0] : TEST[1], 2::2, ::2]
    with h5py.File(made.path) as file:
        found = file["tensor"][:]
        np.testing.assert_allclose(file["x-coordinate"][:], (np.arange(32) * 2 + 0.5) / 64)
        np.testing.assert_allclose(file["t-coordinate"][:], 0.05 * np.arange(1, 9))
        notes = dict(file.attrs)
    assert found.shape == truth.shape
    error = nrmse(torch.from_numpy(found)[:, :, None], torch.from_numpy(truth.copy())[:, :, None]).mean()
    assert float(error) == pytest.approx(made.scores["rollout_ic"]["mean"], rel=1e-5)
    assert notes["Nu"] == 0.01
    assert notes["surrogate_checksum"] == surrogate.checksum
    assert (notes["mode"], notes["given_frames"], notes["first_sample"]) == ("assembled", 1, 2)
    assert (notes["input_space_stride"], notes["input_time_stride"]) == (2, 2)
    with open_source(made.path) as again:  # and it is a file that the project itself reads
        assert (again.num_samples, again.num_frames, again.equation) == (5, 8, "burgers")
        assert again.dt == pytest.approx(0.05)
        # A forecast of the forecast goes on where it ended.
    longer = predict(surrogate, made.path, tmp_path / "more.h5", Request(given=8, steps=3, scores=False))
    with h5py.File(longer.path) as file:
        np.testing.assert_allclose(file["t-coordinate"][:], 0.05 * np.arange(9, 12))
        assert longer.scores == {}


@pytest.mark.parametrize(("given", "steps", "frames"), [(4, None, 5), (4, 20, 20), (9, 2, 2)])
def test_given_frames_and_steps(project, surrogate, tmp_path, given, steps, frames):
    request = Request(given=given, steps=steps, samples=(3, 5), scores=False)
    made = predict(surrogate, project / "source.h5", tmp_path / "out.h5", request)
    start = fields(12, 17, 64)[3:5, 2 * (given - 1), ::2]
    expected = np.stack([s.u for s in surrogate.rollout(surrogate.state(start[:, None], viscosity=0.01), frames)], 1)
    with h5py.File(made.path) as file:
        np.testing.assert_allclose(file["tensor"][:], expected[:, :, 0], rtol=1e-5, atol=1e-6)
        assert file["t-coordinate"][0] == pytest.approx(0.05 * given)


@pytest.mark.parametrize(
    ("changes", "request_", "message"),
    [
        ({"attributes": {"beta": 0.5}}, {}, "holds the equation 'advection'; .* trained for 'burgers'"),
        ({"attributes": {"Nu": 0.5}}, {}, r"viscosity = 0\.5, but .* trained for viscosity 0\.01"),
        ({"attributes": {}}, {}, "does not say its viscosity. Say it: --coefficient viscosity=NUMBER"),
        ({}, {"coefficients": {"viscosity": 0.02}}, r"made with viscosity = 0\.01; leave viscosity=0\.02 out"),
        ({}, {"coefficients": {"nu": 0.02}}, "no coefficient 'nu'"),
        ({}, {"space_stride": 1}, "64 points, one in 1 leaves 64; .* trained on 32"),
        ({}, {"time_stride": 1}, r"one frame in 1 is one every 0\.025; .* time step 0\.05"),
        ({"t": np.arange(18) * 0.04}, {}, r"a frame every 0\.04.* time step 0\.05"),
        ({"x": (np.arange(64) + 0.5) / 32}, {}, "domain of length 2, .* trained on 1"),
        ({}, {"samples": (3, 20)}, r"The samples \[3, 20\) .* has the samples 0 to 11"),
        ({}, {"given": 10}, "given = 10, but .* has 9 frames"),
        ({}, {"given": 9}, "All 9 frames .* say with --steps"),
        ({}, {"steps": 0}, "steps = 0"),
        ({}, {"mode": "best"}, "mode = 'best'"),
    ],
)
def test_what_it_cannot_forecast_leaves_no_file(surrogate, tmp_path, changes, request_, message):
    source = source_file(tmp_path / "in.h5", **changes)
    with pytest.raises(InputError, match=message):
        predict(surrogate, source, tmp_path / "out.h5", Request(**request_))
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]


def test_a_file_that_breaks_off_in_the_middle_leaves_the_old_forecast(surrogate, tmp_path, monkeypatch):
    monkeypatch.setattr("ups.data.flat_reader.CHUNK_BYTES", 4 * 64 * 17 * 3)
    values = fields(12, 17, 64)
    values[10, 4, 6] = np.nan
    source = write_flat(tmp_path / "in.h5", values, {"Nu": 0.01}, t=np.arange(18) * 0.025)
    (tmp_path / "out.h5").write_text("the old one")
    with pytest.raises(DataError, match="sample 10, frame 4, point 6"):
        predict(surrogate, source, tmp_path / "out.h5", Request())
    assert (tmp_path / "out.h5").read_text() == "the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5", "out.h5"]


def test_a_large_file_is_read_in_chunks_and_says_the_same(project, surrogate, tmp_path, monkeypatch):
    whole = predict(surrogate, project / "source.h5", tmp_path / "whole.h5", Request())
    monkeypatch.setattr("ups.data.flat_reader.CHUNK_BYTES", 4 * 64 * 17 * 3)
    parts = predict(surrogate, project / "source.h5", tmp_path / "parts.h5", Request())
    with h5py.File(whole.path) as a, h5py.File(parts.path) as b:
        np.testing.assert_allclose(a["tensor"][:], b["tensor"][:], rtol=1e-5, atol=1e-6)
    for protocol in PROTOCOLS:
        assert parts.scores[protocol]["mean"] == pytest.approx(whole.scores[protocol]["mean"], rel=1e-5)


def test_the_input_is_not_overwritten(surrogate, tmp_path):
    source = source_file(tmp_path / "in.h5")
    with pytest.raises(InputError, match="is the input"):
        predict(surrogate, source, source, Request())
    with pytest.raises(InputError, match="does not exist; make it"):
        predict(surrogate, source, tmp_path / "no" / "out.h5", Request())


def test_the_command(project, tmp_path):
    arguments = ["predict", str(project / "source.h5"), "-o", "out.h5", "--samples", "2:7"]
    arguments += ["--model", str(project / "evaluate/surrogate")]
    result = ups(tmp_path, *arguments, OMP_NUM_THREADS="1")
    assert (result.returncode, result.stderr) == (0, "")
    metrics = json.loads((project / "evaluate/metrics.json").read_text())["assembled"]
    assert "out.h5: 5 trajectories, 8 frames of 32 points, viscosity = 0.01" in result.stdout
    printed = {
        line.split()[1]: float(line.split()[2]) for line in result.stdout.splitlines() if line.startswith("nRMSE")
    }
    assert printed == pytest.approx({name: metrics[name]["nrmse"]["mean"] for name in PROTOCOLS}, rel=1e-5)
    marked = [line.split()[1] for line in result.stdout.splitlines() if line.endswith("<- the written forecast")]
    assert marked == ["rollout_ic"]
    machine = json.loads(ups(tmp_path, *arguments, "--json", OMP_NUM_THREADS="1").stdout)
    assert (machine["path"], machine["trajectories"], machine["protocol"]) == ("out.h5", 5, "rollout_ic")
    assert machine["scores"]["pdebench"]["mean"] == pytest.approx(printed["pdebench"], rel=1e-5)
    failed = ups(tmp_path, *arguments[:-1], str(ROOT / "tests"), OMP_NUM_THREADS="1")
    assert failed.returncode == 1
    assert failed.stderr.startswith("ups: ")
    assert failed.stderr.count("\n") == 1


def test_one_thread_unless_told_otherwise(project, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    for threads in ({}, {"threads": 2}):
        command(project / "source.h5", tmp_path / "out.h5", str(project / "evaluate/surrogate"), **threads)
    assert asked == [1, 2]


@pytest.mark.parametrize(
    ("text", "range_"), [(":", (0, None)), ("0:128", (0, 128)), ("128:", (128, None)), (":9", (0, 9))]
)
def test_sample_ranges(text, range_):
    assert _samples(text) == range_


def test_options_that_cannot_be_read():
    for text in ("12", "a:b"):
        with pytest.raises(ParameterError, match="START:STOP"):
            _samples(text)
    assert coefficient_of("viscosity=1e-2") == ("viscosity", 0.01)
    with pytest.raises(ParameterError, match="NAME=NUMBER"):
        coefficient_of("viscosity")
