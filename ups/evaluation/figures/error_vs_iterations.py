"""Error of the steady prior against the number of its iterations."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ups.evaluation.figures.style import BLUE, GREY, RED, new_figure, save, styled, with_unit


@styled
def draw_error_vs_iterations(path: Path, errors: pd.DataFrame, floor: float | None) -> None:
    """Write the figure.

    Args:
        path: the PNG.
        errors: columns `iterations`, `trained` (whether it is what the prior was trained for), `nrmse`, `stderr`.
        floor: the codec's reconstruction error, below which no iterate can come; None if there is none.
    """
    figure, axes = new_figure(1, 1, 6.4, 3.8)
    axis = axes[0, 0]
    axis.errorbar(
        errors["iterations"], errors["nrmse"], yerr=errors["stderr"], color=BLUE, marker="o", capsize=2, label="prior"
    )
    trained = errors[errors["trained"]]
    axis.plot(
        trained["iterations"],
        trained["nrmse"],
        color=RED,
        marker="*",
        markersize=13,
        linestyle="none",
        label="as trained",
    )
    if floor:
        axis.axhline(floor, color=GREY, linestyle="--", label="codec's reconstruction")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(list(errors["iterations"]), [str(count) for count in errors["iterations"]])
    axis.set_xlabel(with_unit("iterations", "1"))
    axis.set_ylabel(with_unit("nRMSE of the solution ± standard error", "1"))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
    save(figure, path)
