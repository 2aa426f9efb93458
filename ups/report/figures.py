"""The figures of a report, as SVG: narrow enough for a phone, told apart without colour, labelled with units."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker

from ups.evaluation.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    RED,
    SKY,
    line_style,
    new_figure,
    save,
    styled,
    with_unit,
)
from ups.evaluation.names import finite_volume_cells, model_label

WIDTH = 4.8  # inches: at the width of a phone the letters keep about their printed size
_LOOKS = [
    (BLACK, "o", "-"),
    (RED, "s", (0, (5, 2))),
    (BLUE, "^", (0, (1, 1.2))),
    (PINK, "D", (0, (6, 2, 1, 2))),
    (ORANGE, "v", (0, (9, 2))),
    (GREEN, "P", (0, (3, 1, 1, 1, 1, 1))),
    (SKY, "X", (0, (2, 2))),
    (GREY, "*", (0, (8, 2, 2, 2))),
]
_MARKERS_PER_LINE = 8


@dataclass(frozen=True)
class Line:
    """One line of a plot: a mean with a band.

    Attributes:
        label: its name in the legend.
        x, mean, low, high: as many numbers each.
        style: keyword arguments of `plot`.
    """

    label: str
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    style: Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """One model in the plot of error against cost.

    Attributes:
        label: its name in the legend.
        cost: milliseconds per trajectory.
        error, low, high: nRMSE and its interval.
        style: keyword arguments of `errorbar`.
    """

    label: str
    cost: float
    error: float
    low: float
    high: float
    style: Mapping[str, Any]


def variant_style(position: int) -> dict[str, Any]:
    """Return the look of the variant at this place in the report: filled markers, where those of baselines are hollow.

    From the ninth on markers are filled by half.
    """
    colour, marker, dash = _LOOKS[position % len(_LOOKS)]
    fill = ("full", "left", "right", "bottom", "top")[min(position // len(_LOOKS), 4)]
    return {"color": colour, "marker": marker, "linestyle": dash, "fillstyle": fill}


def drawn(draw: Callable[..., None], *args: Any) -> bytes:
    """Return the SVG that a function of this module, or of `ups.evaluation.figures`, draws."""
    # Without the salt, and with the date in the metadata, the same numbers would give another file every time.
    with plt.rc_context({"svg.hashsalt": "ups", "svg.fonttype": "path"}), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.svg"
        draw(path, *args)
        return re.sub(rb"<metadata>.*?</metadata>", b"", path.read_bytes(), flags=re.DOTALL)


def over_seeds(tables: Sequence[pd.DataFrame]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return time, mean, low and high of error-against-time tables of one model: one table per seed.

    The band is the range over seeds; of a single seed it is one standard error over trajectories. Where a forecast of
    any seed diverged there is no mean.
    """
    tables = [table.sort_values("time") for table in tables]
    time = tables[0]["time"].to_numpy(float)
    means = np.stack([table["mean"].to_numpy(float) for table in tables])
    if len(tables) > 1:
        return time, means.mean(0), means.min(0), means.max(0)
    error = np.nan_to_num(tables[0]["stderr"].to_numpy(float))
    return time, means[0], np.maximum(means[0] - error, 0.1 * means[0]), means[0] + error


