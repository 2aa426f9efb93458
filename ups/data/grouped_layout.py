"""PDEBench's grouped HDF5 layout, for problems with several fields or in two dimensions, and its writer.

One group for each trajectory, `0000`, `0001`, ...: `data` (t, x[, y], c) float32 and `grid/x`, `grid/y`, `grid/t`.
Files written here say in root attributes what they hold: `equation`, `channels`, `periodic` and the coefficients by
name. In a file of several regimes each trajectory's group has its coefficients, and the number of its initial condition
(`initial-condition`), as attributes of its own.

Shapes: N trajectories, B in a batch, T frames, C channels, *space the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ups.data.fields import Grid
from ups.data.file_writer import FileWriter, Note
from ups.data.flat_layout import INITIAL, Number
from ups.data.write_errors import plain_write_errors
from ups.parameters.equations import EQUATIONS

DATA, GRID, TIME = "data", "grid", "t"
AXES = ("x", "y", "z")
EQUATION, CHANNELS, PERIODIC = "equation", "channels", "periodic"


class GroupedWriter(FileWriter):
    """Write a grouped file batch by batch; use it as a context manager.

    Args:
        path: the new file.
        equation: its name.
        coefficients: its numbers by name, each one number or an array (N,).
        samples: number of trajectories N.
        grid: of the fields.
        times: (T,) times of the frames.
        notes: further attributes.
        initial: (N,), number of the initial condition of each trajectory; None: each has its own.
    """

    def __init__(
        self,
        path: Path,
        equation: str,
        coefficients: Mapping[str, Number],
        samples: int,
        grid: Grid,
        times: npt.NDArray[np.float64],
        notes: Mapping[str, Note],
        initial: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.grid, self.times = grid, times
        self._each: dict[str, npt.NDArray[Any]] = {
            name: value for name, value in coefficients.items() if isinstance(value, np.ndarray)
        }
        if initial is not None:
            self._each[INITIAL] = initial
        channels = EQUATIONS[equation].channel_names
        super().__init__(path, 4 * samples * len(times) * len(channels) * math.prod(grid.points))
        self.file.attrs[EQUATION] = equation
        self.file.attrs[CHANNELS] = list(channels)
        self.file.attrs[PERIODIC] = list(grid.periodic)
        for name, value in {**coefficients, **notes}.items():
            if name not in self._each:
                self.file.attrs[name] = value

    def write(self, start: int, fields: npt.NDArray[np.float32]) -> None:
        """Write fields (B, T, C, *space) as the trajectories start .. start + B - 1."""
        with plain_write_errors(self.path):
            for number, trajectory in enumerate(fields, start):
                group = self.file.create_group(f"{number:04d}")
                group[DATA] = np.moveaxis(trajectory, 1, -1)
                for name, values in self._each.items():
                    group.attrs[name] = values[number]
                for axis, name in enumerate(AXES[: self.grid.rank]):
                    group[f"{GRID}/{name}"] = self.grid.coordinates(axis).numpy()
                group[f"{GRID}/{TIME}"] = self.times
