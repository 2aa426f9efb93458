"""Which layout data of an equation are written in, the counterpart of `ups.data.readers`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ups.data.darcy_layout import DarcyWriter
from ups.data.fields import Grid
from ups.data.file_writer import FileWriter, Note
from ups.data.flat_layout import ATTRIBUTES, FlatWriter, Number
from ups.data.grouped_layout import GroupedWriter


def create(
    path: Path,
    equation: str,
    coefficients: Mapping[str, Number],
    samples: int,
    grid: Grid,
    times: npt.NDArray[np.float64],
    notes: Mapping[str, Note],
    initial: npt.NDArray[np.int64] | None = None,
) -> FileWriter:
    """Begin a data file: flat for one field on a line, PDEBench's Darcy layout for Darcy, grouped for the rest.

    Args:
        path: the new file.
        equation, coefficients: what it holds; a coefficient is one number or an array (N,).
        samples: number of trajectories.
        grid: of the fields.
        times: (T,) of the frames.
        notes: further attributes.
        initial: (N,), number of the initial condition of each trajectory, where several share one.
    """
    if equation in ATTRIBUTES:
        return FlatWriter(path, equation, coefficients, samples, grid.coordinates().numpy(), times, notes, initial)
    if equation == "darcy":
        return DarcyWriter(path, {"force": float(coefficients["force"])}, samples, grid, notes)
    return GroupedWriter(path, equation, coefficients, samples, grid, times, notes, initial)
