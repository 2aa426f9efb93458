"""A comparison in words: the verdict first, then the numbers that it rests on."""

from __future__ import annotations

from collections.abc import Sequence

from ups.evaluation.comparison import Comparison, SeedPair, Verdict
from ups.evaluation.seed_tests import MIN_PAIRS


def describe(comparison: Comparison) -> list[str]:
    """Return the lines that report one comparison."""
    lines = [
        f"{comparison.method} against {comparison.reference}: {comparison.verdict}",
        *(f"  {line}" for line in _reasons(comparison)),
        f"  By seed (intervals over {_trajectories(comparison)} trajectories, for the two models of that seed alone):",
    ]
    return [*lines, *(f"    {_pair(comparison, pair)}" for pair in comparison.pairs)]


def _reasons(comparison: Comparison) -> list[str]:
    count = len(comparison.pairs)
    if comparison.verdict is Verdict.DIVERGED:
        seeds = ", ".join(str(pair.seed) for pair in comparison.pairs if pair.difference is None)
        return [f"In seeds {seeds} a forecast diverged, so there is no mean to compare; none is left out."]
    lines = [f"Difference {_difference(comparison)} over {count} seeds."]
    if comparison.low is not None:
        alone = ", for this comparison alone" if comparison.comparisons > 1 else ""
        interval = _interval(comparison, comparison.low, comparison.high)
        lines.append(f"{1 - comparison.level:.0%} interval over seeds{alone}: {interval}.")
    if comparison.verdict is Verdict.TOO_FEW:
        return [
            *lines,
            f"{count} seeds are fewer than the {MIN_PAIRS} that a verdict needs: run {MIN_PAIRS - count} more.",
        ]
    if comparison.identical:
        return [*lines, "Both gave the same numbers in every seed: they are the same surrogate."]
    return [*lines, _p_values(comparison), _detectable(comparison)]


def _p_values(comparison: Comparison) -> str:
    holm = f", after Holm's correction for {comparison.comparisons} comparisons {_p(comparison.p_holm)}"
    corrected = holm if comparison.comparisons > 1 else ""
    return (
        f"Paired t test: p = {_p(comparison.p_value)}{corrected} (a verdict needs p < {comparison.level:g}). "
        f"Sign-flip test: p = {_p(comparison.p_sign_flip)}."
    )


def _detectable(comparison: Comparison) -> str:
    relative = comparison.relative(comparison.detectable)
    share = "" if relative is None else f" ({abs(relative):.1%} of {comparison.reference})"
    return (
        f"Smallest true difference that these seeds would show with probability {comparison.power:g}: "
        f"{comparison.detectable:.2e}{share}."
    )


def _difference(comparison: Comparison) -> str:
    relative = comparison.relative(comparison.difference)
    share = "" if relative is None else f" ({relative:+.1%})"
    return f"{comparison.difference:+.2e}{share} from {comparison.reference_mean:.3e}"


def _interval(comparison: Comparison, low: float | None, high: float | None) -> str:
    absolute = f"{low:+.2e} to {high:+.2e}"
    shares = [comparison.relative(value) for value in (low, high)]
    return absolute if None in shares else f"{absolute} ({shares[0]:+.1%} to {shares[1]:+.1%})"


def _trajectories(comparison: Comparison) -> str:
    return " or ".join(str(count) for count in sorted({pair.trajectories for pair in comparison.pairs}))


def _pair(comparison: Comparison, pair: SeedPair) -> str:
    sides = zip((comparison.method, comparison.reference), (pair.method, pair.reference), strict=True)
    means = ", ".join(f"{name} {'diverged' if value is None else f'{value:.3e}'}" for name, value in sides)
    shown = f"seed {pair.seed}: {means}"
    if pair.difference is None:
        return shown
    within = "" if pair.low is None else f" [{pair.low:+.2e}, {pair.high:+.2e}]"
    return f"{shown}, difference {pair.difference:+.2e}{within}"


def _p(value: float | None) -> str:
    return "none" if value is None else f"{value:.2g}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as aligned lines, the first row being the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
