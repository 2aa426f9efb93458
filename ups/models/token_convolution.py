"""Residual convolution over the tokens of a periodic domain."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ups.models.token_grid import CONVOLUTIONS, from_grid, to_grid, wrap


class TokenConvolution(nn.Module):
    """h + W2 gelu(W1 * h), W1 a periodic convolution over tokens, W2 pointwise and zero at initialisation.

    Args:
        width: channels of `h`.
        kernel: odd number of tokens the convolution sees along each axis.
        shape: tokens along each axis.

    Shapes: (B, N, width) -> (B, N, width).
    """

    def __init__(self, width: int, kernel: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.pad, self.shape = kernel // 2, tuple(shape)
        self.mix = CONVOLUTIONS[len(self.shape)](width, width, kernel)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor) -> Tensor:
        mixed = self.mix(wrap(to_grid(h, self.shape), self.pad))
        return h + self.out(F.gelu(from_grid(mixed)))
