"""Candidates of one step in the order of their true errors: what a reward is trained on.

Shapes: S samples, C field channels, *space grid, P coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

BEST, MEDIAN, WORST = 0, 1, 2


@dataclass(frozen=True)
class Triplets:
    """The best, the median and the worst candidate of steps of several trajectories.

    Attributes:
        previous: the frames that the steps start from, (S, C, *space), physical.
        candidates: best, median and worst by true error, (S, 3, C, *space), physical.
        errors: their RMSE against the truth, (S, 3), rising.
        coefficients: (S, P).
        trajectory: which trajectory a sample is from, (S,).
    """

    previous: Tensor
    candidates: Tensor
    errors: Tensor
    coefficients: Tensor
    trajectory: Tensor

    def __len__(self) -> int:
        return len(self.previous)
