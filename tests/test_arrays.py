"""Arrays that people bring: what is written can be read, and each way in which they can be wrong has its own answer."""

import sys

import h5py
import numpy as np
import pytest
from flat_files import fields
from typer.testing import CliRunner

from ups.cli.data import app
from ups.data.arrays import write_dataset
from ups.data.importing import import_files
from ups.data.labelled import Joined, from_xarray, read_labelled
from ups.data.readers import open_source
from ups.errors import DataError
from ups.inspection.layouts import Kind, recognise

X = (np.arange(32) + 0.5) / 32
T = np.linspace(0, 1, 9)
BURGERS = {"equation": "burgers", "coefficients": {"viscosity": 0.02}, "x": X, "t": T}


@pytest.fixture
def u():
    return fields(6, 9, 32)


def read(path):
    with open_source(path) as source:
        return source, np.concatenate(list(source.chunks(0, source.num_samples)))


def test_one_field_on_a_line(tmp_path, u, monkeypatch):
    monkeypatch.setattr("ups.data.arrays._BYTES", 2 * 4 * 9 * 32)  # two trajectories at a time
    units = {"units": {"u": "m/s"}, "length_unit": "m", "time_unit": "s"}
    source, made = read(write_dataset(tmp_path / "a.h5", u.astype(np.float64), **BURGERS, **units))
    assert np.array_equal(made[:, :, 0], u)
    assert (source.layout, source.equation, source.coefficients) == ("pdebench-flat", "burgers", {"viscosity": 0.02})
    assert (source.units, source.grid.unit, source.time_unit) == (("m/s",), "m", "s")
    assert (source.dt, source.first_time, source.grid.extent) == (0.125, 0.0, (1.0,))
    assert np.allclose(source.grid.coordinates().numpy(), X)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_two_fields_a_plane_and_a_steady_problem(tmp_path, u):
    source, made = read(
        write_dataset(tmp_path / "wave.h5", {"v": -u, "u": u}, equation="wave", coefficients={"speed": 1.0}, x=X, t=T)
    )
    assert (source.layout, source.channels, source.units) == ("pdebench-grouped", ("u", "v"), ("1", "1"))
    assert np.array_equal(made, np.stack([u, -u], axis=2))
    plane = np.random.default_rng(0).normal(size=(2, 9, 32, 16)).astype(np.float32)
    y = 3 * np.arange(16) / 16
    flow = {"equation": "navier_stokes", "coefficients": {"viscosity": 0.1}, "x": X, "y": y, "t": T}
    source, made = read(write_dataset(tmp_path / "flow.h5", plane, **flow))
    assert np.array_equal(made[:, :, 0], plane)
    assert source.grid.extent == (1.0, 3.0)
    media = {"a": 1 + plane[:, 0] ** 2, "u": plane[:, 1]}
    source, made = read(
        write_dataset(tmp_path / "darcy.h5", media, equation="darcy", coefficients={"force": 1.0}, x=X, y=y)
    )
    assert source.layout == "pdebench-darcy"
    assert np.array_equal(made[:, 0, 1], plane[:, 1])


def spoilt(u, sample, frame, point, value):
    made = u.copy()
    made[sample, frame, point] = value
    return made


