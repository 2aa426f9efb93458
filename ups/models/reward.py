"""The learned reward: how plausible a frame is as the successor of another.

Shapes: B batch, C field channels, *space grid, P coefficients, H hidden width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from ups.models.token_grid import CONVOLUTIONS, wrap


class RewardNetwork(nn.Module):
    """score(u, u') = head(mean over space of convolutions of [u, u' - u, coefficients]), fields in their own units.

    Trained on pairs, score differences are log-odds: a candidate that scores 1 higher is taken to be the better one
    with odds of e to 1. Only differences between candidates of one step mean anything.

    Args:
        channels: field channels C.
        rank: dimensions of space.
        num_coefficients: P.
        hidden: width H.
        depth: number of convolutions.
        kernel: odd number of points that each sees along an axis.
    """

    mean: Tensor
    std: Tensor
    step: Tensor

    def __init__(self, channels: int, rank: int, num_coefficients: int, hidden: int, depth: int, kernel: int) -> None:
        super().__init__()
        self.pad = kernel // 2
        widths = [2 * channels + num_coefficients, *[hidden] * depth]
        self.layers = nn.ModuleList(CONVOLUTIONS[rank](inputs, outputs, kernel) for inputs, outputs in pairwise(widths))
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1))
        shape = (channels, *[1] * rank)
        for name in ("mean", "std", "step"):
            self.register_buffer(name, torch.zeros(shape) if name == "mean" else torch.ones(shape))

    def set_statistics(self, frames: Tensor, successors: Tensor) -> None:
        """Take the units of fields and of their increments from training frames (B, C, *space) and what follows."""
        over = (0, *range(2, frames.dim()))
        self.mean.copy_(frames.mean(over).reshape(self.mean.shape))
        self.std.copy_(frames.std(over).clamp_min(1e-12).reshape(self.std.shape))
        self.step.copy_((successors - frames).square().mean(over).sqrt().clamp_min(1e-12).reshape(self.step.shape))

    def forward(self, previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
        """Return the scores, (B,), of steps from `previous` to `frame`, (B, C, *space), physical; higher is better."""
        space = previous.shape[2:]
        scalars = coefficients.sign() * torch.log1p(coefficients.abs() / 1e-3) / 5
        h = torch.cat(
            [
                (previous - self.mean) / self.std,
                (frame - previous) / self.step,
                scalars.reshape(*scalars.shape, *[1] * len(space)).expand(-1, -1, *space),
            ],
            dim=1,
        )
        for layer in self.layers:
            h = nn.functional.silu(layer(wrap(h, self.pad)))
        score: Tensor = self.head(h.flatten(2).mean(2))
        return score[:, 0]
