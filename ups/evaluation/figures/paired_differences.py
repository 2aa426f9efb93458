"""Paired differences by seed, and their mean with the interval that decides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ups.evaluation.comparison import HIGHER_IS_BETTER, Comparison
from ups.evaluation.figures.style import BLACK, BLUE, GREY, RED, new_figure, save, styled, with_unit

# Every other metric is in the unit of the field.
_UNITS = {"nrmse": "1", "vrmse": "1", "relative_l2": "1", "correlation_time": "unit of time"}


@styled
def draw_paired_differences(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write the figure: one panel per comparison.

    Args:
        path: the PNG.
        comparisons: their seeds are drawn as circles with thin intervals over trajectories, the mean over seeds as a
            square with a thick interval, and the smallest detectable difference as dotted lines; a seed whose forecast
            diverged is a cross on the zero line.
    """
    figure, axes = new_figure(len(comparisons), 1, 7.2, 3.4 * len(comparisons) + 0.7)
    for axis, comparison in zip(axes[:, 0], comparisons, strict=True):
        _draw(axis, comparison)
    handles = {
        label: handle for axis in axes[:, 0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    save(figure, path)


def _draw(axis: Any, comparison: Comparison) -> None:
    question, confidence = comparison.question, f"{1 - comparison.level:.0%} interval"
    axis.axhline(0.0, color=GREY, linewidth=1)
    known = [(at, pair) for at, pair in enumerate(comparison.pairs) if pair.difference is not None]
    if known:
        places = [at for at, _ in known]
        middles = [pair.difference or 0.0 for _, pair in known]
        below = [middle - (middle if p.low is None else p.low) for middle, (_, p) in zip(middles, known, strict=True)]
        above = [(middle if p.high is None else p.high) - middle for middle, (_, p) in zip(middles, known, strict=True)]
        axis.errorbar(
            places,
            middles,
            yerr=[below, above],
            color=BLUE,
            fmt="o",
            markerfacecolor="white",
            linewidth=1,
            capsize=2,
            label=f"one seed, {confidence} over its trajectories",
        )
    lost = [at for at, pair in enumerate(comparison.pairs) if pair.difference is None]
    if lost:
        axis.plot(lost, [0.0] * len(lost), "x", color=RED, markersize=9, label="a forecast diverged")
    last = len(comparison.pairs)
    if comparison.difference is not None:
        middle, low, high = comparison.difference, comparison.low, comparison.high
        axis.errorbar(
            [last],
            [middle],
            yerr=None if low is None or high is None else [[middle - low], [high - middle]],
            color=BLACK,
            fmt="s",
            markersize=7,
            linewidth=3,
            capsize=6,
            label=f"mean over seeds, {confidence} over seeds",
        )
    if comparison.detectable:
        for side in (-1, 1):
            axis.axhline(
                side * comparison.detectable,
                color=GREY,
                linestyle=":",
                label=f"smallest difference detectable with probability {comparison.power:g}" if side > 0 else None,
            )
    axis.set_xticks(range(last + 1), [*(str(pair.seed) for pair in comparison.pairs), "mean"])
    axis.axvline(last - 0.5, color=GREY, linewidth=0.6)
    axis.set_xlim(-0.6, last + 0.6)
    axis.grid(visible=False, axis="x")
    axis.set_xlabel("seed")
    good = "above" if question.metric in HIGHER_IS_BETTER else "below"
    unit = _UNITS.get(question.metric, "unit of the field")
    axis.set_ylabel(with_unit(f"difference of {question.metric}, {good} 0 is better", unit))
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    axis.set_title(f"{comparison.method} – {comparison.reference}: {comparison.verdict}\n({question})")
    if comparison.reference_mean:
        mean = comparison.reference_mean
        other = axis.secondary_yaxis(
            "right", functions=(lambda value: 100 * value / mean, lambda share: share * mean / 100)
        )
        other.set_ylabel(f"share of {comparison.reference}'s mean [%]")
