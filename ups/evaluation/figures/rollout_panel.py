"""Truth, prediction and error of whole rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.evaluation.figures.style import new_figure, save, styled, with_unit


@styled
def draw_rollout_panel(
    path: Path, truth: Tensor, prediction: Tensor, metadata: FieldMetadata, first_frame: int, title: str
) -> None:
    """Write the figure: one row per trajectory; truth and prediction share a colour scale, the error has its own.

    A 1-D field is drawn as a space-time map, a 2-D field as its last frame. The first channel is drawn.

    Args:
        path: the PNG.
        truth, prediction: (B, T, C, *space), predicted frames only, physical units.
        metadata: for grid, time step and units.
        first_frame: index of the first predicted frame in the trajectory.
        title: e.g. the model's and the protocol's name.

    Raises:
        ValueError: for fields of rank above 2.
    """
    rank = metadata.grid.rank
    if rank > 2:
        raise ValueError(f"a panel of a {rank}-dimensional field cannot be drawn; choose a slice first")
    rows = truth.shape[0]
    figure, axes = new_figure(rows, 3, 11.0, 2.6 * rows + 0.6, sharex=True, sharey=True)
    name = metadata.channels[0]
    unit = metadata.units[0]
    for row in range(rows):
        true, predicted = _image(truth[row], rank), _image(prediction[row], rank)
        error = predicted - true
        lowest, highest = float(true.min()), float(true.max())
        worst = float(np.nanmax(np.abs(np.where(np.isfinite(error), error, np.nan)), initial=0.0)) or 1e-12
        relative = np.sqrt((error**2).mean() / (true**2).mean())
        panels = [
            (true, (lowest, highest), "truth"),
            (predicted, (lowest, highest), "prediction"),
            (error, (-worst, worst), "error"),
        ]
        for axis, (image, limits, label) in zip(axes[row], panels, strict=True):
            _draw(axis, figure, image, limits, metadata, first_frame, with_unit(name, unit), label == "error")
            axis.set_title(f"{label}, relative L2 {relative:.1e}" if label == "error" else label)
        axes[row, 0].set_ylabel(with_unit("position x" if rank == 1 else "position y", metadata.grid.unit))
    bottom = with_unit("time t", metadata.time_unit) if rank == 1 else with_unit("position x", metadata.grid.unit)
    for axis in axes[-1]:
        axis.set_xlabel(bottom)
    figure.suptitle(title)
    save(figure, path)


def _image(field: Tensor, rank: int) -> np.ndarray[Any, Any]:
    """(T, C, *space) -> image with the first axis upwards: (X, T) in 1-D, (Y, X) of the last frame in 2-D."""
    chosen = field[:, 0] if rank == 1 else field[-1, 0]
    return chosen.to(torch.float64).T.cpu().numpy()


def _draw(
    axis: Any,
    figure: Any,
    image: np.ndarray[Any, Any],
    limits: tuple[float, float],
    metadata: FieldMetadata,
    first_frame: int,
    label: str,
    is_error: bool,
) -> None:
    grid = metadata.grid
    lower, upper = grid.origin[0], grid.origin[0] + grid.extent[0]
    if grid.rank == 1:
        begin, end = (first_frame - 0.5) * metadata.dt, (first_frame + image.shape[1] - 0.5) * metadata.dt
        extent = (begin, end, lower, upper)
    else:
        extent = (lower, upper, grid.origin[1], grid.origin[1] + grid.extent[1])
    colours = "PuOr_r" if is_error else "viridis"
    shown = axis.imshow(
        image,
        origin="lower",
        aspect="auto",
        extent=extent,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        interpolation="nearest",
    )
    axis.grid(False)
    bar = figure.colorbar(shown, ax=axis, shrink=0.9, pad=0.02)
    bar.set_label(label)
    if is_error:
        bar.formatter.set_powerlimits((-2, 2))
