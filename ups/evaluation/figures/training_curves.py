"""Training and validation losses of every trained stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ups.evaluation.figures.style import BLUE, GREY, ORANGE, new_figure, save, styled

ZERO_CORRECTION = "zero_correction"


@styled
def draw_training_curves(path: Path, histories: Mapping[str, pd.DataFrame]) -> None:
    """Write the figure: one panel per stage, loss against updates on a log axis.

    Args:
        path: the PNG.
        histories: stage -> its `history.csv`, with columns `updates`, `train_loss`, `val_loss`. A column whose name
            ends in `zero_correction` (the loss of correcting nothing) is drawn as a grey line: a corrector above it
            does harm.
    """
    columns = min(3, len(histories))
    rows = math.ceil(len(histories) / columns)
    figure, axes = new_figure(rows, columns, 3.9 * columns, 3.1 * rows + 0.3)
    for axis, (stage, history) in zip(axes.flat, histories.items(), strict=False):
        _draw_stage(axis, stage, history)
    for axis in list(axes.flat)[len(histories) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("loss [normalised units]")
    save(figure, path)


def _draw_stage(axis: Any, stage: str, history: pd.DataFrame) -> None:
    updates = history["updates"]
    axis.plot(updates, history["train_loss"], color=BLUE, marker="o", markerfacecolor="white", label="training")
    axis.plot(updates, history["val_loss"], color=ORANGE, marker="s", linestyle=(0, (5, 2)), label="validation")
    for column in history.columns:
        if column.endswith(ZERO_CORRECTION):
            split = "training" if column.startswith("train") else "validation"
            dash = (0, (1, 1.5)) if split == "training" else (0, (4, 1.5))
            axis.plot(updates, history[column], color=GREY, linestyle=dash, label=f"zero correction, {split}")
    axis.set_yscale("log")
    axis.set_xlabel("updates")
    axis.set_title(stage)
    axis.legend()
