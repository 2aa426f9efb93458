"""Error against cost: what a second buys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ups.evaluation.figures.style import GREEN, line_style, new_figure, save, styled, with_unit
from ups.evaluation.names import finite_volume_cells, model_label, model_order


@styled
def draw_error_vs_cost(
    path: Path, metrics: Mapping[str, Any], protocol: str, candidates: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write the figure: one point per model; the finite-volume candidates form a line.

    Args:
        path: the PNG.
        metrics: model -> protocol -> metrics, as in `metrics.json`; models that diverged have no point.
        protocol: the protocol to draw.
        candidates: finite-volume solvers tried on validation: `cells`, `seconds_per_trajectory`, `nrmse`.
    """
    figure, axes = new_figure(1, 1, 8.6, 4.6)
    axis = axes[0, 0]
    if candidates:
        seconds = [1e3 * entry["seconds_per_trajectory"] for entry in candidates]
        errors = [entry["nrmse"] for entry in candidates]
        axis.plot(seconds, errors, color=GREEN, linewidth=1, linestyle=":", label="finite volumes, on validation")
        for entry, x, y in zip(candidates, seconds, errors, strict=True):
            axis.annotate(str(entry["cells"]), (x, y), textcoords="offset points", xytext=(4, 4), color=GREEN)
    for model in sorted((name for name in metrics if model_label(name)), key=model_order):
        found = metrics[model].get(protocol)
        if found is None or found["nrmse"]["mean"] is None:
            continue
        style = line_style(model)
        size = 10 if finite_volume_cells(model) else 8
        axis.errorbar(
            1e3 * found["seconds_per_trajectory"],
            found["nrmse"]["mean"],
            yerr=found["nrmse"]["stderr"] or 0.0,
            **{**style, "linestyle": "none", "markersize": size, "markeredgewidth": 1.8},
            label=model_label(model),
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(with_unit("time per trajectory, batched", "ms"))
    axis.set_ylabel(with_unit("nRMSE on the test split ± standard error", "1"))
    axis.set_title(f"error against cost, protocol {protocol}")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
    save(figure, path)
