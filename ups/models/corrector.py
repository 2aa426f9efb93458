"""The corrector: what the frozen operator's one-step prediction still lacks.

Shapes: B batch, N tokens, D latent width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ups.models.token_mlp import token_mlp


class LatentCorrector(nn.Module):
    """What correctors have in common: the units that they see latents in and predict in.

    Args:
        dim: latent width D.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.register_buffer("scale", torch.ones(dim))

    def set_statistics(self, mean: Tensor, std: Tensor, scale: Tensor) -> None:
        """Take latent mean and deviation, and the deviation `scale` of the residual, each (D,)."""
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.scale.copy_(scale)

    def standardize(self, z: Tensor) -> Tensor:
        return (z - self.mean) / self.std


def per_token(tau: Tensor, tokens: int) -> Tensor:
    """Return times (B,) as one more input of every token, (B, N, 1)."""
    return tau[:, None, None].expand(-1, tokens, 1)


class ResidualCorrector(LatentCorrector):
    """Per-token SiLU MLP on [z_hat, tau]; drift(z_hat, tau) ~ z - z_hat.

    In this objective the target does not depend on tau: tau is a dummy input that only spreads the candidates of a
    test-time search. At dim 16 and width 96, depths 2, 3, 4, 5 have 3,280 / 12,592 / 21,904 / 31,216 parameters.

    Args:
        dim: latent width D.
        hidden, depth, zero_init, options: of the network, see `token_mlp`; zero_init starts from the zero correction.
    """

    def __init__(self, dim: int, hidden: int, depth: int, zero_init: bool, **options: Any) -> None:
        super().__init__(dim)
        self.mlp = token_mlp(dim + 1, dim, hidden, depth, zero_init, **options)

    def forward(self, z_hat: Tensor, tau: Tensor) -> Tensor:
        """Return the correction to add to `z_hat`: (B, N, D), (B,) -> (B, N, D)."""
        level = per_token(tau, z_hat.shape[1])
        return self.scale * self.mlp(torch.cat([self.standardize(z_hat), level], dim=-1))
