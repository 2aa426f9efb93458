"""One look for all figures: models keep their marker, dash and colour everywhere and are told apart without colour."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ups.evaluation.names import finite_volume_cells, steady_prior_iterations

P = ParamSpec("P")

# Okabe and Ito's palette, safe for colour-blind readers.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PINK = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#7f7f7f"
_DASHES: dict[str, Any] = {
    "solid": "-",
    "dashed": (0, (5, 2)),
    "dotted": (0, (1, 1.5)),
    "dashdot": (0, (6, 2, 1, 2)),
    "long": (0, (9, 2)),
    "dashdotdot": (0, (5, 2, 1, 2, 1, 2)),
}
_MODELS = {
    "persistence_initial": (GREY, "v", "dotted"),
    "persistence_last": (GREY, "^", "dashed"),
    "spatial_mean": (GREY, "_", "dashdot"),
    "exact_shift": (GREY, "x", "long"),
    "zero_correction": (SKY, "h", "long"),
    "fno": (ORANGE, "s", "dashed"),
    "operator": (BLUE, "o", "solid"),
    "corrected": (RED, "D", "dashdot"),
    "student": (PINK, "P", "dotted"),
    "assembled": (BLACK, "*", "dashdotdot"),
    "mean_solution": (GREY, "_", "dashdot"),
    "steady_prior": (BLACK, "*", "dashdotdot"),
}
_NUMBERED_MARKERS = ("1", "2", "3", "4", "+", "x")
_STYLE: Any = {
    "figure.dpi": 120,
    "savefig.dpi": 150,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
}


def styled(draw: Callable[P, None]) -> Callable[P, None]:
    """Give everything a drawing function makes the look of this module, and leave matplotlib's settings alone."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> None:
        with plt.rc_context(_STYLE):
            draw(*args, **kwargs)

    return drawn


def new_figure(rows: int, columns: int, width: float, height: float, **kwargs: Any) -> tuple[Figure, Any]:
    """Return a figure of `width` x `height` inches and its axes as a 2-D array."""
    return plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained", **kwargs)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG and free it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def line_style(model: str) -> dict[str, Any]:
    """Return the keyword arguments of `plot` for a model's line."""
    for number, colour in ((finite_volume_cells(model), GREEN), (steady_prior_iterations(model), BLUE)):
        if number:
            marker = _NUMBERED_MARKERS[number.bit_length() % len(_NUMBERED_MARKERS)]
            return {"color": colour, "marker": marker, "linestyle": _DASHES["dashed"], "markersize": 7}
    colour, marker, dash = _MODELS.get(model, (BLACK, ".", "solid"))
    return {"color": colour, "marker": marker, "linestyle": _DASHES[dash], "markerfacecolor": "white"}


def with_unit(name: str, unit: str) -> str:
    """Return an axis label; "1" is the unit of dimensionless numbers."""
    return f"{name} [{'–' if unit == '1' else unit}]"
