"""Overfitting: the gap between train and validation, and a training loss that falls while forecasts become worse.

The gap is watched across the epochs of one training, the correlation of the corrector's training loss with the error of
rollouts across its epochs and across runs. An alarm rings only where the interval of what it is about leaves out zero,
so that a handful of epochs or runs cannot ring it by chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from ups.evaluation.trend import fit

ALARM_BELOW = -0.2
MAX_GAP = 1.2
_FEWEST_EPOCHS = 6  # that a trend is looked for in, if there are as many
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


def epoch_correlation(losses: Sequence[float], errors: Sequence[float]) -> dict[str, Any]:
    """Correlate the training loss of a corrector with the error of rollouts across the epochs of one training.

    Args:
        losses, errors: after each epoch.

    Returns:
        `epochs`, `r` with its interval `low` and `high` (None where too few epochs count, see `ups.evaluation.trend`),
        and `alarm`: r < -.2 and both the interval of r and that of the slope lie below zero.
    """
    line = fit(losses, errors)
    below = line.r_high is not None and line.r_high < 0.0 and line.high is not None and line.high < 0.0
    alarm = below and line.r is not None and line.r < ALARM_BELOW
    return {"epochs": len(losses), "r": line.r, "low": line.r_low, "high": line.r_high, "alarm": alarm}


def overfitting(train: Sequence[float], validation: Sequence[float]) -> dict[str, Any]:
    """Return the gap between validation and training loss, its trend, and whether that is an alarm.

    Args:
        train, validation: the same loss on either split after each epoch, measured with the same weights.

    Returns:
        `gap` = last validation / last train; `gap_slope` = its least-squares slope per epoch over the last half of
        training, or its last six epochs if that is more; `gap_slope_low`, `gap_slope_high` its 95 % interval, None
        where too few epochs count; `overfits` = gap above 1.2 and rising, with an interval above zero.
    """
    gaps = [v / max(t, 1e-30) for t, v in zip(train, validation, strict=True)]
    if not gaps:
        return {"gap": 1.0, "gap_slope": 0.0, "gap_slope_low": None, "gap_slope_high": None, "overfits": False}
    tail = gaps[min(len(gaps) // 2, max(len(gaps) - _FEWEST_EPOCHS, 0)) :]
    line = fit(range(len(tail)), tail)
    rises = line.low is not None and line.low > 0.0
    slope = {"gap_slope": line.slope or 0.0, "gap_slope_low": line.low, "gap_slope_high": line.high}
    return {"gap": gaps[-1], **slope, "overfits": gaps[-1] > MAX_GAP and rises}


def gap_in_words(state: Mapping[str, Any]) -> str | None:
    """Return the alarm of `overfitting` as a sentence; None where it is silent."""
    if not state.get("overfits"):
        return None
    said = f"OVERFITS: validation loss {state['gap']:.2f} times the training loss and rising"
    low, high = state.get("gap_slope_low"), state.get("gap_slope_high")
    interval = "" if low is None or high is None else f" by {low:.2g} to {high:.2g} per epoch (95 % interval)"
    return f"{said}{interval}."


def correlation_in_words(found: Mapping[str, Any]) -> str | None:
    """Return the alarm of `epoch_correlation` as a sentence; None where it is silent."""
    if not found.get("alarm"):
        return None
    interval = f"95 % interval {found['low']:+.2f} to {found['high']:+.2f}"
    return (
        f"OVERFITS: across {found['epochs']} epochs rollouts become worse as the training loss falls (correlation "
        f"{found['r']:+.2f}, {interval})."
    )