@styled
def draw_lines(path: Path, title: str, x_label: str, y_label: str, lines: Sequence[Line]) -> None:
    """Draw lines with bands on a logarithmic axis, the legend below."""
    figure, axes = new_figure(1, 1, WIDTH, 3.4 + 0.2 * ((len(lines) + 1) // 2))
    axis = axes[0, 0]
    for position, line in enumerate(lines):
        every = max(1, len(line.x) // _MARKERS_PER_LINE)
        axis.plot(line.x, line.mean, label=line.label, markevery=(position % every, every), **line.style)
        axis.fill_between(line.x, line.low, line.high, color=line.style["color"], alpha=0.13, linewidth=0)
    _log(axis, "y")
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.set_title(title)
    _legend_below(figure, axis)
    save(figure, path)


@styled
def draw_cost(
    path: Path, title: str, points: Sequence[Point], curves: Mapping[str, Sequence[tuple[int, float, float]]]
) -> None:
    """Draw error against cost.

    Args:
        path: the SVG.
        title: of the figure.
        points: one per model.
        curves: label -> classical solvers by cells: (cells, milliseconds, nRMSE), joined by a line.
    """
    entries = len(points) + len(curves)
    figure, axes = new_figure(1, 1, WIDTH, 3.4 + 0.2 * ((entries + 1) // 2))
    axis = axes[0, 0]
    for label, curve in curves.items():
        cells, cost, error = zip(*sorted(curve), strict=True)
        style = line_style(f"finite_volume_{cells[0]}") | {"marker": "+", "linestyle": ":"}
        axis.plot(cost, error, label=label, **style)
        for count, x, y in zip(cells, cost, error, strict=True):
            axis.annotate(str(count), (x, y), textcoords="offset points", xytext=(5, 4), color=GREEN, fontsize=8)
    for point in points:
        style = {**point.style, "linestyle": "none", "markersize": 8, "markeredgewidth": 1.6}
        bars = [[point.error - point.low], [point.high - point.error]]
        axis.errorbar(point.cost, point.error, yerr=bars, capsize=2, label=point.label, **style)
    axis.margins(x=0.12, y=0.12)
    _log(axis, "x")
    _log(axis, "y")
    axis.set_xlabel(with_unit("time per trajectory, batched", "ms"))
    axis.set_ylabel(with_unit("nRMSE", "1"))
    axis.set_title(title)
    _legend_below(figure, axis)
    save(figure, path)


@styled
def draw_training(
    path: Path, stage: str, histories: Sequence[tuple[str, Mapping[str, Any], Sequence[pd.DataFrame]]]
) -> None:
    """Draw the losses of one stage against updates: validation with markers, training without, zero correction dotted.

    Args:
        path: the SVG.
        stage: for the title.
        histories: label, look and one history per seed, for each group of variants that share the stage.
    """
    figure, axes = new_figure(1, 1, WIDTH, 3.4 + 0.2 * (len(histories) + 1))
    axis = axes[0, 0]
    for label, style, tables in histories:
        plain = {**style, "marker": "", "linewidth": 0.9, "alpha": 0.8}
        for number, table in enumerate(tables):
            first = number == 0
            axis.plot(table["updates"], table["train_loss"], label=f"{label}: training" if first else None, **plain)
            axis.plot(table["updates"], table["val_loss"], label=f"{label}: validation" if first else None, **style)
    zero = [
        (table["updates"], table["val_zero_correction"])
        for _, _, tables in histories
        for table in tables
        if "val_zero_correction" in table
    ]
    for number, (updates, values) in enumerate(zero):
        name = None if number else "zero correction, validation"
        axis.plot(updates, values, color=GREY, linewidth=2.5, alpha=0.6, linestyle=(0, (1, 1)), label=name)
    _log(axis, "y")
    axis.set_xlabel("updates")
    axis.set_ylabel("loss [–]")
    axis.set_title(stage)
    _legend_below(figure, axis, columns=2)
    save(figure, path)


@styled
def draw_bands(
    path: Path, title: str, unit: str, entries: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]]
) -> None:
    """Draw the error carried by low, middle and high wavenumbers, one marker per model.

    Args:
        path: the SVG.
        title: of the figure.
        unit: of the field.
        entries: label, look, and band -> (mean, low, high).
    """
    figure, axes = new_figure(1, 1, WIDTH, 3.4 + 0.2 * ((len(entries) + 1) // 2))
    axis = axes[0, 0]
    names = {"low": "low\nk < 4", "mid": "middle\n4 ≤ k < 12", "high": "high\nk ≥ 12"}
    for position, (label, style, bands) in enumerate(entries):
        shift = 0.5 * (position - (len(entries) - 1) / 2) / max(len(entries), 3)
        x = [at + shift for at, band in enumerate(names) if band in bands]
        mean, low, high = (np.array([bands[band][part] for band in names if band in bands]) for part in range(3))
        plain = {**style, "linestyle": "none", "markersize": 6}
        axis.errorbar(x, mean, yerr=[mean - low, high - mean], capsize=2, label=label, **plain)
    axis.set_xticks(range(len(names)), names.values())
    axis.set_xlim(-0.5, len(names) - 0.5)
    _log(axis, "y")
    axis.set_xlabel("wavenumbers [periods per domain]")
    axis.set_ylabel(with_unit("root mean square error", unit))
    axis.set_title(title)
    _legend_below(figure, axis)
    save(figure, path)


def model_look(model: str) -> tuple[str, dict[str, Any]]:
    """Return the label and the look of a baseline, as in all other figures."""
    style = line_style(model)
    if finite_volume_cells(model):
        style["markersize"] = 7
    return model_label(model) or model, style


def _legend_below(figure: Any, axis: Any, columns: int = 2) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=3.5, fontsize=8)


def _log(axis: Any, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with as many labels as are readable over a range of less than a decade, or of many."""
    getattr(axis, f"set_{which}scale")("log")
    low, high = getattr(axis, f"get_{which}lim")()
    ticks = getattr(axis, f"{which}axis")
    if high < 4.0 * low:
        ticks.set_major_locator(ticker.MaxNLocator(5))
    else:
        ticks.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0) if high < 100.0 * low else (1.0,)))
    ticks.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.3g}"))
    ticks.set_minor_formatter(ticker.NullFormatter())
