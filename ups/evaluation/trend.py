"""A straight line through numbers of one training, epoch after epoch, and how sure its slope is.

Neighbouring epochs resemble each other, so they are worth fewer than their number. With rho the correlation of a
residual of the line with the next one, n epochs count as n (1 - rho) / (1 + rho) (Santer et al. 2000, "Statistical
significance of trends", for the slope; Quenouille 1952 for the correlation). An interval that took them for independent
would find a trend in every second random walk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05


@dataclass(frozen=True)
class Line:
    """y = a + slope x, by least squares.

    Attributes:
        slope: in units of y per unit of x; None where x does not vary.
        low, high: its 95 % interval; None where too few epochs count.
        r: Pearson's correlation of x and y; None where one of them does not vary.
        r_low, r_high: its 95 % interval, by Fisher's transformation.
        counted: how many independent points the points are worth.
    """

    slope: float | None
    low: float | None
    high: float | None
    r: float | None
    r_low: float | None
    r_high: float | None
    counted: float


NO_LINE = Line(None, None, None, None, None, None, 0.0)


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """Fit a line through points that follow each other in time.

    Args:
        x, y: as many numbers each; with fewer than three points there is no interval, with fewer than two no line.

    Raises:
        ValueError: if the numbers do not pair.
    """
    if len(x) != len(y):
        raise ValueError(f"{len(x)} and {len(y)} numbers do not pair")
    first, second = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(first) < 2 or not (np.isfinite(first).all() and np.isfinite(second).all()) or not _varies(first):
        return NO_LINE
    away, rise = first - first.mean(), second - second.mean()
    spread = float((away**2).sum())
    slope = float((away * rise).sum()) / spread
    if not _varies(second):
        return Line(0.0, 0.0, 0.0, None, None, None, float(len(first)))
    residual = rise - slope * away
    unexplained = float((residual**2).sum())
    exact = unexplained <= 1e-24 * float((rise**2).sum())
    counted = float(len(first)) if exact else len(first) * _independent(residual)
    r = float((away * rise).sum()) / math.sqrt(spread * float((rise**2).sum()))
    freedom = counted - 2.0
    if freedom <= 0.0:
        return Line(slope, None, None, r, None, None, counted)
    half = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * math.sqrt(unexplained / freedom / spread)
    r_low, r_high = _interval(r, counted)
    return Line(slope, slope - half, slope + half, r, r_low, r_high, counted)


def _interval(r: float, counted: float) -> tuple[float | None, float | None]:
    if abs(r) >= 1.0 - 1e-12:
        return r, r
    if counted <= 3.0:
        return None, None
    half = float(stats.norm.ppf(1 - LEVEL / 2)) / math.sqrt(counted - 3.0)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def _independent(residual: np.ndarray) -> float:
    """Return which share of the points counts, at most 1: neighbours that alternate are no reason to count more."""
    rho = float((residual[1:] * residual[:-1]).sum() / (residual**2).sum())
    rho = min(max(rho, 0.0), 0.99)
    return (1.0 - rho) / (1.0 + rho)


def _varies(values: np.ndarray) -> bool:
    """Tell whether numbers differ by more than rounding."""
    return bool(np.abs(values - values.mean()).max() > 1e-12 * np.abs(values).max(initial=0.0))
