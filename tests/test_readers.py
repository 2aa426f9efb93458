"""Reading flat files as PDEBench writes them, and one clear error for each way a file can be wrong."""

import h5py
import numpy as np
import pytest
from flat_files import fields, write_flat
from hypothesis import given, settings
from hypothesis import strategies as st

from ups.data import flat_reader
from ups.data.readers import open_source
from ups.errors import DataError


@pytest.fixture
def tensor():
    return fields(samples=7, frames=11, points=64)


def read(path, space_stride=1, time_stride=1, start=0, stop=None):
    with open_source(path, space_stride, time_stride) as source:
        chunks = list(source.chunks(start, source.num_samples if stop is None else stop))
        return source, np.concatenate(chunks)


@settings(max_examples=25, deadline=None)
@given(
    samples=st.integers(1, 9),
    frames=st.integers(2, 13),
    coarse=st.integers(8, 20),
    space_stride=st.integers(1, 4),
    time_stride=st.integers(1, 12),
    extent=st.sampled_from([1.0, 0.3, 2.5, 6.283185307179586]),
    corner=st.sampled_from([0.0, -0.25, 3.0]),
    double=st.booleans(),
    extra_time=st.booleans(),
    chunk_bytes=st.integers(1, 20_000),
    data=st.data(),
)
def test_what_is_read_is_what_is_stored(
    tmp_path_factory,
    samples,
    frames,
    coarse,
    space_stride,
    time_stride,
    extent,
    corner,
    double,
    extra_time,
    chunk_bytes,
    data,
):
    """Values, grid and time step, for any strides, chunk size, origin and storage format."""
    points = coarse * space_stride
    time_stride = min(time_stride, frames - 1)
    start = data.draw(st.integers(0, samples - 1))
    stop = data.draw(st.integers(start + 1, samples))
    tensor = np.random.default_rng(samples).normal(size=(samples, frames, points)).astype(np.float32)
    x = (corner + (np.arange(points) + 0.5) * extent / points).astype(np.float64 if double else np.float32)
    t = (0.1 * np.arange(frames + extra_time)).astype(x.dtype)
    path = write_flat(tmp_path_factory.mktemp("flat") / "file.h5", tensor, x=x, t=t)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat_reader, "CHUNK_BYTES", chunk_bytes)
        source, got = read(path, space_stride, time_stride, start, stop)
    assert got.dtype == np.float32
    assert np.array_equal(got[:, :, 0], tensor[start:stop, ::time_stride, ::space_stride])
    assert (source.num_samples, source.num_frames) == (samples, got.shape[1])
    # Coordinates agree with the stored ones to a few roundings of their own format.
    tolerance = 4 * np.finfo(x.dtype).eps * np.abs(x).max()
    assert np.abs(source.grid.coordinates().numpy() - x[::space_stride]).max() <= tolerance
    assert source.grid.extent[0] == pytest.approx(extent, rel=1e-6)
    assert source.dt == pytest.approx(0.1 * time_stride, rel=1e-5)


def test_round_numbers_survive_float32(tmp_path):
    """PDEBench's own grid: extent 1 and dt 0.05 after ::4 and ::5, not 0.99999994; the grid's corner moves."""
    x = ((np.arange(1024) + 0.5) / 1024).astype(np.float32)
    t = (np.arange(202, dtype=np.float32) * np.float32(0.01)).astype(np.float32)
    path = write_flat(tmp_path / "a.hdf5", np.zeros((2, 201, 1024), np.float32), {"Nu": 0.001}, x=x, t=t)
    source, got = read(path, 4, 5)
    assert got.shape == (2, 41, 1, 256)
    assert (source.grid.extent, source.dt) == ((1.0,), 0.05)
    assert source.grid.origin[0] == pytest.approx(0.5 / 1024 - 2 / 1024, abs=1e-12)
    assert (source.equation, source.coefficients) == ("burgers", {"viscosity": 0.001})


def test_chunks_are_bounded(tmp_path, tensor, monkeypatch):
    path = write_flat(tmp_path / "a.h5", tensor)
    monkeypatch.setattr(flat_reader, "CHUNK_BYTES", 2 * 11 * 64 * 4)
    with open_source(path) as source:
        assert [len(chunk) for chunk in source.chunks(0, 7)] == [2, 2, 2, 1]


