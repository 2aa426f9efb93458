"""Test-time search: error against the network evaluations spent per step."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ups.evaluation.figures.style import BLUE, GREEN, RED, new_figure, save, styled, with_unit

_LINES = {
    "search": (BLUE, "o", "-", "chosen by the reward"),
    "oracle": (RED, "s", "--", "chosen by the truth (oracle)"),
    "adaptive": (GREEN, "^", "-", "searched where the plain step is poor"),
}


@styled
def draw_quality_vs_budget(path: Path, budget: pd.DataFrame, protocol: str) -> None:
    """Write the figure: the search by its reward, the oracle that knows the truth, and the adaptive search if any.

    Args:
        path: the PNG; its folder is created.
        budget: columns `mode`, `evaluations_per_step`, `nrmse`, `stderr`.
        protocol: the protocol the errors were measured under.
    """
    figure, axes = new_figure(1, 1, 7.0, 3.8)
    axis = axes[0, 0]
    for mode, (color, marker, line, label) in _LINES.items():
        rows = budget[budget["mode"] == mode].sort_values("evaluations_per_step")
        if rows.empty:
            continue
        axis.errorbar(
            rows["evaluations_per_step"],
            rows["nrmse"],
            yerr=rows["stderr"],
            color=color,
            marker=marker,
            linestyle=line,
            capsize=2,
            label=label,
        )
    axis.set_xlabel(with_unit("network evaluations per time step and trajectory", "1"))
    axis.set_ylabel(with_unit("nRMSE ± standard error", "1"))
    axis.set_title(f"test-time search, protocol {protocol}")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)
