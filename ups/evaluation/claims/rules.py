"""From an interval to a verdict on a claim: one rule per kind of claim, stated where the verdict is shown.

A verdict needs as many seeds as a comparison of variants does. It rests on the interval alone:

* `direction` ("a beats b"): holds if the interval lies on the claimed side of no effect; does not hold if it lies on
  the other side, or contains no effect and leaves out the claimed size.
* `quantity` ("costs 16 to 24 times"): holds if the interval meets the claimed range and leaves out no effect; does not
  hold if it misses the range.
* `equivalence` ("gains nothing"): holds if the interval lies within the margin; does not hold if it lies outside.
* Whatever is left cannot be told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from scipy import optimize, stats

from ups.evaluation.comparison import Comparison
from ups.evaluation.overfitting_alarm import LEVEL as CORRELATION_LEVEL
from ups.evaluation.overfitting_alarm import LossCorrelation
from ups.evaluation.seed_tests import LEVEL, MIN_PAIRS, POWER, detectable_effect, paired_t

# An effect below this share of the error counts as none: claims without a size of their own are held against it.
MARGIN = 0.05


class ClaimVerdict(StrEnum):
    """What the results say about a claim."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    CANNOT_TELL = "cannot tell"
    NOT_MEASURED = "not measured here"


@dataclass(frozen=True)
class Estimate:
    """A measured effect.

    Attributes:
        value: the effect; None where a forecast diverged.
        low, high: its interval; None from a single seed.
        detectable: the smallest true effect that would have been found with probability `power`; None with too few
            seeds.
        seeds: how many replicates it rests on; with less than `needed` there is no verdict.
        null: the value that stands for no effect.
        confidence: of the interval.
        power: of `detectable`.
    """

    value: float | None
    low: float | None
    high: float | None
    detectable: float | None
    seeds: int
    null: float = 0.0
    confidence: float = 1.0 - LEVEL
    power: float = POWER
    needed: int = MIN_PAIRS


Decision = tuple[ClaimVerdict, str]


def direction(found: Estimate, claimed: float, sized: bool = True) -> Decision:
    """Judge "the effect has this sign".

    Args:
        found: the effect.
        claimed: sign and size.
        sized: whether the size is part of the claim, so that leaving it out speaks against the claim.
    """
    if (undecided := _undecidable(found)) is not None:
        return undecided
    low, high = _oriented(found, claimed)
    size = abs(claimed - found.null)
    if low > 0.0:
        smaller = ", though smaller than claimed" if high < size else ""
        return ClaimVerdict.HOLDS, f"the interval lies on the claimed side of no effect{smaller}"
    if high < 0.0:
        return ClaimVerdict.DOES_NOT_HOLD, "the interval lies on the opposite side of no effect"
    if sized and high < size:
        return ClaimVerdict.DOES_NOT_HOLD, "the interval holds no effect and leaves out one of the claimed size"
    also = "one of the claimed size" if sized else "effects on either side"
    return ClaimVerdict.CANNOT_TELL, f"the interval holds both no effect and {also}"


def quantity(found: Estimate, lowest: float, highest: float) -> Decision:
    """Judge "the effect lies between these two numbers"."""
    if (undecided := _undecidable(found)) is not None:
        return undecided
    low, high = _interval(found)
    if high < lowest or low > highest:
        return ClaimVerdict.DOES_NOT_HOLD, "the interval misses what is claimed"
    if low <= found.null <= high:
        return ClaimVerdict.CANNOT_TELL, "the interval holds both no effect and one of the claimed size"
    return ClaimVerdict.HOLDS, "the interval agrees with what is claimed and leaves out no effect"


def equivalence(found: Estimate, margin: float = MARGIN, side: Literal["both", "below", "above"] = "both") -> Decision:
    """Judge "there is no effect beyond a margin"; with a side, effects on the other one do not matter."""
    if (undecided := _undecidable(found)) is not None:
        return undecided
    low, high = _interval(found)
    lowest = -math.inf if side == "above" else found.null - margin
    highest = math.inf if side == "below" else found.null + margin
    if lowest < low and high < highest:
        return ClaimVerdict.HOLDS, "the interval lies within the margin"
    if high < lowest or low > highest:
        return ClaimVerdict.DOES_NOT_HOLD, "the interval lies outside of the margin"
    return ClaimVerdict.CANNOT_TELL, "the interval reaches across the margin"


