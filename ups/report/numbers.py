"""How numbers are written on the page."""

from __future__ import annotations

import math

from ups.evaluation.claims.rules import Estimate

NOTHING = "–"


def error(value: float | None) -> str:
    """Return an error: "1.23e-02"."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.2e}"


def error_interval(low: float | None, high: float | None) -> str:
    """Return the interval of an error: "1.10e-02 to 1.36e-02"; "" if there is none."""
    return "" if low is None or high is None else f"{low:.2e} to {high:.2e}"


def share(value: float | None) -> str:
    """Return a relative difference: "+12.3 %"."""
    return NOTHING if value is None else f"{100 * value:+.1f} %"


def interval(low: float | None, high: float | None, write: str = "share") -> str:
    """Return "low to high" in the way `effect` writes one number."""
    return NOTHING if low is None or high is None else f"{effect(low, write)} to {effect(high, write)}"


def effect(value: float | None, unit: str) -> str:
    """Return a claim's number: a share, a factor, or a plain number with its unit."""
    if value is None:
        return NOTHING
    if unit == "share":
        return share(value)
    if unit == "factor":
        return f"{value:.2f} ×"
    return f"{value:.3g}" + ("" if unit == "number" else f" {unit}")


def detectable(estimate: Estimate | None, unit: str) -> str:
    """Return the smallest effect that could have been found."""
    if estimate is None:
        return NOTHING
    if estimate.detectable is None:
        return f"none: {estimate.seeds} of {estimate.needed} runs"
    found = estimate.detectable
    if unit == "share":
        return f"±{100 * abs(found):.1f} %"
    return effect(found, unit) if unit == "factor" else f"±{effect(abs(found), unit)}"


def seconds(value: float | None) -> str:
    """Return a duration in a unit that fits."""
    if value is None:
        return NOTHING
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"
