"""Files of The Well: what is read, what is refused and why, and the vorticity of a velocity."""

import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from flat_files import fields
from standin import ROOT
from typer.testing import CliRunner
from well_files import write_well

from ups.cli.data import app
from ups.data.navier_stokes import draw_flows, solve_navier_stokes
from ups.data.readers import open_source
from ups.errors import DataError
from ups.inspection.layouts import Kind
from ups.inspection.report import inspect, text
from ups.parameters.files import read_yaml, validate_section
from ups.parameters.selection import Selection
from ups.stages import prepare_data

X = (np.arange(32) + 0.5) / 32
T = np.linspace(0, 1, 9)


def burgers(path, scalars=None, **changes):
    u = fields(12, 9, 32)
    made = {"fields": {"u": u}, "space": {"x": X}, "times": T, **changes}
    return u, write_well(
        path, made["fields"], made["space"], made["times"], scalars or {"viscosity": 0.02}, name="line"
    )


def change(path, function):
    with h5py.File(path, "a") as file:
        function(file)


def test_what_is_read_is_what_is_stored(tmp_path, monkeypatch):
    u, path = burgers(tmp_path / "a.hdf5", {"viscosity": 0.02, "Reynolds": 50.0})
    monkeypatch.setattr("ups.data.well_reader.CHUNK_BYTES", 4 * 32 * 3 * 2)  # two trajectories of three frames
    with open_source(path, space_stride=2, time_stride=4) as source:
        chunks = list(source.chunks(1, 12))
        assert [len(chunk) for chunk in chunks] == [2, 2, 2, 2, 2, 1]
        assert (source.layout, source.equation, source.channels) == ("the-well", None, ("u",))
        assert source.coefficients == pytest.approx({"viscosity": 0.02, "Reynolds": 50.0})
        assert (source.num_samples, source.num_frames, source.grid.points) == (12, 3, (16,))
        assert source.grid.periodic == (True,)
        assert (source.dt, source.grid.extent) == (0.5, (1.0,))
        assert np.allclose(source.grid.coordinates().numpy(), X[::2])
    assert np.array_equal(np.concatenate(chunks)[:, :, 0], u[1:, ::4, ::2])


def test_two_fields_come_in_the_order_of_their_equation(tmp_path):
    u, v = np.zeros((2, 9, 32)), np.ones((2, 9, 32))
    write_well(tmp_path / "a.hdf5", {"v": v, "u": u}, {"x": X}, T, {"speed": 0.5})
    with open_source(tmp_path / "a.hdf5") as source:
        assert source.channels == ("u", "v")
        assert next(source.chunks(0, 2))[0, 0, :, 0].tolist() == [0, 1]


def test_prepare_data_takes_it_with_its_scalars_and_says_what_it_took(tmp_path, monkeypatch, capsys):
    _, path = burgers(tmp_path / "a.hdf5", {"viscosity": 0.02, "Reynolds": 50.0})
    raw = Selection("golden", preset="tiny").resolve()
    raw["data"] = {
        "path": str(path),
        "space_stride": 1,
        "time_stride": 1,
        "splits": {"test": [0, 3], "validation": [3, 6], "train": [6, None]},
    }
    params = validate_section(prepare_data.Params, {key: raw[key] for key in prepare_data.Params.model_fields})
    prepare_data.run(params, {"source": path}, tmp_path)
    audit = json.loads((tmp_path / "audit.json").read_text())
    assert audit["coefficients"] == pytest.approx({"viscosity": 0.02})
    assert audit["metadata"]["grid"]["periodic"] == [True]
    assert [split["samples"] for split in audit["splits"].values()] == [[6, 12], [3, 6], [0, 3]]
    said = capsys.readouterr().err
    assert "does not say which equation" in said
    assert "viscosity = 0.02, task.coefficients.viscosity is 0.01; the file's value is used" in said
    assert "also states Reynolds = 50, which are no coefficients of 'burgers'" in said


