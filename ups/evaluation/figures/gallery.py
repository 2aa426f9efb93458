"""All figures of one evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ups.data.fields import Trajectories
from ups.evaluation.figures.error_vs_cost import draw_error_vs_cost
from ups.evaluation.figures.error_vs_time import draw_error_vs_time
from ups.evaluation.figures.rollout_panel import draw_rollout_panel
from ups.evaluation.figures.spectra import draw_spectra
from ups.evaluation.figures.training_curves import draw_training_curves
from ups.evaluation.names import model_label
from ups.evaluation.records import AllScores, error_vs_time


def draw_figures(
    folder: Path,
    scores: AllScores,
    data: Trajectories,
    metrics: Mapping[str, Any],
    histories: Mapping[str, pd.DataFrame],
    shown: str,
    candidates: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write every figure into `folder`.

    Args:
        folder: made if missing.
        scores: model -> protocol -> scores, with examples kept.
        data: the split they were computed on.
        metrics: model -> protocol -> metrics.
        histories: stage -> its training history.
        shown: the model of the rollout panels.
        candidates: finite-volume solvers tried on validation.
    """
    metadata = data.metadata
    draw_error_vs_time(folder / "error_vs_time.png", error_vs_time(scores, metadata.dt), metadata)
    if histories:
        draw_training_curves(folder / "training_curves.png", histories)
    for protocol, result in scores[shown].items():
        if protocol == "one_step":
            continue
        title = f"{model_label(shown)}, protocol {protocol}"
        count = len(result.examples)
        truth = data.fields[:count, result.frames_given :]
        if metadata.grid.rank <= 2:
            path = folder / f"rollout_{protocol}.png"
            draw_rollout_panel(path, truth, result.examples, metadata, result.frames_given, title)
        spectra = {model: by_protocol[protocol].spectra for model, by_protocol in scores.items()}
        time = (data.num_frames - 1) * metadata.dt
        draw_spectra(folder / f"spectra_{protocol}.png", spectra, metadata, f"protocol {protocol}, t = {time:g}")
        draw_error_vs_cost(folder / f"error_vs_cost_{protocol}.png", metrics, protocol, _of(protocol, candidates))


def _of(protocol: str, candidates: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the candidates measured under this protocol; their errors mean nothing under another."""
    return [entry for entry in candidates if entry["protocol"] == protocol and entry["nrmse"] is not None]
