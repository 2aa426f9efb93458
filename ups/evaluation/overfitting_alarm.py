"""Does a lower training loss of the corrector go with a worse forecast? A correlation across runs, and an alarm.

The alarm is for overfitting that the validation loss of one run does not show. It rings only where the interval of the
correlation leaves out zero, so that a handful of runs cannot ring it by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

ALARM_BELOW = -0.2
LEVEL = 0.05


@dataclass(frozen=True)
class LossCorrelation:
    """Correlation of training loss with forecast error across runs.

    Attributes:
        runs, groups: how many; runs of one group share a variant.
        r: Pearson's correlation, after the mean of each group was taken away; None where it is not defined (too few
            runs, or one of the two does not vary).
        low, high: its 95 % interval, by Fisher's transformation.
        alarm: r < -.2 and the interval lies below zero.
    """

    runs: int
    groups: int
    r: float | None
    low: float | None
    high: float | None
    alarm: bool


def loss_correlation(
    losses: Sequence[float], errors: Sequence[float], groups: Sequence[str] | None = None
) -> LossCorrelation:
    """Correlate losses with errors across runs.

    Variants that train the corrector longer differ in both numbers for other reasons than overfitting, so with
    `groups` only differences within a variant count. The interval is tanh(artanh r -+ z / sqrt(n - g - 2)), with g
    groups (g = 1: Fisher's n - 3).

    Args:
        losses: final training loss of the corrector, one per run.
        errors: forecast error of the same runs.
        groups: the variant of each run; None takes all runs as one group.
    """
    if len(losses) != len(errors) or (groups is not None and len(groups) != len(losses)):
        raise ValueError(f"{len(losses)} losses, {len(errors)} errors and {len(groups or losses)} groups do not pair")
    labels = np.array(groups if groups is not None else ["all"] * len(losses))
    names = sorted(set(labels.tolist()))
    first, second = np.array(losses, dtype=float), np.array(errors, dtype=float)
    for name in names:
        inside = labels == name
        first[inside] -= first[inside].mean()
        second[inside] -= second[inside].mean()
    none = LossCorrelation(len(losses), len(names), None, None, None, alarm=False)
    freedom = len(losses) - len(names) - 2
    size = math.sqrt(float((first**2).sum() * (second**2).sum()))
    # Centred copies of one number leave rounding errors, whose correlation means nothing.
    sides = ((first, losses), (second, errors))
    vary = all(np.abs(rest).max(initial=0.0) > 1e-12 * np.abs(values).max(initial=0.0) for rest, values in sides)
    if freedom < 1 or not vary or not math.isfinite(size):
        return none
    r = float((first * second).sum() / size)
    if abs(r) >= 1.0 - 1e-12:
        return LossCorrelation(len(losses), len(names), r, r, r, alarm=r < ALARM_BELOW)
    half = float(stats.norm.ppf(1 - LEVEL / 2)) / math.sqrt(freedom)
    low, high = math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
    return LossCorrelation(len(losses), len(names), r, low, high, alarm=r < ALARM_BELOW and high < 0.0)
