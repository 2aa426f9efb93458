"""Reader of grouped HDF5 files (`ups.data.grouped_layout`), trajectory by trajectory.

The file has to say its equation in a root attribute. PDEBench's own grouped files do not, and hold equations with walls
(two-dimensional diffusion-reaction, shallow water) that nothing here solves, so they are refused.

Shapes: N trajectories, B in a chunk, T frames, C channels, *space the grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ups.data.axes import Axis, regular_axis, strided_grid, tidy
from ups.data.file_source import FileSource
from ups.data.flat_layout import INITIAL, Number
from ups.data.grouped_layout import AXES, CHANNELS, DATA, EQUATION, GRID, PERIODIC, TIME
from ups.data.units import stated_units
from ups.errors import DataError
from ups.parameters.equations import EQUATIONS

CHUNK_BYTES = 64 * 2**20
_FEWEST_POINTS = 8
_FEWEST_FRAMES = 2


class GroupedSource(FileSource):
    """An open grouped file; see `ups.data.readers.Source`."""

    layout = "pdebench-grouped"

    def __init__(self, file: h5py.File, path: Path, space_stride: int, time_stride: int) -> None:
        super().__init__(file, path)
        self.space_stride, self.time_stride = space_stride, time_stride
        self._names = sorted((name for name in file if DATA in file[name]), key=lambda name: (len(name), name))
        self.num_samples = len(self._names)
        self.equation: str | None = self._equation()
        equation = EQUATIONS[str(self.equation)]
        self.channels = equation.channel_names
        stated = stated_units(file, path, self.channels)
        self.units, self.time_unit = stated.fields, stated.time
        self.coefficients = self._coefficients(equation.coefficient_names)
        self.initial = self._each(INITIAL).astype(np.int64) if self._says(INITIAL) else None
        self._shape = self._checked_shape(equation.rank)
        frames, *points = self._shape[:-1]
        self._check_strides(points, frames)
        first = self._names[0]
        axes = [self._axis(f"{first}/{GRID}/{name}", count) for name, count in zip(AXES, points, strict=False)]
        self.grid = strided_grid(axes, space_stride, equation.periodic, stated.length)
        time = self._axis(f"{first}/{GRID}/{TIME}", frames)
        self.dt, self.first_time = tidy(time.spacing * time_stride), time.first
        self.num_frames = len(range(0, frames, time_stride))

    def chunks(self, start: int, stop: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the trajectories start .. stop - 1 in order, (B, T, C, *space) float32.

        Raises:
            DataError: if a trajectory has another shape than the first, or holds NaN or Inf.
        """
        rows = max(1, CHUNK_BYTES // (4 * math.prod(self._shape)))
        for begin in range(start, stop, rows):
            yield np.stack([self._trajectory(number) for number in range(begin, min(begin + rows, stop))])

    def _trajectory(self, number: int) -> npt.NDArray[np.float32]:
        name = self._names[number]
        data = self._file[name][DATA]
        if data.shape != self._shape:
            raise DataError(
                f"{self.path}: {name}/{DATA} has shape {data.shape}, but {self._names[0]}/{DATA} has {self._shape}; "
                "all trajectories must have one."
            )
        space = (slice(None, None, self.space_stride),) * (len(self._shape) - 2)
        block = np.asarray(data[:: self.time_stride], dtype=np.float32)[(slice(None), *space)]
        finite = np.isfinite(block)
        if not finite.all():
            where = tuple(int(i) for i in np.argwhere(~finite)[0])
            raise DataError(
                f"{self.path} holds {block[where]} in sample {number}, frame {where[0] * self.time_stride} (counted "
                "from 0). Leave the sample out by `data.splits` (or --samples), or make the file again."
            )
        return np.ascontiguousarray(np.moveaxis(block, -1, 1))

    def _coefficients(self, names: tuple[str, ...]) -> dict[str, Number]:
        stated: dict[str, Number] = {name: float(self._file.attrs[name]) for name in names if name in self._file.attrs}
        return stated | {name: self._each(name).astype(np.float64) for name in names if self._says(name)}

    def _says(self, name: str) -> bool:
        """Return whether the trajectories say a number each, in an attribute of their groups."""
        return any(name in self._file[group].attrs for group in self._names)

    def _each(self, name: str) -> npt.NDArray[Any]:
        lacking = [group for group in self._names if name not in self._file[group].attrs]
        if lacking:
            raise DataError(
                f"{self.path}: {len(lacking)} of {self.num_samples} trajectories, {lacking[0]} the first, have no "
                f"attribute `{name}`, which the others have. Say it for each, or in a root attribute for all."
            )
        values = np.array([self._file[group].attrs[name] for group in self._names])
        if values.ndim != 1 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise DataError(f"{self.path}: the attributes `{name}` of the trajectories are not one finite number each.")
        return values

    def _equation(self) -> str:
        stated = self._file.attrs.get(EQUATION)
        known = [name for name, equation in EQUATIONS.items() if not equation.steady]
        if stated not in known:
            raise DataError(
                f"{self.path} is a grouped file that states the equation {stated!r} in its attribute `{EQUATION}`; one "
                f"of {', '.join(known)} was expected. PDEBench's grouped files (two-dimensional diffusion-reaction, "
                "shallow water) hold other equations, with walls, which this project does not model."
            )
        return str(stated)

    def _checked_shape(self, rank: int) -> tuple[int, ...]:
        shape = tuple(int(size) for size in self._file[self._names[0]][DATA].shape)
        if len(shape) != rank + 2 or shape[-1] != len(self.channels) or 0 in shape:
            raise DataError(
                f"{self.path}: {self._names[0]}/{DATA} has shape {shape}; (frames, {', '.join(AXES[:rank])}, "
                f"{len(self.channels)} channels: {', '.join(self.channels)}) was expected for '{self.equation}'."
            )
        names = self._file.attrs.get(CHANNELS)
        if names is not None and tuple(str(name) for name in names) != self.channels:
            raise DataError(
                f"{self.path} has the channels {[str(name) for name in names]}; {list(self.channels)} were expected."
            )
        periodic = self._file.attrs.get(PERIODIC)
        expected = EQUATIONS[str(self.equation)].periodic
        if periodic is not None and any(bool(wraps) != expected for wraps in periodic):
            raise DataError(
                f"{self.path} states periodic = {[bool(wraps) for wraps in periodic]}; all {expected} was expected for "
                f"'{self.equation}'."
            )
        return shape

    def _axis(self, name: str, count: int) -> Axis:
        if name not in self._file:
            raise DataError(f"{self.path} has no dataset `{name}`; without it spacing and units are unknown.")
        values = np.asarray(self._file[name][()])
        if values.shape not in ((count,), (count + 1,)):
            raise DataError(f"{self.path}: {name} has shape {values.shape}; {count} values were expected.")
        return regular_axis(values[:count], f"{self.path}: {name}")

    def _check_strides(self, points: list[int], frames: int) -> None:
        for count in points:
            if count % self.space_stride or count // self.space_stride < _FEWEST_POINTS:
                raise DataError(
                    f"data.space_stride = {self.space_stride} must divide the {points} points of {self.path} and leave "
                    f"at least {_FEWEST_POINTS} along each axis."
                )
        if len(range(0, frames, self.time_stride)) < _FEWEST_FRAMES:
            raise DataError(
                f"data.time_stride = {self.time_stride} leaves fewer than {_FEWEST_FRAMES} of the {frames} frames of "
                f"{self.path}. Use a stride <= {frames - 1}."
            )
