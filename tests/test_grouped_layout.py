"""The grouped layout: what is written is what is read, and what is refused."""

import h5py
import numpy as np
import pytest

from ups.data.fields import Grid
from ups.data.grouped_layout import GroupedWriter
from ups.data.readers import open_source
from ups.errors import DataError

LINE = Grid(extent=(2.0,), points=(16,), origin=(0.0,), periodic=(True,))
PLANE = Grid(extent=(1.0, 3.0), points=(8, 12), origin=(0.0, 0.0), periodic=(True, True))
TIMES = np.linspace(0, 1.2, 7)


def write(path, equation="wave", coefficients=None, grid=LINE, channels=2):
    shape = (5, len(TIMES), channels, *grid.points)
    fields = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    numbers = coefficients or {"speed": 0.5}
    with GroupedWriter(path, equation, numbers, 5, grid, TIMES, {"seed": 3}) as writer:
        writer.write(0, fields[:2])
        writer.write(2, fields[2:])
    return fields


def change(path, function):
    with h5py.File(path, "a") as file:
        function(file)


def test_two_fields_on_a_line(tmp_path, monkeypatch):
    fields = write(tmp_path / "a.h5")
    monkeypatch.setattr("ups.data.grouped_reader.CHUNK_BYTES", 4 * 2 * 7 * 16 * 2)  # two trajectories at a time
    with open_source(tmp_path / "a.h5", space_stride=2, time_stride=3) as source:
        chunks = list(source.chunks(1, 5))
        assert [len(chunk) for chunk in chunks] == [2, 2]
        assert (source.equation, source.coefficients, source.channels) == ("wave", {"speed": 0.5}, ("u", "v"))
        assert (source.num_samples, source.num_frames, source.grid.points) == (5, 3, (8,))
        assert source.dt == pytest.approx(0.6)
        assert source.grid.extent == (2.0,)
        assert np.allclose(source.grid.coordinates().numpy(), LINE.coordinates().numpy()[::2])
    assert np.array_equal(np.concatenate(chunks), fields[1:, ::3, :, ::2])


def test_one_field_on_a_plane(tmp_path):
    fields = write(tmp_path / "a.h5", "navier_stokes", {"viscosity": 0.01}, PLANE, channels=1)
    with h5py.File(tmp_path / "a.h5") as file:  # as PDEBench lays it out: (t, x, y, c)
        assert file["0003/data"].shape == (7, 8, 12, 1)
        assert np.array_equal(file["0003/data"][2, :, :, 0], fields[3, 2, 0])
        assert file["0003/grid/y"].shape == (12,)
    with open_source(tmp_path / "a.h5") as source:
        assert np.array_equal(np.concatenate(list(source.chunks(0, 5))), fields)
        assert source.grid == PLANE


def test_what_is_refused(tmp_path):
    path = tmp_path / "a.h5"

    def refuses(match, spoil, space_stride=1, time_stride=1):
        write(path)
        change(path, spoil)
        with pytest.raises(DataError, match=match), open_source(path, space_stride, time_stride) as source:
            list(source.chunks(0, source.num_samples))

    def replace(file, name, values):
        del file[name]
        file[name] = values

    refuses("states the equation None.*PDEBench's grouped files", lambda f: f.attrs.__delitem__("equation"))
    refuses("states the equation 'heat'", lambda f: f.attrs.__setitem__("equation", "heat"))
    refuses(r"\(frames, x, 1 channels: u\) was expected", lambda f: f.attrs.__setitem__("equation", "burgers"))
    refuses("channels .'v', 'u'.", lambda f: f.attrs.__setitem__("channels", ["v", "u"]))
    refuses("states periodic", lambda f: f.attrs.__setitem__("periodic", [False]))
    refuses("all trajectories must have one", lambda f: replace(f, "0004/data", np.zeros((7, 8, 2), np.float32)))
    refuses("nan in sample 2, frame 5", lambda f: f["0002/data"].__setitem__((5, 3, 1), np.nan))
    refuses("no dataset `0000/grid/x`", lambda f: f.__delitem__("0000/grid/x"))
    refuses("not equidistant", lambda f: f["0000/grid/t"].__setitem__(3, 0.7))
    refuses("must divide", lambda f: None, space_stride=3)
    refuses("leaves fewer than 2", lambda f: None, time_stride=7)
