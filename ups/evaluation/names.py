"""The models that evaluations report, in the order in which tables and figures show them."""

from __future__ import annotations

import re

FINITE_VOLUME = "finite_volume"

_LABELS = {
    "persistence_initial": "persistence (first given frame)",
    "persistence_last": "persistence (last given frame)",
    "spatial_mean": "spatial mean of the last given frame",
    "exact_shift": "exact shift",
    "exact_wave": "exact waves",
    "zero_correction": "zero correction",
    FINITE_VOLUME: "finite volumes, {cells} cells",
    "fno": "FNO",
    "operator": "operator",
    "corrected": "operator + corrector",
    "ensemble": "mean of the corrector's ensemble",
    "student": "student",
    "assembled": "assembled surrogate",
}


def finite_volume_cells(name: str) -> int | None:
    """Return the number of cells in a name such as "finite_volume_128", or None for another model."""
    match = re.fullmatch(rf"{FINITE_VOLUME}_(\d+)", name)
    return int(match.group(1)) if match else None


def model_label(name: str) -> str:
    """Return the words for a model's name, or "" for a key that names no model."""
    cells = finite_volume_cells(name)
    return _LABELS[FINITE_VOLUME].format(cells=cells) if cells else _LABELS.get(name, "")


def model_order(name: str) -> tuple[int, int]:
    """Sort key of a model's name; unknown names come last."""
    cells = finite_volume_cells(name)
    known = list(_LABELS)
    key = FINITE_VOLUME if cells else name
    return (known.index(key) if key in known else len(known), cells or 0)
