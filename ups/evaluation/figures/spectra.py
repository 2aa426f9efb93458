"""Spectra of forecasts and of their errors at the last frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.evaluation.figures.style import BLACK, line_style, new_figure, save, styled, with_unit
from ups.evaluation.names import model_label, model_order
from ups.evaluation.spectra import BANDS

_MARKERS_PER_LINE = 7
# A frame held from the start, or without structure, has a spectrum nobody compares with.
_LEFT_OUT = ("persistence_initial", "spatial_mean")


@styled
def draw_spectra(path: Path, spectra: Mapping[str, Mapping[str, Tensor]], metadata: FieldMetadata, title: str) -> None:
    """Write the figure: left the spectrum of truth and forecasts, right the spectrum of the error.

    Args:
        path: the PNG.
        spectra: model -> "prediction", "target", "error" -> (B, wavenumbers), see `Scores.spectra`. Trajectories whose
            forecast diverged are left out of that model's line.
        metadata: for the unit of the field.
        title: what is shown, e.g. protocol and time.
    """
    figure, axes = new_figure(1, 2, 10.5, 5.2, sharex=True)
    left, right = axes[0]
    models = sorted((name for name in spectra if name not in _LEFT_OUT), key=model_order)
    truth = _mean(spectra[models[0]]["target"])
    left.plot(np.arange(1, len(truth)), truth[1:], color=BLACK, linewidth=3.5, alpha=0.35, label="truth")
    for position, model in enumerate(models):
        style = line_style(model)
        for axis, kind in ((left, "prediction"), (right, "error")):
            values = _mean(spectra[model][kind])[1:]
            wave = np.arange(1, len(values) + 1)
            # Markers at rising distances, as the axis is logarithmic, staggered between models.
            marks = np.unique(np.geomspace(1 + position % 3, len(values), _MARKERS_PER_LINE).astype(int) - 1)
            axis.plot(wave, values, label=model_label(model) or model, markevery=list(marks), **style)
    # Below this share of the largest mode single precision and the notches of interpolation would set the scale.
    floor = max(float(truth[1:].min()) * 1e-2, float(truth[1:].max()) * 1e-12)
    left.set_ylim(bottom=floor)
    right.set_ylim(bottom=floor)
    unit = metadata.units[0]
    for axis, label in ((left, "spectrum of the field"), (right, "spectrum of the error")):
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("wavenumber k [periods per domain]")
        axis.set_ylabel(with_unit("mean square per wavenumber", "1" if unit == "1" else f"({unit})²"))
        axis.set_title(label)
        for first, _ in BANDS.values():
            if first:
                axis.axvline(first, color="#bbbbbb", linewidth=0.8, linestyle=":")
    figure.suptitle(title)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=4.5)
    save(figure, path)


def _mean(spectra: Tensor) -> np.ndarray:
    values = spectra.numpy()
    finite = np.isfinite(values).all(axis=1)
    return values[finite].mean(axis=0) if finite.any() else np.full(values.shape[1], np.nan)
