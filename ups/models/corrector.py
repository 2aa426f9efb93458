"""The corrector: what the frozen operator's one-step prediction still lacks.

Shapes: B batch, N tokens, D latent width.
"""

import itertools

import torch
from torch import Tensor, nn


class ResidualCorrector(nn.Module):
    """Per-token SiLU MLP on [z_hat, tau]; drift(z_hat, tau) ~ z - z_hat.

    In this objective the target does not depend on tau: tau is a dummy input that only spreads the candidates of a
    test-time search. At dim 16 and width 96, depths 2, 3, 4, 5 have 3,280 / 12,592 / 21,904 / 31,216 parameters.

    Args:
        dim: latent width D.
        hidden: width of the MLP.
        depth: number of linear layers, at least 2.
        zero_init: start from the zero correction.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor

    def __init__(self, dim: int, hidden: int, depth: int, zero_init: bool) -> None:
        super().__init__()
        widths = [dim + 1, *[hidden] * (depth - 1), dim]
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.SiLU()]
        self.mlp = nn.Sequential(*layers[:-1])
        if zero_init:
            for parameter in self.mlp[-1].parameters():
                nn.init.zeros_(parameter)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.register_buffer("scale", torch.ones(dim))

    def set_statistics(self, mean: Tensor, std: Tensor, scale: Tensor) -> None:
        """Take latent mean and deviation, and the deviation `scale` of the residual, each (D,)."""
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.scale.copy_(scale)

    def forward(self, z_hat: Tensor, tau: Tensor) -> Tensor:
        """Return the correction to add to `z_hat`: (B, N, D), (B,) -> (B, N, D)."""
        level = tau[:, None, None].expand(-1, z_hat.shape[1], 1)
        return self.scale * self.mlp(torch.cat([(z_hat - self.mean) / self.std, level], dim=-1))
