"""Arrays with their coordinates, from where people keep them: .npz, .zarr, NetCDF, an xarray Dataset, The Well.

What an array is follows from its name: `x`, `y` and `t` (or `time`) are coordinates, names of coefficients are
coefficients, `equation` says which one it is, and what has a trajectory, a frame and a point is a field. xarray and
zarr are imported only where such a file is read; nothing of the pipeline needs them.

Shapes: N trajectories, T frames, *space the grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import h5py
import numpy as np
import numpy.typing as npt

from ups.data.arrays import ArrayLike
from ups.data.axes import floats
from ups.data.units import DIMENSIONLESS, LENGTH
from ups.data.units import TIME as TIME_UNIT
from ups.data.well import contents, is_well, read_axes
from ups.data.well_reader import check_domain
from ups.errors import DataError

ARRAY_SUFFIXES = (".npz", ".zarr", ".nc")
SUFFIXES = (*ARRAY_SUFFIXES, ".h5", ".hdf5")
# Names under which an axis goes, the first one being ours.
_NAMES = {
    "sample": ("sample", "samples", "trajectory", "trajectories", "batch", "member", "realization"),
    "t": ("t", "time", "t-coordinate", "times"),
    "x": ("x", "x-coordinate"),
    "y": ("y", "y-coordinate"),
}
_KNOWN = {name: axis for axis, names in _NAMES.items() for name in names}
_FEWEST_AXES = 3  # of a field: trajectories, frames or a second axis of space, points


@dataclass
class Labelled:
    """Fields and what is said of them.

    Attributes:
        source: where they come from, for messages.
        fields: name -> (N, T, *space).
        coordinates: "x", "y", "t" -> values.
        numbers: by name, coefficients among them.
        equation: if it is stated.
        units: of fields by name.
        length_unit, time_unit: of the coordinates.
    """

    source: str
    fields: dict[str, ArrayLike] = field(default_factory=dict)
    coordinates: dict[str, npt.NDArray[np.floating]] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    equation: str | None = None
    units: dict[str, str] = field(default_factory=dict)
    length_unit: str = DIMENSIONLESS
    time_unit: str = DIMENSIONLESS


def read_labelled(path: Path) -> Labelled:
    """Read what is in a file or folder, without the values of fields where the format allows it.

    Raises:
        DataError: if it is missing, of another kind, or the package that reads it is not installed.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    if path.suffix == ".npz":
        return _npz(path)
    if path.suffix == ".zarr":
        return _zarr(path)
    if path.suffix == ".nc":
        return _netcdf(path)
    if path.suffix in (".h5", ".hdf5"):
        return _hdf5(path)
    raise DataError(
        f"{path} is none of {', '.join(SUFFIXES)}. Load it where it comes from, and write it with "
        "ups.data.arrays.write_dataset: docs/own-data.md has an example of a few lines."
    )


def from_xarray(dataset: Any, source: str = "the xarray Dataset") -> Labelled:
    """Return the fields of an `xarray.Dataset`, their axes in our order whatever order they have there.

    Args:
        dataset: variables with the axes `sample` (or `trajectory`, `batch`, ...), `t` or `time`, `x` and `y`, and
            coordinates of the same names. Its attributes and 0-d variables may state equation and coefficients.
        source: where it comes from, for messages.

    Raises:
        DataError: if an axis has another name.
    """
    arrays = {str(name): dataset[name] for name in (*dataset.coords, *dataset.data_vars)}
    dims = {name: tuple(str(dim) for dim in array.dims) for name, array in arrays.items()}
    units = {name: str(array.attrs["units"]) for name, array in arrays.items() if "units" in array.attrs}
    return _labelled(source, arrays, dims, dict(dataset.attrs), units)


def _npz(path: Path) -> Labelled:
    try:
        with np.load(path, allow_pickle=False) as archive:  # a pickle in a file from somewhere could run code
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, BadZipFile) as error:
        raise DataError(f"{path} is no archive of plain arrays ({error}). Write it again with numpy.savez.") from error
    return _labelled(str(path), arrays, {}, {}, {})


def _zarr(path: Path) -> Labelled:
    group = _package("zarr", path).open_group(str(path), mode="r")
    arrays = dict(group.arrays())
    dims = {name: named for name, array in arrays.items() if (named := _zarr_dims(array))}
    units = {name: str(array.attrs["units"]) for name, array in arrays.items() if "units" in array.attrs}
    return _labelled(str(path), arrays, dims, dict(group.attrs), units)


def _zarr_dims(array: Any) -> tuple[str, ...]:
    """Return the names of a zarr array's axes: format 3 has them, xarray keeps them in an attribute of format 2."""
    stored = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    return tuple(str(name) for name in stored if name is not None)


def _netcdf(path: Path) -> Labelled:
    xarray = _package("xarray", path)
    try:
        dataset = xarray.open_dataset(path, decode_times=False)
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path} cannot be opened by xarray ({' '.join(str(error).split())[:200]}). NetCDF 4 needs one of its "
            "readers: `pip install h5netcdf`."
        ) from error
    return from_xarray(dataset, str(path))