def test_double_precision_and_missing_attribute(tmp_path, tensor):
    source, got = read(write_flat(tmp_path / "a.h5", tensor.astype(np.float64), {}))
    assert (source.equation, source.coefficients, got.dtype) == (None, {}, np.float32)


def refuses(match, path, *strides):
    with pytest.raises(DataError, match=match) as caught:
        read(path, *strides)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text


def test_missing_file(tmp_path):
    refuses("does not exist.*ups data list", tmp_path / "no.h5")


def test_not_hdf5(tmp_path):
    path = tmp_path / "page.hdf5"
    path.write_text("<html>Sorry</html>")
    refuses("not an HDF5 file: it begins with b'<html>", path)
    path.write_bytes(b"")
    refuses("not an HDF5 file", path)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_truncated(tmp_path, tensor, share):
    path = write_flat(tmp_path / "a.h5", tensor)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refuses("truncated", path)


@pytest.mark.parametrize("shape", [(64,), (7, 64), (7, 11, 64, 1), (7, 1, 8, 8)])
def test_wrong_rank(tmp_path, shape):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["tensor"] = np.zeros(shape, np.float32)
    refuses("rank 3", path)


def test_unknown_layout(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["0000/values"] = np.zeros((3, 8, 1), np.float32)
    refuses("no dataset 'tensor' .it holds: 0000", path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path, tensor, value):
    tensor[5, 8, 24] = value
    path = write_flat(tmp_path / "a.h5", tensor)
    refuses("sample 5, frame 8, point 24", path)
    refuses("sample 5, frame 8, point 24", path, 4, 4)
    assert np.isfinite(read(path, 4, 3)[1]).all()  # that frame is not read


def test_old_generation(tmp_path, tensor):
    path = write_flat(tmp_path / "a.h5", tensor, {"Nu": 0.01}, x=-1 + 2 * (np.arange(64, dtype=np.float32) + 0.5) / 64)
    refuses("x from -1 to 1.*October", path)


def test_another_equation(tmp_path, tensor):
    refuses("rho; expected was one of", write_flat(tmp_path / "a.h5", tensor, {"rho": 1.0}))
    refuses("Nu and beta", write_flat(tmp_path / "b.h5", tensor, {"Nu": 0.5, "beta": 1.0}))


def test_diffusion_reaction(tmp_path, tensor):
    path = write_flat(tmp_path / "ReacDiff_Nu0.5_Rho1.0.hdf5", tensor, {"Nu": 0.5, "rho": 1.0})
    source, _ = read(path)
    assert source.equation == "diffusion_reaction"
    assert source.coefficients == {"diffusivity": 0.5, "reaction_rate": 1.0}


def test_strides(tmp_path, tensor):
    path = write_flat(tmp_path / "a.h5", tensor)
    refuses("space_stride = 3 does not divide the 64 points.*nearest stride that does is [24]", path, 3)
    refuses("space_stride = 16 leaves 4", path, 16)
    refuses("time_stride = 11 leaves 1", path, 1, 11)


@pytest.mark.parametrize(
    ("x", "t", "match"),
    [
        (np.linspace(0.1, 1, 64) ** 2, None, "x-coordinate is not equidistant"),
        (np.linspace(1, 0, 64), None, "does not increase"),
        (np.full(64, np.nan), None, "NaN"),
        (np.linspace(0, 1, 65), None, "x-coordinate has shape"),
        (None, np.array([0.0, *np.linspace(0.3, 2, 10)]), "t-coordinate is not equidistant"),
        (None, np.linspace(0, 1, 13), "11 or 12 times"),
        (None, np.linspace(0, 1, 10), "11 or 12 times"),
    ],
)
def test_coordinates(tmp_path, tensor, x, t, match):
    refuses(match, write_flat(tmp_path / "a.h5", tensor, x=x, t=t))


def test_missing_coordinates_and_strange_attributes(tmp_path, tensor):
    path = write_flat(tmp_path / "a.h5", tensor)
    with h5py.File(path, "a") as file:
        file.attrs["beta"] = "fast"
    refuses("attribute `beta` is 'fast'", path)
    with h5py.File(path, "a") as file:
        del file["t-coordinate"]
        file.attrs["beta"] = np.array([0.5])
    refuses("no dataset `t-coordinate`", path)
