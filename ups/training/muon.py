"""Muon for models of many small matrices: all matrices of one shape are orthogonalised together.

`torch.optim.Muon` walks through the matrices one by one, in bfloat16: at the flagship's size (twelve matrices of at
most 64 x 192) a third of an update on a CPU core (`benchmarks/model/throughput.py`). The step is the same.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Keller Jordan's quintic, kellerjordan.github.io/posts/muon: singular values end between about 0.7 and 1.2.
A, B, C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return U V^T, nearly, of each matrix U S V^T: five Newton-Schulz iterations X <- (a + b G + c G^2) X, G = X X^T.

    Args:
        matrices: (M, rows, columns), rows <= columns (the other way round costs more and gives the same).
    """
    x = matrices / matrices.flatten(1).norm(dim=1).clamp_min(1e-7)[:, None, None]
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, as a step (Jordan et al. 2024); weight decay decoupled as in AdamW.

        m <- mu m + (1 - mu) g,
        W <- (1 - rate * decay) W - rate * 0.2 sqrt(max(rows, columns)) orthogonalize((1 - mu) g + mu m)

    The factor gives steps the size that AdamW's usually have (Liu et al. 2025, arXiv:2502.16982, section 2.2).

    Args:
        matrices: parameters with two axes.
        lr: rate.
        weight_decay: decay.
        momentum: mu.

    Raises:
        ValueError: if a parameter is not a matrix.
    """

    def __init__(
        self, matrices: Iterable[Tensor], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        wrong = [tuple(p.shape) for group in self.param_groups for p in group["params"] if p.ndim != 2]
        if wrong:
            raise ValueError(f"Muon is for matrices; these parameters are none: shapes {wrong}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients as they are; parameters without one stay."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            matrices = [p for p in group["params"] if p.grad is not None]
            if not matrices:
                continue
            gradients = [p.grad for p in matrices]
            momenta = [self._momentum(p) for p in matrices]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            steps = _orthogonalized(torch._foreach_lerp(gradients, momenta, group["momentum"]))
            rates = [group["lr"] * 0.2 * math.sqrt(max(p.shape)) for p in matrices]
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_mul_(steps, rates)
            torch._foreach_sub_(matrices, steps)

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        return state["momentum"]


def _orthogonalized(matrices: Iterable[Tensor]) -> list[Tensor]:
    """Return each matrix orthogonalised; those that agree in shape, up to transposition, are worked on at once."""
    wide = [matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix for matrix in matrices]
    alike: dict[torch.Size, list[int]] = defaultdict(list)
    for at, matrix in enumerate(wide):
        alike[matrix.shape].append(at)
    result = list(wide)
    for places in alike.values():
        for at, matrix in zip(places, orthogonalize(torch.stack([wide[at] for at in places])), strict=True):
            result[at] = matrix
    return [
        found.mT if matrix.shape[0] > matrix.shape[1] else found for matrix, found in zip(matrices, result, strict=True)
    ]
