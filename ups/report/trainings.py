"""The distinct trainings of a stage: variants that share a stage, by its code and parameters, share its history."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ups.report.material import Material
from ups.report.runs import Run


@dataclass(frozen=True)
class Trainings:
    """Variants whose histories of a stage are the same.

    Attributes:
        variants: their names.
        label: these, or "all variants".
        runs: of the first of them, those that trained the stage.
        histories: one for each run.
    """

    variants: tuple[str, ...]
    label: str
    runs: tuple[Run, ...]
    histories: tuple[pd.DataFrame, ...]


def trainings(material: Material, stage: str) -> list[Trainings]:
    """Return the distinct trainings of a stage, in the variants' order; empty where it trains nothing."""
    by_variant: dict[str, list[tuple[Run, pd.DataFrame]]] = {}
    for run in material.chosen.runs:
        table = material.csv(run, stage, "history.csv")
        if table is not None and {"updates", "train_loss", "val_loss"} <= set(table):
            by_variant.setdefault(run.variant, []).append((run, table))
    groups: list[tuple[list[str], list[tuple[Run, pd.DataFrame]]]] = []
    for variant, found in by_variant.items():
        for names, known in groups:
            if len(known) == len(found) and all(one[1].equals(two[1]) for one, two in zip(known, found, strict=True)):
                names.append(variant)
                break
        else:
            groups.append(([variant], found))
    shared = len(by_variant) > 1
    return [
        Trainings(
            tuple(names),
            "all variants" if shared and len(names) == len(by_variant) else ", ".join(names),
            tuple(run for run, _ in found),
            tuple(table for _, table in found),
        )
        for names, found in groups
    ]