def test_each_mistake_has_its_answer(tmp_path, u):
    path = tmp_path / "a.h5"

    def refuses(match, values=u, **changes):
        with pytest.raises(DataError, match=match):
            write_dataset(path, values, **{**BURGERS, **changes})
        assert not list(tmp_path.iterdir())

    refuses(r"axes are in another order: numpy.transpose.fields, \(1, 0, 2\)", np.swapaxes(u, 0, 1))
    refuses(r"numpy.transpose.fields, \(2, 1, 0\)", np.transpose(u, (2, 1, 0)))
    refuses(r"One trajectory needs an axis of its own: fields\[None\]", u[0])
    refuses("There is an axis too many", u[..., None])
    refuses(r"\(trajectories, frames, x\) = \(N, 9, 32\) was expected", u[:, :8])
    refuses(
        "nan in trajectory 4, frame 3 at .7., counted from 0: leave that trajectory out", spoilt(u, 4, 3, 7, np.nan)
    )
    refuses("too large for float32", spoilt(u.astype(np.float64), 4, 3, 7, 1e60))
    refuses("half precision", u.astype(np.float16))
    refuses("whole numbers", (100 * u).astype(np.int32))
    refuses("complex numbers", u.astype(np.complex64))
    refuses("x is not equidistant", x=X**2)
    refuses("t is not equidistant", t=T**2)
    refuses("x does not increase", x=X[::-1])
    refuses("t is missing", t=None)
    refuses("x has 4 points; at least 8", u[..., :4], x=X[:4])
    refuses("has 1: x", y=X)
    refuses("There is no trajectory", u[:0])
    refuses("none of burgers, advection", equation="heat")
    refuses("viscosity is what 'burgers' has", coefficients={"nu": 0.02})
    refuses("one finite number", coefficients={"viscosity": np.full(6, 0.02)})
    refuses("must be above 0", coefficients={"viscosity": 0.0})
    refuses("'wave' has 2 fields: pass them by name", equation="wave", coefficients={"speed": 1.0})
    refuses("fields has density; u is what", {"density": u})
    refuses("units has v, which is no field", units={"v": "m"})
    closed = np.concatenate([u, u[..., :1]], axis=-1)
    refuses("last point along x repeats the first one", closed, x=np.linspace(0, 1, 33))
    with pytest.raises(DataError, match=r"folder .* does not exist"):
        write_dataset(tmp_path / "none" / "a.h5", u, **BURGERS)
    write_dataset(path, u, **BURGERS)
    before = path.read_bytes()
    with pytest.raises(DataError, match="exists already, and is not overwritten"):
        write_dataset(path, u, **BURGERS)
    assert path.read_bytes() == before


def test_nothing_is_left_of_a_file_that_fails_late(tmp_path, u, monkeypatch):
    monkeypatch.setattr("ups.data.arrays._BYTES", 4 * 9 * 32)
    with pytest.raises(DataError, match="trajectory 5"):
        write_dataset(tmp_path / "a.h5", spoilt(u, 5, 0, 0, np.inf), **BURGERS)
    assert not list(tmp_path.iterdir())


def test_an_archive_of_arrays_is_imported(tmp_path, u):
    np.savez(tmp_path / "a.npz", density=u, x=X, time=T, viscosity=0.02, year=2024)
    said = recognise(tmp_path / "a.npz")
    assert (said.kind, said.usable) == (Kind.ARRAYS, True)
    assert said.datasets["density"] == "(6, 9, 32) float32"
    arguments = ["import", str(tmp_path / "a.npz"), "-o", str(tmp_path / "a.h5"), "--equation", "burgers"]
    result = CliRunner().invoke(app, arguments)
    assert "Say which one is u: --field u=NAME" in str(result.exception)
    result = CliRunner().invoke(app, [*arguments, "--field", "u=density"])
    assert result.exit_code == 0, result.output
    assert "not taken over: year = 2024" in result.stdout
    source, made = read(tmp_path / "a.h5")
    assert np.array_equal(made[:, :, 0], u)
    assert source.coefficients == {"viscosity": 0.02}


