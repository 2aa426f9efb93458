"""The optimisers by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ups.parameters.section import Optimization
from ups.training.muon import Muon


class Optimizer:
    """One or two optimisers behind the few calls that the training loop makes.

    `adamw` is AdamW on all weights; `muon` is Muon on the matrices, so that no direction of a matrix learns slower than
    the others, and AdamW on the rest; one learning rate serves both.

    Args:
        model: the model to train.
        optimization: name, weight decay and moments; the learning rate is set before every step.
    """

    def __init__(self, model: nn.Module, optimization: Optimization) -> None:
        matrices = [p for p in model.parameters() if p.ndim == 2] if optimization.optimizer == "muon" else []
        taken = {id(p) for p in matrices}
        rest = [p for p in model.parameters() if id(p) not in taken]
        decay = optimization.weight_decay
        self.parts: list[torch.optim.Optimizer] = []
        if rest:
            self.parts.append(
                torch.optim.AdamW(rest, lr=optimization.learning_rate, betas=optimization.betas, weight_decay=decay)
            )
        if matrices:
            self.parts.append(Muon(matrices, lr=optimization.learning_rate, weight_decay=decay))

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Take one step at learning rate `rate`."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        for part, content in zip(self.parts, state, strict=True):
            part.load_state_dict(content)
