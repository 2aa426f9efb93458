"""How one combination of coefficients relates to those that a model was trained on, and what it is called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from ups.data.fields import TrainingRange
from ups.parameters.shared import SAME

# One of those trained on; within 10 % of one; inside or outside their range.
Kind = Literal["trained", "near", "between", "outside"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_NEAR = 0.1

Regime = Sequence[float]


def kind(values: Regime, trained: Sequence[Regime]) -> Kind:
    """Return how a regime relates to those trained on.

    `near` comes before `between` and `outside`: every coefficient is within 10 % of the same trained regime's.

    Args:
        values: the regime's coefficients, (P,).
        trained: those of the regimes trained on, (R, P).
    """
    if any(_within(values, known, SAME) for known in trained):
        return "trained"
    if any(_within(values, known, _NEAR * (1 + SAME)) for known in trained):
        return "near"
    inside = [
        min(known) - SAME * abs(min(known)) <= value <= max(known) + SAME * abs(max(known))
        for value, known in zip(values, zip(*trained, strict=True), strict=True)
    ]
    return "between" if all(inside) else "outside"


def nearest(values: Regime, trained: Sequence[Regime]) -> Regime:
    """Return the trained regime whose coefficients differ least, in the largest of their ratios."""
    return min(trained, key=lambda known: max(map(_ratio, values, known)))


def trained_regimes(training: TrainingRange | None) -> tuple[Regime, ...]:
    """Return the regimes that training data hold; none where that is not known."""
    if training is None or training.regimes:
        return training.regimes if training else ()
    single = all(low == high for low, high in training.coefficients)
    return (tuple(low for low, _ in training.coefficients),) if single else ()


def label(names: Sequence[str], values: Regime) -> str:
    """Return what a regime is called in results, e.g. "viscosity=0.01"; "all" for an equation without coefficients."""
    return ", ".join(f"{name}={value:g}" for name, value in zip(names, values, strict=True)) or "all"


def _within(values: Regime, known: Regime, share: float) -> bool:
    return all(abs(value - other) <= share * abs(other) for value, other in zip(values, known, strict=True))


def _ratio(one: float, other: float) -> float:
    if one == other:
        return 0.0
    return abs(math.log(one / other)) if one * other > 0 else math.inf