def test_what_does_not_fit_together_is_refused(tmp_path, u):
    for name, changes in {"a": {}, "x": {"x": 2 * X}, "viscosity": {"viscosity": 0.1}, "no_x": {"x": None}}.items():
        made = {"u": u, "x": X, "t": T, "viscosity": 0.02, "equation": "burgers"} | changes
        np.savez(tmp_path / f"{name}.npz", **{key: value for key, value in made.items() if value is not None})
    output = tmp_path / "out.h5"

    def refuses(match, *names, **arguments):
        with pytest.raises(DataError, match=match):
            import_files([tmp_path / f"{name}.npz" for name in names], output, **arguments)
        assert not output.exists()

    refuses("has another x than", "a", "x")
    refuses("viscosity is 0.02 and 0.1; one value", "a", "viscosity")
    refuses("viscosity is 0.02 and 0.3", "a", coefficients={"viscosity": 0.3})
    refuses("no coordinate `x`", "no_x")
    refuses("wave was given", "a", equation="wave")
    refuses("'burgers' has viscosity", "a", coefficients={"speed": 1.0})
    refuses("'burgers' has the fields u", "a", fields={"w": "u"})
    refuses("curl:u: a velocity on a periodic plane", "a", fields={"u": "curl:u"})
    refuses("does not exist", "nowhere")
    made = import_files([tmp_path / "a.npz", tmp_path / "a.npz"], output)
    assert [part[1:] for part in made.parts] == [(0, 6), (6, 12)]
    assert np.array_equal(read(output)[1][:, :, 0], np.concatenate([u, u]))


def test_parts_of_joined_files_are_those_of_the_whole(u):
    joined = Joined([u[:1], u[1:4], u[4:]])
    for start in range(6):
        for stop in range(start + 1, 7):
            assert np.array_equal(joined[start:stop], u[start:stop])


def test_a_labelled_dataset_is_put_in_order_by_its_names(tmp_path, u):
    xarray = pytest.importorskip("xarray")
    dataset = xarray.Dataset(
        {"u": (("x", "time", "trajectory"), u.T, {"units": "m/s"}), "viscosity": 0.02},
        coords={"x": ("x", X, {"units": "m"}), "time": ("time", T, {"units": "s"})},
        attrs={"equation": "burgers"},
    )
    found = from_xarray(dataset)
    assert np.array_equal(found.fields["u"][2:4], u[2:4])
    assert (found.equation, found.numbers) == ("burgers", {"viscosity": 0.02})
    dataset.to_netcdf(tmp_path / "a.nc", engine="scipy")
    import_files([tmp_path / "a.nc"], tmp_path / "a.h5")
    source, made = read(tmp_path / "a.h5")
    assert np.array_equal(made[:, :, 0], u)
    assert (source.units, source.grid.unit, source.time_unit) == (("m/s",), "m", "s")
    with pytest.raises(DataError, match="depth cannot be told apart from sample, t, x and y"):
        from_xarray(dataset.rename(x="depth"))
    with pytest.raises(DataError, match="no axis of trajectories: name one `sample`"):
        from_xarray(dataset.isel(trajectory=0).expand_dims(y=[0.0]))


def test_a_zarr_group_is_read_by_its_names(tmp_path, u):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    for name, values, dims in (("u", u.swapaxes(0, 1), ("t", "sample", "x")), ("x", X, ("x",)), ("t", T, ("t",))):
        group.create_array(name, data=values, dimension_names=dims)
    group.attrs.update({"equation": "burgers", "viscosity": 0.02})
    import_files([tmp_path / "a.zarr"], tmp_path / "a.h5")
    assert np.array_equal(read(tmp_path / "a.h5")[1][:, :, 0], u)


@pytest.mark.parametrize(("name", "package"), [("a.zarr", "zarr"), ("a.nc", "xarray")])
def test_a_package_that_is_missing_is_named_with_what_installs_it(tmp_path, monkeypatch, name, package):
    (tmp_path / name).mkdir()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=f"pip install {package}"):
        read_labelled(tmp_path / name)
    assert package in recognise(tmp_path / name).description


def test_other_files_say_where_to_go(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["tensor"] = np.zeros((2, 3, 8))
    with pytest.raises(DataError, match=r"data.path. takes it as it is"):
        read_labelled(tmp_path / "a.h5")
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(DataError, match="write_dataset"):
        read_labelled(tmp_path / "a.mat")
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04")
    assert not recognise(tmp_path / "b.npz").usable
    np.savez(tmp_path / "c.npz", u=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="no archive of plain arrays"):
        read_labelled(tmp_path / "c.npz")
