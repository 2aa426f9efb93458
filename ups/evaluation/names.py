"""The models that evaluations report, in the order in which tables and figures show them."""

from __future__ import annotations

import re

FINITE_VOLUME = "finite_volume"
STEADY_PRIOR = "steady_prior"

_LABELS = {
    "persistence_initial": "persistence (first given frame)",
    "persistence_last": "persistence (last given frame)",
    "spatial_mean": "spatial mean of the last given frame",
    "exact_shift": "exact shift",
    "exact_wave": "exact waves",
    "mean_solution": "mean solution of the training data",
    "zero_correction": "zero correction",
    FINITE_VOLUME: "finite volumes, {number} cells",
    "fno": "FNO",
    "operator": "operator",
    "corrected": "operator + corrector",
    "ensemble": "mean of the corrector's ensemble",
    "student": "student",
    "assembled": "assembled surrogate",
    STEADY_PRIOR: "steady prior",
}
# Models of which there are several, told apart by a number at the end of the name.
_NUMBERED = {
    FINITE_VOLUME: _LABELS[FINITE_VOLUME],
    STEADY_PRIOR: "steady prior, iterations: {number}",
}


def finite_volume_cells(name: str) -> int | None:
    """Return the number of cells in a name such as "finite_volume_128", or None for another model."""
    return _number(name, FINITE_VOLUME)


def steady_prior_iterations(name: str) -> int | None:
    """Return the number of iterations in a name such as "steady_prior_8"; None for another model."""
    return _number(name, STEADY_PRIOR)


def model_label(name: str) -> str:
    """Return the words for a model's name, or "" for a key that names no model."""
    for family, label in _NUMBERED.items():
        if number := _number(name, family):
            return label.format(number=number)
    return _LABELS.get(name, "")


def model_order(name: str) -> tuple[int, int]:
    """Sort key of a model's name; unknown names come last."""
    number = finite_volume_cells(name) or steady_prior_iterations(name)
    key = name.rpartition("_")[0] if number else name
    known = list(_LABELS)
    return (known.index(key) if key in known else len(known), number or 0)


def _number(name: str, family: str) -> int | None:
    match = re.fullmatch(rf"{family}_(\d+)", name)
    return int(match.group(1)) if match else None
