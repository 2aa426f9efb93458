"""PDEBench's HDF5 layout of Darcy flow: writer and reader.

`nu` (N, X, Y) the permeability a, `tensor` (N, 1, X, Y) the solution u, both float32, `x-coordinate`, `y-coordinate`,
and an attribute `beta` with the force. A steady problem is read as a trajectory of one frame with the fields a and u.
Shapes: N samples, B in a batch, X x Y points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from ups.data.axes import regular_axis, strided_grid
from ups.data.fields import Grid
from ups.data.file_source import FileSource
from ups.data.file_writer import FileWriter, Note
from ups.data.flat_layout import TENSOR, Number
from ups.data.units import stated_units
from ups.data.write_errors import plain_write_errors
from ups.errors import DataError
from ups.parameters.equations import EQUATIONS

PERMEABILITY, FORCE = "nu", "beta"
COORDINATES = ("x-coordinate", "y-coordinate")
CHUNK_BYTES = 64 * 2**20


class DarcyWriter(FileWriter):
    """Write a Darcy file batch by batch; use it as a context manager. Arguments as `GroupedWriter`, without times."""

    def __init__(
        self,
        path: Path,
        coefficients: Mapping[str, float],
        samples: int,
        grid: Grid,
        notes: Mapping[str, Note],
    ) -> None:
        super().__init__(path, 8 * samples * math.prod(grid.points))
        self.permeability = self.file.create_dataset(PERMEABILITY, shape=(samples, *grid.points), dtype=np.float32)
        self.solution = self.file.create_dataset(TENSOR, shape=(samples, 1, *grid.points), dtype=np.float32)
        for axis, name in enumerate(COORDINATES):
            self.file[name] = grid.coordinates(axis).numpy()
        self.file.attrs[FORCE] = coefficients["force"]
        for name, value in notes.items():
            self.file.attrs[name] = value

    def write(self, start: int, fields: npt.NDArray[np.float32]) -> None:
        """Write fields (B, 1, 2, X, Y) as the samples start .. start + B - 1."""
        with plain_write_errors(self.path):
            self.permeability[start : start + len(fields)] = fields[:, 0, 0]
            self.solution[start : start + len(fields)] = fields[:, :, 1]


class DarcySource(FileSource):
    """An open Darcy file; see `ups.data.readers.Source`."""

    layout = "pdebench-darcy"
    equation: str | None = "darcy"
    channels = EQUATIONS["darcy"].channel_names
    dt = first_time = 0.0
    num_frames = 1

    def __init__(self, file: h5py.File, path: Path, space_stride: int, time_stride: int) -> None:
        super().__init__(file, path)
        self._permeability, self._solution = file[PERMEABILITY], file[TENSOR]
        shape = self._permeability.shape
        if len(shape) != 3 or self._solution.shape != (shape[0], 1, *shape[1:]):
            raise DataError(
                f"{path}: `{PERMEABILITY}` has shape {shape} and `{TENSOR}` {self._solution.shape}; (samples, x, y) "
                "and (samples, 1, x, y) were expected."
            )
        if (space_stride, time_stride) != (1, 1):
            raise DataError(
                f"data.space_stride = {space_stride} and data.time_stride = {time_stride} must be 1 for {path}: every "
                "n-th cell centre of a bounded domain is no grid of cell centres any more, and there is no time. "
                "Average over blocks of cells in a file of your own instead."
            )
        self.coefficients: dict[str, Number] = dict(self._force())
        self.initial: npt.NDArray[np.int64] | None = None  # every medium its own
        stated = stated_units(file, path, self.channels)
        self.units, self.time_unit = stated.fields, stated.time
        self.num_samples = shape[0]
        axes = [
            regular_axis(self._coordinate(name, points), f"{path}: {name}")
            for name, points in zip(COORDINATES, shape[1:], strict=True)
        ]
        self.grid = strided_grid(axes, 1, periodic=False, unit=stated.length)

    def chunks(self, start: int, stop: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the samples start .. stop - 1 in order, (B, 1, 2, X, Y) float32: permeability and solution.

        Raises:
            DataError: if a value is NaN or Inf, or a permeability is not positive.
        """
        rows = max(1, CHUNK_BYTES // (8 * math.prod(self.grid.points)))
        for begin in range(start, stop, rows):
            end = min(begin + rows, stop)
            fields = [self._permeability[begin:end], self._solution[begin:end, 0]]
            block = np.stack(fields, axis=1).astype(np.float32)[:, None]
            wrong = ~np.isfinite(block)
            wrong[:, :, 0] |= block[:, :, 0] <= 0
            if wrong.any():
                sample, _, channel, row, column = (int(i) for i in np.argwhere(wrong)[0])
                raise DataError(
                    f"{self.path} holds {self.channels[channel]} = {block[sample, 0, channel, row, column]} in sample "
                    f"{begin + sample} at ({row}, {column}). Leave the sample out by "
                    "`data.splits` (or --samples), or make the file again."
                )
            yield block

    def _force(self) -> dict[str, float]:
        return {"force": float(np.asarray(self._file.attrs[FORCE]).reshape(()))} if FORCE in self._file.attrs else {}

    def _coordinate(self, name: str, points: int) -> npt.NDArray[np.floating]:
        if name not in self._file or self._file[name].shape != (points,):
            raise DataError(f"{self.path} has no dataset `{name}` with {points} values.")
        values: npt.NDArray[np.floating] = np.asarray(self._file[name][()])
        return values