def of_comparison(comparison: Comparison) -> Estimate:
    """Return the relative difference of two variants, a share of the reference's mean error."""

    def share(value: float | None) -> float | None:
        found = comparison.relative(value)
        return None if found is None else float(found)

    bounds = share(comparison.low), share(comparison.high)
    return Estimate(
        share(comparison.difference),
        *bounds,
        share(comparison.detectable),
        len(comparison.pairs),
        confidence=1.0 - comparison.level,
        power=comparison.power,
    )


def of_seeds(values: Mapping[int, float], level: float = LEVEL, null: float = 0.0, ratio: bool = False) -> Estimate:
    """Return the mean of one number per seed with its t interval; of ratios the geometric mean, by their logarithms."""
    numbers = list(values.values())
    if any(not math.isfinite(value) or (ratio and value <= 0.0) for value in numbers) or not numbers:
        return Estimate(None, None, None, None, len(numbers), null, 1.0 - level)
    scale = np.log(numbers) if ratio else np.asarray(numbers)
    back = math.exp if ratio else float
    if len(numbers) < 2:
        return Estimate(numbers[0], None, None, None, 1, null, 1.0 - level)
    test = paired_t(scale, level)
    detectable = None
    if len(numbers) >= MIN_PAIRS:
        smallest = detectable_effect(len(numbers), level, POWER) * test.stderr * math.sqrt(len(numbers))
        detectable = math.exp(smallest) if ratio else smallest
    return Estimate(back(test.mean), back(test.low), back(test.high), detectable, len(numbers), null, 1.0 - level)


def of_correlation(found: LossCorrelation) -> Estimate:
    """Return a correlation across runs; detectable by Fisher's transformation."""
    freedom = found.runs - found.groups - 2
    # As many degrees of freedom within variants as six seeds of one variant have.
    needed = max(1, found.groups) + MIN_PAIRS - 1
    reach = float(stats.norm.ppf(1 - CORRELATION_LEVEL / 2) + stats.norm.ppf(POWER))
    detectable = math.tanh(reach / math.sqrt(freedom)) if found.runs >= needed else None
    return Estimate(
        found.r,
        found.low,
        found.high,
        detectable,
        found.runs,
        confidence=1.0 - CORRELATION_LEVEL,
        needed=needed,
    )


def of_share(hits: int, runs: int, level: float = LEVEL) -> Estimate:
    """Return the share of runs in which something happened, with its exact interval (Clopper and Pearson, 1934).

    No effect is a share of one half: the interval leaves it out from six runs on, if all of them agree.
    """
    if not runs:
        return Estimate(None, None, None, None, 0, 0.5, 1.0 - level)
    interval = stats.binomtest(hits, runs).proportion_ci(1.0 - level, method="exact")
    return Estimate(
        hits / runs, float(interval.low), float(interval.high), _detectable_share(runs, level), runs, 0.5, 1.0 - level
    )


def _detectable_share(runs: int, level: float) -> float | None:
    if runs < MIN_PAIRS:
        return None
    needed = next(k for k in range(runs + 1) if stats.beta.ppf(level / 2, max(k, 1e-9), runs - k + 1) > 0.5)
    return float(optimize.brentq(lambda p: stats.binom.sf(needed - 1, runs, p) - POWER, 0.0, 1.0))


def _undecidable(found: Estimate) -> Decision | None:
    if found.seeds < found.needed:
        return ClaimVerdict.CANNOT_TELL, f"too few runs: {found.seeds} of the {found.needed} that a verdict needs"
    if found.value is None or found.low is None or found.high is None:
        return ClaimVerdict.CANNOT_TELL, "there is no number to judge: a forecast diverged, or nothing varied"
    return None


def _interval(found: Estimate) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def _oriented(found: Estimate, claimed: float) -> tuple[float, float]:
    """Return the interval's distance from no effect, positive on the claimed side."""
    low, high = _interval(found)
    if claimed >= found.null:
        return low - found.null, high - found.null
    return found.null - high, found.null - low
