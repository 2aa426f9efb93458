"""Residual convolution over the tokens of a periodic domain."""

import torch.nn.functional as F
from torch import Tensor, nn


class TokenConvolution(nn.Module):
    """h + W2 gelu(W1 * h), W1 a periodic convolution over tokens, W2 pointwise and zero at initialisation.

    Args:
        width: channels of `h`.
        kernel: odd number of tokens the convolution sees.

    Shapes: (B, N, width) -> (B, N, width).
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.pad = kernel // 2
        self.mix = nn.Conv1d(width, width, kernel)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor) -> Tensor:
        wrapped = F.pad(h.transpose(1, 2), (self.pad, self.pad), mode="circular")
        return h + self.out(F.gelu(self.mix(wrapped).transpose(1, 2)))