def test_what_is_refused_says_what_it_is_and_what_to_do(tmp_path):
    path = tmp_path / "a.hdf5"

    def refuses(match, spoil, *strides):
        burgers(path)
        change(path, spoil)
        with pytest.raises(DataError, match=match), open_source(path, *strides) as source:
            list(source.chunks(0, source.num_samples))

    def attribute(place, name, value):
        return lambda file: file[place].attrs.__setitem__(name, value)

    refuses(
        "dataset 'line'.*not periodic .x: wall.*shear_flow",
        attribute("boundary_conditions/x_periodic", "bc_type", "WALL"),
    )
    refuses("not periodic .x: not stated", lambda file: file.__delitem__("boundary_conditions/x_periodic"))
    refuses("spherical grid", lambda file: file.attrs.__setitem__("grid_type", "spherical"))
    refuses(r"scalar u \(constant\).*ups data import", attribute("t0_fields/u", "time_varying", False))
    refuses(r"scalar u \(constant\)", attribute("t0_fields/u", "dim_varying", [False]))
    refuses("time. differs between samples", attribute("dimensions/time", "sample_varying", True))
    refuses("does not name its axes", lambda file: file["dimensions"].attrs.__delitem__("spatial_dims"))
    refuses("states the equation 'heat'", lambda file: file.attrs.__setitem__("equation", "heat"))
    refuses("states 'wave'", lambda file: file.attrs.__setitem__("equation", "wave"))
    refuses("NaN or Inf in u, sample 4, frame 3", lambda file: file["t0_fields/u"].__setitem__((4, 3, 7), np.inf))
    refuses("not equidistant", lambda file: file["dimensions/x"].__setitem__(5, 0.18))
    refuses("must divide", lambda file: None, 3)
    refuses("leaves fewer than 2", lambda file: None, 1, 9)

    def several_values(file):
        del file["scalars/viscosity"]
        file["scalars/viscosity"] = np.arange(12.0)

    refuses("viscosity differs between trajectories", several_values)
    change(path, lambda file: file["t0_fields"].move("u", "density"))
    change(path, lambda file: file["t0_fields"].attrs.__setitem__("field_names", ["density"]))
    with pytest.raises(DataError, match=r"fields scalar density.*burgers has u.*--field CHANNEL=FIELD"):
        open_source(path)


def flow(path, shape=(32, 48), mean=0.0, samples=3):
    """A velocity of which the vorticity is known, on a plane of 1 x 1.5, with a tracer as shear_flow has."""
    x, y = ((np.arange(n) + 0.5) / n * length for n, length in zip(shape, (1.0, 1.5), strict=True))
    kx, ky = 2 * np.pi * 2, 2 * np.pi * 5 / 1.5
    amplitude = (1 + np.arange(samples))[:, None, None, None] * np.exp(-T)[:, None, None]
    phase = kx * x[:, None] + ky * y
    u, v = -ky * np.sin(phase) * amplitude + mean, kx * np.sin(phase) * amplitude
    vorticity = (kx**2 + ky**2) * np.cos(phase) * amplitude
    data = {"velocity": np.stack([u, v], -1), "tracer": np.ones_like(u) + phase}
    write_well(path, data, {"x": x, "y": y}, T, {"Reynolds": 1e4}, name="shear_flow")
    return vorticity


ARGUMENTS = ["--equation", "navier_stokes", "--field", "vorticity=curl:velocity", "--coefficient", "viscosity=1e-4"]


def test_the_vorticity_of_a_velocity_is_taken_over(tmp_path):
    vorticity = flow(tmp_path / "one.hdf5")
    flow(tmp_path / "two.hdf5", samples=2)
    with pytest.raises(DataError, match=r"shear_flow.*vector velocity.*curl:VELOCITY"):
        open_source(tmp_path / "one.hdf5")
    files = [str(tmp_path / name) for name in ("one.hdf5", "two.hdf5")]
    result = CliRunner().invoke(app, ["import", *files, "-o", str(tmp_path / "out.h5"), *ARGUMENTS])
    assert result.exit_code == 0, result.output
    assert "trajectories 3 to 4" in result.stdout
    assert "not taken over: Reynolds = 10000" in result.stdout
    with open_source(tmp_path / "out.h5") as source:
        made = np.concatenate(list(source.chunks(0, 5)))[:, :, 0]
        assert (source.equation, source.coefficients) == ("navier_stokes", {"viscosity": 1e-4})
        assert source.grid.extent == (1.0, 1.5)
    expected = np.concatenate([vorticity, vorticity[:2]])
    assert np.abs(made - expected).max() < 1e-5 * np.abs(expected).max()  # velocity and vorticity are float32


