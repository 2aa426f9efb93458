"""Trajectories of a file whatever its layout, read by number and a few at a time, as they stand: NaN included.

Shapes: N trajectories in the file, B read at once, T frames, C channels, then space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ups.data.axes import regular_axis
from ups.data.dataset import FORMAT as DATASET_FORMAT
from ups.data.fields import FieldMetadata
from ups.data.flat_layout import SPACE, TENSOR, TIME
from ups.data.well import DIMENSIONS, contents
from ups.data.well import TIME as WELL_TIME
from ups.errors import DataError
from ups.inspection.layouts import Kind

_BYTES = 32 * 2**20  # of float32 read at once; a single trajectory may be larger

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """How the trajectories of an open file are read.

    Attributes:
        samples, frames: N and T.
        channels: names of the fields.
        points: of the grid, for each axis.
        read: (B,) rising numbers of trajectories and how many of their first frames -> (B, T, C, *space).
        times: (T,) or (T + 1,) as stored; empty if the file has none.
        positions: the coordinates of each axis as stored.
    """

    samples: int
    frames: int
    channels: tuple[str, ...]
    points: tuple[int, ...]
    read: Callable[[Sequence[int], int], Array]
    times: npt.NDArray[Any]
    positions: tuple[npt.NDArray[Any], ...]

    @property
    def rank(self) -> int:
        return len(self.points)

    def chunks(self, numbers: Sequence[int], frames: int | None = None) -> Iterator[tuple[Sequence[int], Array]]:
        """Yield the numbers and fields of trajectories, a bounded amount at a time."""
        count = self.frames if frames is None else frames
        rows = max(1, _BYTES // (4 * count * len(self.channels) * prod(self.points)))
        for begin in range(0, len(numbers), rows):
            part = numbers[begin : begin + rows]
            yield part, self.read(part, count)


def view(file: h5py.File, kind: Kind) -> View | None:
    """Return how to read a file's trajectories; None for a kind that has none."""
    match kind:
        case Kind.FLAT:
            return _flat(file)
        case Kind.DARCY:
            return _darcy(file)
        case Kind.FLOW:
            return _flow(file)
        case Kind.GROUPED:
            return _grouped(file)
        case Kind.WELL:
            return _well(file)
        case Kind.DATASET:
            return _dataset(file)
    return None


def spacing(values: npt.NDArray[Any], what: str) -> tuple[float | None, str]:
    """Return the step of stored coordinates, or None and what is wrong with them."""
    try:
        return regular_axis(np.asarray(values, dtype=_floating(values)), what).spacing, ""
    except DataError as error:
        return None, str(error)


def _floating(values: npt.NDArray[Any]) -> Any:
    return values.dtype if values.dtype.kind == "f" else np.float64


def _rows(data: h5py.Dataset, numbers: Sequence[int], frames: int) -> Array:
    """Return data[numbers, :frames]; h5py reads a run of numbers as one block and picks single ones slowly."""
    first, last = numbers[0], numbers[-1]
    if last - first + 1 == len(numbers):
        return np.asarray(data[first : last + 1, :frames], dtype=np.float32)
    return np.stack([np.asarray(data[number, :frames], dtype=np.float32) for number in numbers])


def _flat(file: h5py.File) -> View:
    tensor = file[TENSOR]
    samples, frames, points = tensor.shape
    axes = (file[SPACE][()],)
    return View(samples, frames, ("u",), (points,), lambda n, t: _rows(tensor, n, t)[:, :, None], file[TIME][()], axes)


def _darcy(file: h5py.File) -> View:
    tensor = file[TENSOR]  # (N, 1, X, Y), the one being its channel
    points = tuple(tensor.shape[-2:])
    axes = tuple(file[name][()] for name in (SPACE, "y-coordinate") if name in file)

    def read(numbers: Sequence[int], _: int) -> Array:
        return _rows(tensor, numbers, 1).reshape(len(numbers), 1, 1, *points)

    return View(tensor.shape[0], 1, ("u",), points, read, np.zeros(0), axes)


def _flow(file: h5py.File) -> View:
    names = tuple(name for name in ("density", "pressure", "Vx", "Vy", "Vz") if name in file)
    shape = file[names[0]].shape
    axes = tuple(file[f"{axis}-coordinate"][()] for axis in "xyz" if f"{axis}-coordinate" in file)

    def read(numbers: Sequence[int], frames: int) -> Array:
        return np.stack([_rows(file[name], numbers, frames) for name in names], axis=2)

    return View(shape[0], shape[1], names, tuple(shape[2:]), read, _stored(file, TIME), axes)


def _grouped(file: h5py.File) -> View:
    groups = sorted(file)
    shape = file[groups[0]]["data"].shape  # (T, *space, C)
    grid = file[groups[0]].get("grid", {})
    axes = tuple(grid[axis][()] for axis in "xyz" if axis in grid)

    def read(numbers: Sequence[int], frames: int) -> Array:
        fields = [np.asarray(file[groups[number]]["data"][:frames], dtype=np.float32) for number in numbers]
        return np.moveaxis(np.stack(fields), -1, 2)

    names = tuple(f"channel {index}" for index in range(shape[-1]))
    return View(len(groups), shape[0], names, tuple(shape[1:-1]), read, _stored(grid, "t"), axes)


def _well(file: h5py.File) -> View | None:
    """All fields that change, vectors and matrices by component: velocity_x, stress_xy."""
    made = contents(file, Path(file.filename))
    fields = [field for field in made.fields if field.varies]
    if not fields:
        return None
    names = tuple(
        "_".join(filter(None, (field.name, "".join(component))))
        for field in fields
        for component in product(made.axes, repeat=field.order)
    )

    def read(numbers: Sequence[int], frames: int) -> Array:
        shape = (len(numbers), frames, *made.points, -1)
        parts = [_rows(file[field.place], numbers, frames).reshape(shape) for field in fields]
        return np.moveaxis(np.concatenate(parts, axis=-1), -1, 2)

    dimensions = file[DIMENSIONS]
    axes = tuple(np.atleast_2d(dimensions[axis][()])[0] for axis in made.axes)
    times = np.atleast_2d(dimensions[WELL_TIME][()])[0]
    return View(made.samples, made.frames, names, made.points, read, times, axes)


def _dataset(file: h5py.File) -> View:
    if file.attrs["format"] != DATASET_FORMAT:
        raise ValueError(f"{file.filename} is no data set of this version")
    meta = FieldMetadata.model_validate_json(file.attrs["metadata"])
    splits = [file[name]["fields"] for name in ("train", "validation", "test") if name in file]
    starts = np.cumsum([0, *(len(split) for split in splits)])

    def read(numbers: Sequence[int], frames: int) -> Array:
        rows = []
        for number in numbers:
            place = int(np.searchsorted(starts, number, side="right")) - 1
            rows.append(splits[place][number - starts[place], :frames])
        return np.stack(rows)

    times = meta.dt * np.arange(splits[0].shape[1])
    axes = tuple(meta.grid.coordinates(axis).numpy() for axis in range(meta.grid.rank))
    return View(int(starts[-1]), splits[0].shape[1], meta.channels, meta.grid.points, read, times, axes)


def _stored(group: Any, name: str) -> npt.NDArray[Any]:
    return np.asarray(group[name][()]) if name in group else np.zeros(0)
