"""Reader of PDEBench's flat one-dimensional files, of any size, in chunks of bounded size.

Takes files as PDEBench writes them: `tensor` (N, T, X) without a channel axis, a `t-coordinate` that may have T + 1
entries, and nothing but the attributes `Nu`, `beta` and `rho` to say what they hold. Files of several regimes have
these as datasets, see `ups.data.flat_layout`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ups.data.axes import Axis, floats, regular_axis, strided_grid, tidy
from ups.data.file_source import FileSource
from ups.data.flat_layout import ATTRIBUTES, INITIAL, SPACE, TENSOR, TIME, Number
from ups.data.units import stated_units
from ups.errors import DataError

CHUNK_BYTES = 64 * 2**20  # of frames read at a time, before sub-sampling in space
_FEWEST_POINTS = 8
_FEWEST_FRAMES = 2


class FlatSource(FileSource):
    """An open flat file; see `ups.data.readers.Source`."""

    layout = "pdebench-flat"
    channels: tuple[str, ...] = ("u",)

    def __init__(self, file: h5py.File, path: Path, space_stride: int, time_stride: int) -> None:
        super().__init__(file, path)
        self.space_stride, self.time_stride = space_stride, time_stride
        self._tensor = _tensor(file, path)
        self.num_samples, frames, points = self._tensor.shape
        self.equation, self.coefficients = _equation(file, path, self.num_samples)
        self.initial = _initial(file, path, self.num_samples)
        space = self._space_axis(points)
        time = self._time_axis(frames)
        stated = stated_units(file, path, self.channels)
        self.units, self.time_unit = stated.fields, stated.time
        self.grid = strided_grid([space], space_stride, unit=stated.length)
        self.dt, self.first_time = tidy(time.spacing * time_stride), time.first
        self.num_frames = len(range(0, frames, time_stride))
        self._check_strides(points, frames)

    def chunks(self, start: int, stop: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the trajectories start .. stop - 1 in order, (B, T, 1, X) float32.

        Raises:
            DataError: if a value is NaN or Inf.
        """
        rows = max(1, CHUNK_BYTES // (4 * self.num_frames * self._tensor.shape[2]))
        for begin in range(start, stop, rows):
            end = min(begin + rows, stop)
            # Whole frames are contiguous in the file; taking every n-th point is cheaper in memory than in HDF5.
            frames = self._tensor[begin:end, :: self.time_stride, :]
            block = np.ascontiguousarray(frames[:, :, :: self.space_stride], dtype=np.float32)
            self._check_finite(block, begin)
            yield block[:, :, None, :]

    def _space_axis(self, points: int) -> Axis:
        values = _coordinate(self._file, self.path, SPACE)
        if values.shape != (points,):
            raise DataError(f"{self.path}: {SPACE} has shape {values.shape}, but `{TENSOR}` has {points} points.")
        axis = regular_axis(values, f"{self.path}: {SPACE}")
        extent = axis.spacing * axis.count
        if abs(axis.first - axis.spacing / 2 + 1) < 1e-3 and abs(extent - 2) < 1e-3:
            raise DataError(
                f"{self.path} has x from -1 to 1, not from 0 to 1: it is of PDEBench's first generation (before "
                "October 2023), made with a wrong flux or length factor, so it does not solve the equation it is "
                "named after. Download the corrected file: `ups data list`, `ups data fetch NAME`."
            )
        return axis

    def _time_axis(self, frames: int) -> Axis:
        values = _coordinate(self._file, self.path, TIME)
        if values.shape not in ((frames,), (frames + 1,)):
            raise DataError(
                f"{self.path}: {TIME} has shape {values.shape}, but `{TENSOR}` has {frames} frames: {frames} or "
                f"{frames + 1} times were expected."
            )
        return regular_axis(values[:frames], f"{self.path}: {TIME}")

    def _check_strides(self, points: int, frames: int) -> None:
        if points % self.space_stride:
            divisors = [n for n in range(1, points // _FEWEST_POINTS + 1) if points % n == 0]
            nearest = min(divisors or [1], key=lambda n: abs(n - self.space_stride))
            raise DataError(
                f"data.space_stride = {self.space_stride} does not divide the {points} points of {self.path}; on a "
                f"periodic grid the spacing would be uneven. The nearest stride that does is {nearest}."
            )
        if points // self.space_stride < _FEWEST_POINTS:
            raise DataError(
                f"data.space_stride = {self.space_stride} leaves {points // self.space_stride} of the {points} points "
                f"of {self.path}; at least {_FEWEST_POINTS} are needed. Use a stride <= {points // _FEWEST_POINTS}."
            )
        if self.num_frames < _FEWEST_FRAMES:
            raise DataError(
                f"data.time_stride = {self.time_stride} leaves {self.num_frames} of the {frames} frames of "
                f"{self.path}; at least {_FEWEST_FRAMES} are needed. Use a stride <= {frames - 1}."
            )

    def _check_finite(self, block: npt.NDArray[np.float32], first: int) -> None:
        finite = np.isfinite(block)
        if finite.all():
            return
        sample, frame, point = (int(i) for i in np.argwhere(~finite)[0])
        raise DataError(
            f"{self.path} holds {block[sample, frame, point]} in sample {first + sample}, frame "
            f"{frame * self.time_stride}, point {point * self.space_stride} (counted from 0). Leave the sample out by "
            "`data.splits` (or --samples), or make the file again."
        )


def _tensor(file: h5py.File, path: Path) -> h5py.Dataset:
    tensor = file[TENSOR]
    if not isinstance(tensor, h5py.Dataset) or tensor.ndim != 3:
        shape = getattr(tensor, "shape", "a group")
        raise DataError(
            f"{path}: `{TENSOR}` has shape {shape}; rank 3 (trajectories, frames, points) was expected. PDEBench's "
            "Darcy files have rank 4 and a dataset `nu` beside it; other files in two dimensions cannot be read from "
            "this layout."
        )
    if tensor.dtype.kind != "f":
        raise DataError(f"{path}: `{TENSOR}` has type {tensor.dtype}; floating-point numbers were expected.")
    if 0 in tensor.shape:
        raise DataError(f"{path}: `{TENSOR}` is empty, its shape is {tensor.shape}.")
    return tensor


def _coordinate(file: h5py.File, path: Path, name: str) -> npt.NDArray[np.floating]:
    if name not in file or not isinstance(file[name], h5py.Dataset):
        raise DataError(f"{path} has no dataset `{name}`; without it spacing and units of the fields are unknown.")
    values: npt.NDArray[np.floating] = np.asarray(file[name][()])
    return floats(values)


def _equation(file: h5py.File, path: Path, samples: int) -> tuple[str | None, dict[str, Number]]:
    """Return the equation and its coefficients, from which of the known attributes or datasets the file has."""
    known = dict.fromkeys(attribute for names in ATTRIBUTES.values() for attribute in names)
    found = [attribute for attribute in known if attribute in file.attrs or attribute in file]
    if not found:
        return None, {}
    for equation, names in ATTRIBUTES.items():
        if set(names) == set(found):
            return equation, {name: _number(file, attribute, path, samples) for attribute, name in names.items()}
    expected = "; ".join(f"{' and '.join(names)} ({equation})" for equation, names in ATTRIBUTES.items())
    raise DataError(f"{path} has the attributes {' and '.join(found)}; expected was one of: {expected}.")


def _number(file: h5py.File, attribute: str, path: Path, samples: int) -> Number:
    if attribute in file and attribute in file.attrs:
        raise DataError(
            f"{path} has `{attribute}` as an attribute, for all trajectories, and as a dataset, for each: which one "
            "holds? Remove the other."
        )
    if attribute in file:
        return _per_trajectory(file, attribute, path, samples, "iuf").astype(np.float64)
    value = np.asarray(file.attrs[attribute])
    if value.size != 1 or value.dtype.kind not in "iuf":
        raise DataError(f"{path}: attribute `{attribute}` is {file.attrs[attribute]!r}; one number was expected.")
    return float(value.reshape(()))


def _initial(file: h5py.File, path: Path, samples: int) -> npt.NDArray[np.int64] | None:
    if INITIAL not in file:
        return None
    numbers = _per_trajectory(file, INITIAL, path, samples, "iu").astype(np.int64)
    if numbers.min() < 0:
        raise DataError(f"{path}: `{INITIAL}` holds {numbers.min()}; numbers from 0 on were expected.")
    return numbers


def _per_trajectory(file: h5py.File, name: str, path: Path, samples: int, kinds: str) -> npt.NDArray[Any]:
    values = np.asarray(file[name][()] if isinstance(file[name], h5py.Dataset) else None)
    expected = "whole numbers" if kinds == "iu" else "numbers"
    if values.shape != (samples,) or values.dtype.kind not in kinds:
        raise DataError(
            f"{path}: `{name}` has shape {values.shape} and type {values.dtype}; ({samples},) {expected}, one for each "
            "trajectory, were expected."
        )
    if not np.isfinite(values).all():
        raise DataError(
            f"{path}: `{name}` holds {values[~np.isfinite(values)][0]} for trajectory "
            f"{int(np.flatnonzero(~np.isfinite(values))[0])} (counted from 0); every trajectory needs its number."
        )
    return values
