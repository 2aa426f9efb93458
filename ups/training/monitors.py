"""Small objects that watch a training: gradients before clipping, and terms that have none.

What epochs show, the gap between train and validation, is in `ups.evaluation.overfitting_alarm`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ups.errors import TrainingError

WARN_NORM, SKIP_NORM = 100.0, 1000.0


class GradientMonitor:
    """Gradient norms before clipping. Above 1000 an update is skipped; too many in a row end the training.

    Args:
        max_skipped: skipped updates in a row after which training stops.
    """

    def __init__(self, max_skipped: int) -> None:
        self.max_skipped = max_skipped
        self.norms: list[float] = []
        self.in_a_row = 0
        self.skipped = 0
        self.warned = 0

    def accepts(self, norm: float) -> bool:
        """Take the norm of one update's gradient; False means that the optimiser step must be skipped.

        Raises:
            TrainingError: after `max_skipped` skips in a row.
        """
        self.norms.append(norm)
        self.warned += norm > WARN_NORM
        if math.isfinite(norm) and norm <= SKIP_NORM:
            self.in_a_row = 0
            return True
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= self.max_skipped:
            raise TrainingError(
                f"the gradient norm exceeded {SKIP_NORM:g} in {self.in_a_row} updates in a row (last: {norm:.3g}). "
                "Lower the learning rate, lower the weight of the loss term that explodes (history.csv has each term), "
                "or clip harder."
            )
        return False

    def flush(self) -> dict[str, float]:
        """Return the statistics since the last call: mean, median, largest norm, skipped updates, updates above 100."""
        finite = [n for n in self.norms if math.isfinite(n)] or [0.0]
        row = {
            "grad_norm_mean": sum(finite) / len(finite),
            "grad_norm_median": statistics.median(finite),
            "grad_norm_max": max(finite),
            "skipped_updates": self.skipped,
            "large_gradients": self.warned,
        }
        self.norms, self.skipped, self.warned = [], 0, 0
        return row


def check_gradients_exist(terms: Iterable[tuple[str, Tensor]], model: nn.Module) -> None:
    """Make sure that each loss term can move at least one trained parameter.

    Raises:
        TrainingError: naming the term whose gradient is zero everywhere.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    for name, term in terms:
        gradients = (
            torch.autograd.grad(term, trained, retain_graph=True, allow_unused=True) if term.requires_grad else ()
        )
        if not any(g is not None and bool(g.any()) for g in gradients):
            raise TrainingError(
                f"loss term '{name}' has no gradient with respect to any trained parameter, so its weight would do "
                "nothing. Set its weight to 0 or put the term where it acts."
            )