def _hdf5(path: Path) -> Labelled:
    """Return what is in a file of The Well; it stays open for its fields."""
    file = h5py.File(path, "r")
    if not is_well(file):
        file.close()
        raise DataError(
            f"{path} is not of The Well's layout. If it is one of PDEBench's, `data.path` takes it as it is: `ups data "
            "inspect` says so. Otherwise load it with h5py and write it with ups.data.arrays.write_dataset."
        )
    made = contents(file, path)
    check_domain(made)
    space, time = read_axes(file, made)
    values = {name: axis.first + axis.spacing * np.arange(axis.count) for name, axis in zip("xy", space, strict=False)}
    values["t"] = time.first + time.spacing * np.arange(time.count)
    fields: dict[str, ArrayLike] = {each.name: file[each.place] for each in made.fields if each.varies}
    return Labelled(str(made), fields, values, dict(made.scalars), units={})


def _package(name: str, path: Path) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise DataError(
            f"{path} needs {name}, which is not installed: `pip install {name}`, or `pip install "
            "'ups-pipeline[arrays]'`."
        ) from None


def _labelled(
    source: str,
    arrays: Mapping[str, Any],
    dims: Mapping[str, tuple[str, ...]],
    attributes: Mapping[str, Any],
    units: Mapping[str, str],
) -> Labelled:
    made = Labelled(source)
    for name, value in attributes.items():
        if name == "equation":
            made.equation = str(value)
        elif np.ndim(value) == 0 and isinstance(value, int | float | np.number):
            made.numbers[name] = float(value)
    for name, array in arrays.items():
        axis = _KNOWN.get(name)
        if axis == "sample":
            continue
        if axis is not None:
            made.coordinates[axis] = _coordinate(array, f"{source}: {name}")
        elif name == "equation" and array.size == 1:
            made.equation = str(np.asarray(array[...]).reshape(()))
        elif array.size == 1 and array.dtype.kind in "iuf":
            made.numbers[name] = float(np.asarray(array[...]).reshape(()))
        elif len(array.shape) >= _FEWEST_AXES:
            made.fields[name] = _in_order(array, dims.get(name, ()), f"{source}: {name}")
            if name in units:
                made.units[name] = units[name]
    by_axis = {_KNOWN[name]: unit for name, unit in units.items() if name in _KNOWN}
    made.length_unit = by_axis.get("x", str(attributes.get(LENGTH, DIMENSIONLESS)))
    made.time_unit = by_axis.get("t", str(attributes.get(TIME_UNIT, DIMENSIONLESS)))
    return made


def _coordinate(array: Any, what: str) -> npt.NDArray[np.floating]:
    values = np.asarray(array[...])
    if values.dtype.kind not in "iuf":
        raise DataError(f"{what} has type {values.dtype}; numbers were expected. Store the times since the start.")
    return floats(values)


def _in_order(array: Any, dims: tuple[str, ...], what: str) -> ArrayLike:
    """Return an array with its axes in our order, by their names; without names it is left as it is."""
    if not dims:
        return array
    known = [_KNOWN.get(name.lower()) for name in dims]
    if None in known or len(set(known)) != len(known):
        wrong = [name for name, axis in zip(dims, known, strict=True) if axis is None] or list(dims)
        raise DataError(
            f"{what} has the axes {', '.join(dims)}; {', '.join(wrong)} cannot be told apart from sample, t, x and y. "
            "Rename the axes, or select one channel or level."
        )
    wanted = [axis for axis in _NAMES if axis in known]
    if "sample" not in known:
        raise DataError(f"{what} has no axis of trajectories: name one `sample` (expand_dims for a single one).")
    order = tuple(known.index(axis) for axis in wanted)
    if order == tuple(range(len(order))):
        return array
    return _Transposed(array, order)


class _Transposed:
    """An array with its axes in another order, read part by part."""

    def __init__(self, array: Any, order: tuple[int, ...]) -> None:
        self._array, self._order = array, order
        self.shape = tuple(int(array.shape[axis]) for axis in order)
        self.dtype = array.dtype

    def __getitem__(self, part: slice) -> Any:
        place = [slice(None)] * len(self._order)
        place[self._order[0]] = part
        return np.transpose(np.asarray(self._array[tuple(place)]), self._order)


class Joined:
    """The same field of several files, one after the other along the trajectories."""

    def __init__(self, parts: list[ArrayLike]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(part.shape[0] for part in parts)])
        self.shape = (int(self._starts[-1]), *parts[0].shape[1:])
        self.dtype = np.result_type(*(part.dtype for part in parts))

    def __getitem__(self, part: slice) -> Any:
        return np.concatenate(list(self._pieces(*part.indices(self.shape[0])[:2])))

    def _pieces(self, start: int, stop: int) -> Iterator[Any]:
        for array, first, end in zip(self._parts, self._starts, self._starts[1:], strict=False):
            if start < end and stop > first:
                yield np.asarray(array[max(0, start - first) : min(end, stop) - first])
