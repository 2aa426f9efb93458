"""Error against time for every model, one panel per protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ups.data.fields import FieldMetadata
from ups.evaluation.figures.style import line_style, new_figure, save, styled, with_unit
from ups.evaluation.names import model_label, model_order

_TITLES = {
    "one_step": "one step from the true frame before",
    "rollout_ic": "free-running from the first frame",
    "pdebench": "free-running from {given} given frames",
}
_MARKERS_PER_LINE = 8


@styled
def draw_error_vs_time(path: Path, errors: pd.DataFrame, metadata: FieldMetadata, metric: str = "nrmse") -> None:
    """Write the figure.

    Args:
        path: the PNG.
        errors: long table of `records.error_vs_time`; where a model has diverged its line ends.
        metadata: for the unit of time.
        metric: frame metric to draw, mean over trajectories with a band of one standard error.
    """
    errors = errors[errors["metric"] == metric]
    protocols = [name for name in _TITLES if name in set(errors["protocol"])]
    models = sorted(errors["model"].unique(), key=model_order)
    figure, axes = new_figure(1, len(protocols), 4.6 * len(protocols) + 0.4, 4.6, sharey=True)
    for axis, protocol in zip(axes[0], protocols, strict=True):
        chosen = errors[errors["protocol"] == protocol]
        for position, model in enumerate(models):
            line = chosen[chosen["model"] == model].sort_values("time")
            _draw_line(axis, line, model, position)
        axis.set_yscale("log")
        axis.set_title(_TITLES[protocol].format(given=int(chosen["frame"].min())))
        axis.set_xlabel(with_unit("time t", metadata.time_unit))
    axes[0, 0].set_ylabel(with_unit(f"{metric}, mean over trajectories", "1"))
    handles, labels = axes[0, -1].get_legend_handles_labels()
    # Wide enough to tell the dashes apart.
    figure.legend(handles, labels, loc="outside lower center", ncols=4, handlelength=4.5)
    save(figure, path)


def _draw_line(axis: object, line: pd.DataFrame, model: str, position: int) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axis, Axes)
    time, mean = line["time"].to_numpy(), line["mean"].to_numpy()
    every = max(1, len(time) // _MARKERS_PER_LINE)
    # Staggered markers stay readable where lines run close together.
    axis.plot(time, mean, label=model_label(model) or model, markevery=(position % every, every), **line_style(model))
    stderr = np.nan_to_num(line["stderr"].to_numpy())
    lower = np.maximum(mean - stderr, mean * 0.1)
    axis.fill_between(time, lower, mean + stderr, color=line_style(model)["color"], alpha=0.12, linewidth=0)
