"""Reader of The Well's files (`ups.data.well`) that hold an equation of this project, as they stand.

Such a file has the fields of one equation as its scalar fields, changing in time, on a periodic Cartesian grid on a
line or a plane. Everything else is refused with what the file holds and what to do: fields of other names and the
vorticity of a velocity can be taken over with `ups data import`, walls and third dimensions cannot.

Shapes: N trajectories, B in a chunk, T frames, C channels, *space the grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from ups.data.axes import strided_grid, tidy
from ups.data.file_source import FileSource
from ups.data.flat_layout import Number
from ups.data.grouped_layout import EQUATION
from ups.data.units import stated_units
from ups.data.well import CARTESIAN, WellContents, contents, read_axes
from ups.errors import DataError
from ups.parameters.equations import EQUATIONS

CHUNK_BYTES = 64 * 2**20
_LARGEST_RANK = 2
_FEWEST_POINTS = 8
_FEWEST_FRAMES = 2


class WellSource(FileSource):
    """An open file of The Well; see `ups.data.readers.Source`.

    Its equation is that of the root attribute `equation`, which The Well's own files do not have: then it is None, and
    `coefficients` are all its constant scalars, by the names they have in the file.
    """

    layout = "the-well"

    def __init__(self, file: h5py.File, path: Path, space_stride: int, time_stride: int) -> None:
        super().__init__(file, path)
        self.space_stride, self.time_stride = space_stride, time_stride
        made = contents(file, path)
        check_domain(made)
        self.equation: str | None = _equation(file, made)
        self.channels = _channels(made, self.equation)
        self._check_shapes(made)
        units = stated_units(file, path, self.channels)
        self.units, self.time_unit = units.fields, units.time
        self.coefficients: dict[str, Number] = dict(made.scalars)
        self.initial: npt.NDArray[np.int64] | None = None
        self._check_coefficients(made)
        axes, time = read_axes(file, made)
        self._check_strides(made)
        self.grid = strided_grid(axes, space_stride, unit=units.length)
        self.dt, self.first_time = tidy(time.spacing * time_stride), time.first
        self.num_samples = made.samples
        self.num_frames = len(range(0, made.frames, time_stride))
        self._frame_bytes = 4 * len(self.channels) * math.prod(made.points)

    def chunks(self, start: int, stop: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the trajectories start .. stop - 1 in order, (B, T, C, *space) float32.

        Raises:
            DataError: if a value is NaN or Inf.
        """
        rows = max(1, CHUNK_BYTES // (self.num_frames * self._frame_bytes))
        thinned = (slice(None), slice(None), *(slice(None, None, self.space_stride),) * self.grid.rank)
        for begin in range(start, stop, rows):
            part = slice(begin, min(begin + rows, stop))
            # Whole frames are contiguous in the file; taking every n-th point is cheaper in memory than in HDF5.
            fields = [self._file[f"t0_fields/{name}"][part, :: self.time_stride] for name in self.channels]
            block = np.stack([field[thinned].astype(np.float32) for field in fields], axis=2)
            self._check_finite(block, begin)
            yield block

    def _check_shapes(self, made: WellContents) -> None:
        expected = (made.samples, made.frames, *made.points)
        for name in self.channels:
            shape = self._file[f"t0_fields/{name}"].shape
            if shape != expected:
                raise DataError(
                    f"{made}: t0_fields/{name} has shape {shape}; (trajectories, frames, {', '.join(made.axes)}) = "
                    f"{expected} was expected from `dimensions`."
                )

    def _check_coefficients(self, made: WellContents) -> None:
        names = {name for equation in _fitting(made) for name in EQUATIONS[equation].coefficient_names}
        varying = sorted(names & set(made.varying_scalars))
        if varying:
            raise DataError(
                f"{made}: the scalar {' and '.join(varying)} differs between trajectories or in time; one value for "
                "the whole file is needed. Make a file for each value."
            )

    def _check_strides(self, made: WellContents) -> None:
        for count in made.points:
            if count % self.space_stride or count // self.space_stride < _FEWEST_POINTS:
                raise DataError(
                    f"data.space_stride = {self.space_stride} must divide the {list(made.points)} points of "
                    f"{self.path} and leave at least {_FEWEST_POINTS} along each axis."
                )
        if len(range(0, made.frames, self.time_stride)) < _FEWEST_FRAMES:
            raise DataError(
                f"data.time_stride = {self.time_stride} leaves fewer than {_FEWEST_FRAMES} of the {made.frames} frames "
                f"of {self.path}. Use a stride <= {made.frames - 1}."
            )

    def _check_finite(self, block: npt.NDArray[np.float32], first: int) -> None:
        finite = np.isfinite(block)
        if not finite.all():
            sample, frame, channel = (int(i) for i in np.argwhere(~finite)[0][:3])
            raise DataError(
                f"{self.path} holds NaN or Inf in {self.channels[channel]}, sample {first + sample}, frame "
                f"{frame * self.time_stride} (counted from 0). Leave the sample out by `data.splits` (or --samples)."
            )


def check_domain(made: WellContents) -> None:
    """Refuse what no model here can be put on.

    Raises:
        DataError: if the grid is not Cartesian, not periodic along every axis, or three-dimensional.
    """
    if made.grid_type != CARTESIAN:
        raise DataError(
            f"{made} has a {made.grid_type} grid. The models need Cartesian coordinates: interpolate the fields onto a "
            "regular Cartesian grid and write them with ups.data.arrays.write_dataset, or choose another dataset."
        )
    if len(made.axes) > _LARGEST_RANK:
        raise DataError(
            f"{made} is {len(made.axes)}-dimensional. Lines and planes can be modelled: take a slice only if it is a "
            "problem of its own, or choose another dataset."
        )
    if not all(made.periodic):
        walls = ", ".join(
            f"{axis}: {' and '.join(made.boundaries[axis]) or 'not stated'}"
            for axis, wraps in zip(made.axes, made.periodic, strict=True)
            if not wraps
        )
        raise DataError(
            f"{made} is not periodic ({walls}). Codec and operator are for periodic domains, and padding a wall "
            "would change the problem; choose a periodic dataset, such as shear_flow."
        )


def _equation(file: h5py.File, made: WellContents) -> str | None:
    stated = file.attrs.get(EQUATION)
    if stated is not None and stated not in EQUATIONS:
        raise DataError(f"{made} states the equation {stated!r}; one of {', '.join(EQUATIONS)} was expected.")
    return None if stated is None else str(stated)


def _channels(made: WellContents, equation: str | None) -> tuple[str, ...]:
    """Return the fields in the order in which their equation has them."""
    fitting = [equation] if equation in _fitting(made) else [] if equation else _fitting(made)
    if not fitting:
        known = "; ".join(
            f"{name} has {', '.join(known.channel_names)}"
            for name, known in EQUATIONS.items()
            if known.rank == len(made.axes) and not known.steady
        )
        raise DataError(
            f"{made} cannot be read as it is: {made.described()}. "
            + (f"It states '{equation}'. " if equation else "")
            + f"Its fields must be those of an equation, scalars that change in time: in {len(made.axes)} "
            f"dimension(s) {known}. If it holds one of these under other names, or a plane's velocity, "
            f"`ups data import {made.path} -o data/NAME.h5 --equation EQUATION --field CHANNEL=FIELD` takes it over "
            "(FIELD may be curl:VELOCITY); docs/own-data.md has an example."
        )
    return EQUATIONS[fitting[0]].channel_names


def _fitting(made: WellContents) -> list[str]:
    """Return the equations whose fields are exactly those of the file."""
    if any(field.order or not field.varies for field in made.fields):
        return []
    names = sorted(field.name for field in made.fields)
    return [
        name
        for name, equation in EQUATIONS.items()
        if not equation.steady and equation.rank == len(made.axes) and sorted(equation.channel_names) == names
    ]