def test_what_a_vorticity_would_not_tell_is_refused(tmp_path):
    flow(tmp_path / "wind.hdf5", mean=5.0)
    result = CliRunner().invoke(
        app, ["import", str(tmp_path / "wind.hdf5"), "-o", str(tmp_path / "out.h5"), *ARGUMENTS]
    )
    assert isinstance(result.exception, DataError)
    assert "the velocity has the mean" in str(result.exception)
    flow(tmp_path / "swapped.hdf5")
    change(
        tmp_path / "swapped.hdf5",
        lambda f: f["t1_fields/velocity"].__setitem__(..., f["t1_fields/velocity"][...][..., ::-1]),
    )
    result = CliRunner().invoke(
        app, ["import", str(tmp_path / "swapped.hdf5"), "-o", str(tmp_path / "out.h5"), *ARGUMENTS]
    )
    assert "has a divergence" in str(result.exception)
    assert not list(tmp_path.glob("*out.h5*"))


def test_the_curl_agrees_with_the_projects_own_navier_stokes(tmp_path):
    """Vorticity -> velocity by its stream function -> file of The Well -> vorticity."""
    cells = (torch.arange(32, dtype=torch.float64) + 0.5) / 32
    w = solve_navier_stokes(
        draw_flows(0, 0, 2, 1.0)(cells, cells), 0.01, torch.tensor([0.0, 0.01, 0.02]), 1.0, 4
    ).numpy()
    k = 2 * np.pi * np.fft.fftfreq(32, 1 / 32)
    square = k[:, None] ** 2 + k**2
    stream = np.fft.fft2(w) / np.where(square > 0, square, 1)
    u, v = (np.fft.ifft2(part).real for part in (1j * k * stream, -1j * k[:, None] * stream))
    times = np.array([0.0, 0.01, 0.02])
    path = write_well(
        tmp_path / "a.hdf5", {"velocity": np.stack([u, v], -1)}, {"x": cells.numpy(), "y": cells.numpy()}, times
    )
    result = CliRunner().invoke(app, ["import", str(path), "-o", str(tmp_path / "out.h5"), *ARGUMENTS])
    assert result.exit_code == 0, result.output
    with open_source(tmp_path / "out.h5") as source:
        made = next(source.chunks(0, 2))[:, :, 0]
    assert np.abs(made - w).max() < 1e-5 * np.abs(w).max()


def test_inspect_knows_it(tmp_path):
    _, path = burgers(tmp_path / "a.hdf5")
    made = inspect(path, 0)
    shown = "\n".join(text(made))
    assert (made.what.kind, made.usable, made.problems) == (Kind.WELL, True, [])
    assert made.layout["trajectories"] == 12
    assert made.found.channels["u"]["maximum"] == pytest.approx(fields(12, 9, 32).max())
    assert "scalar u; boundaries x: periodic; cartesian grid" in shown
    assert "the numbers viscosity = 0.02" in shown
    assert set(made.parameters) == {"data"}
    change(path, lambda file: file.attrs.__setitem__("equation", "burgers"))
    raw = read_yaml(ROOT / "params/base.yaml") | inspect(path, 0).parameters
    assert raw["task"]["coefficients"] == pytest.approx({"viscosity": 0.02})
    flow(tmp_path / "flow.hdf5")
    made = inspect(tmp_path / "flow.hdf5", 0)
    assert not made.usable
    assert made.layout["channels"] == ["tracer", "velocity_x", "velocity_y"]
    assert "curl:VELOCITY" in made.problems[0]
    assert made.axes["y"]["step"] == pytest.approx(1.5 / 48)
    shutil.copy(path, tmp_path / "walls.hdf5")
    change(tmp_path / "walls.hdf5", lambda f: f["boundary_conditions/x_periodic"].attrs.__setitem__("bc_type", "OPEN"))
    assert "not periodic (x: open)" in inspect(tmp_path / "walls.hdf5", 0).problems[0]
