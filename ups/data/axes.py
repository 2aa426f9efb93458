"""Regular axes recovered from stored coordinates, with the rounding of their storage format taken into account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ups.data.fields import Grid
from ups.errors import DataError

_DECIMALS = 6  # a spacing or corner is taken as a round number if that reproduces the stored values to rounding


@dataclass(frozen=True)
class Axis:
    """Equidistant values first + i * spacing, i = 0 .. count - 1."""

    first: float
    spacing: float
    count: int


def floats(values: npt.NDArray[Any]) -> npt.NDArray[np.floating]:
    """Return stored coordinates as they are if they are floats, whose type says how they were rounded, else float64."""
    return values if values.dtype.kind == "f" else values.astype(np.float64)


def regular_axis(values: npt.NDArray[np.floating], what: str) -> Axis:
    """Fit an equidistant axis to stored values.

    Args:
        values: (n,) values as stored; float32 storage leaves errors of 6e-8 times the largest value.
        what: name for error messages, e.g. "data/x.hdf5: x-coordinate".

    Raises:
        DataError: if there are fewer than two values, or they are not finite, increasing and equidistant.
    """
    if values.ndim != 1 or len(values) < 2:
        raise DataError(f"{what} has shape {values.shape}; a list of at least two values was expected.")
    stored = values.astype(np.float64)
    if not np.isfinite(stored).all():
        raise DataError(f"{what} holds NaN or Inf at position {int(np.argmin(np.isfinite(stored)))}.")
    count = len(stored)
    spacing = float(stored[-1] - stored[0]) / (count - 1)
    if not spacing > 0:
        raise DataError(f"{what} does not increase: it runs from {stored[0]:g} to {stored[-1]:g}.")
    deviation = np.abs(stored - (stored[0] + spacing * np.arange(count)))
    rounding = 4 * float(np.finfo(values.dtype).eps) * float(np.abs(stored).max())
    if deviation.max() > 1e-3 * spacing + rounding:
        worst = int(deviation.argmax())
        raise DataError(
            f"{what} is not equidistant: value {worst} is {stored[worst]:.8g} where {stored[0] + spacing * worst:.8g} "
            f"was expected from a spacing of {spacing:.6g}. Only regular grids and constant time steps can be used; "
            "interpolate the file onto one."
        )
    # Coordinates are cell centres, so for a grid it is the lower corner and the extent that are round numbers, and for
    # times the first value and the duration.
    for offset, length in ((0.5, count), (0.0, count - 1)):
        round_spacing = round(spacing * length, _DECIMALS) / length
        round_first = round(float(stored[0]) - offset * spacing, _DECIMALS) + offset * round_spacing
        if np.abs(round_first + round_spacing * np.arange(count) - stored).max() <= rounding:
            return Axis(round_first, round_spacing, count)
    return Axis(float(stored[0]), spacing, count)


def strided_grid(axes: Sequence[Axis], stride: int, periodic: bool = True, unit: str = "1") -> Grid:
    """Return the grid of every `stride`-th cell centre along each axis.

    The domain keeps its extent; the cells grow with the stride and their corner moves so that the centres stay where
    they were: x_{s i} = origin + (i + 1/2) s dx.
    """
    return Grid(
        extent=tuple(tidy(axis.count * axis.spacing) for axis in axes),
        points=tuple(axis.count // stride for axis in axes),
        origin=tuple(tidy(axis.first - stride * axis.spacing / 2) for axis in axes),
        periodic=(periodic,) * len(axes),
        unit=unit,
    )


def tidy(value: float) -> float:
    """Return the nearest number of nine decimals if `value` differs from it by rounding alone, else `value`."""
    rounded = round(value, 9)
    return rounded if abs(rounded - value) <= 4 * np.finfo(np.float64).eps * max(abs(value), 1.0) else value
