"""One picture of a data file: some trajectories, what they conserve and lose, and their spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ups.errors import DataError
from ups.evaluation.figures.style import BLUE, RED, new_figure, save, styled, with_unit
from ups.evaluation.spectra import BANDS
from ups.inspection.report import Inspection

_SMALLEST = 1e-17  # share of the largest mode below which double precision sets the scale


@styled
def draw(path: Path, made: Inspection) -> None:
    """Write the PNG; the units are those of the file, which states none: dimensionless.

    Raises:
        DataError: if there is nothing to draw, or the fields have three dimensions.
    """
    if made.pictures is None or made.curves is None or not made.found or not made.found.channels:
        raise DataError(f"{made.what.path} holds nothing that could be drawn: {made.what.description}")
    numbers, fields = made.pictures
    rank = fields.ndim - 3
    if rank > 2:
        raise DataError(f"{made.what.path} holds {rank}-dimensional fields; one and two dimensions can be drawn.")
    figure, axes = new_figure(2, max(len(numbers), 3), 11.5, 6.2)
    channel = made.layout["channels"][0]
    finite = fields[:, :, 0][np.isfinite(fields[:, :, 0])]
    limits = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    for axis, number, field in zip(axes[0], numbers, fields[:, :, 0], strict=False):
        image = axis.imshow(
            field.T if rank == 1 else field[-1].T,
            origin="lower",
            aspect="auto",
            extent=(*_span(made, "t"), *_span(made, "x")) if rank == 1 else (*_span(made, "x"), *_span(made, "y")),
            vmin=limits[0],
            vmax=limits[1],
            cmap="viridis",
            interpolation="nearest",
        )
        axis.set_title(f"trajectory {number}" + ("" if rank == 1 else ", last frame"))
        axis.set_xlabel(with_unit("time t" if rank == 1 else "position x", "1"))
        axis.set_ylabel(with_unit("position x" if rank == 1 else "position y", "1"))
        axis.grid(visible=False)
    for axis in axes[0][len(numbers) :]:
        axis.set_visible(False)
    figure.colorbar(image, ax=axes[0][len(numbers) - 1], label=with_unit(channel, "1"))
    _draw_curves(axes[1], made)
    total, looked_at = made.layout["trajectories"], made.found.looked_at
    figure.suptitle(
        f"{made.what.path.name}: {total} trajectories; curves over {looked_at - made.found.damaged} of them"
    )
    save(figure, path)


def _draw_curves(axes: Any, made: Inspection) -> None:
    curves = made.curves
    if curves is None:
        return
    first, last = _span(made, "t")
    times = np.linspace(first, last, len(curves.energy))
    axes[0].plot(times, curves.energy, color=BLUE)
    axes[0].set_ylim(bottom=0)
    axes[0].set_title("energy, mean over trajectories")
    axes[0].set_ylabel(with_unit("mean of u²/2", "1"))
    axes[1].plot(times, curves.drift, color=RED)
    axes[1].set_title("conserved integral, largest over trajectories")
    axes[1].set_ylabel(with_unit("|mean(t) − mean(0)|", "1"))
    for axis in axes[:2]:
        axis.set_xlabel(with_unit("time t", "1"))
    spectra = axes[2]
    for (name, values), (colour, dash) in zip(curves.spectra.items(), ((BLUE, "-"), (RED, "--")), strict=False):
        wave, shown = np.arange(1, len(values)), np.maximum(values[1:], values[1:].max() * _SMALLEST)
        spectra.loglog(wave, shown, color=colour, linestyle=dash, label=f"{name} frame")
    for start, _ in BANDS.values():
        if start:
            spectra.axvline(start, color="#bbbbbb", linewidth=0.8, linestyle=":")
    spectra.set_title("spectrum, mean over trajectories")
    spectra.set_xlabel("wavenumber k [periods per domain]")
    spectra.set_ylabel(with_unit("mean square per wavenumber", "1"))
    spectra.legend()
    for axis in axes[3:]:
        axis.set_visible(False)


def _span(made: Inspection, name: str) -> tuple[float, float]:
    axis = made.axes.get(name)
    return (axis["first"], axis["last"]) if axis and axis["last"] > axis["first"] else (0.0, 1.0)
