"""A residual network of token convolutions, without normalisation layers: the flagship's step map.

Normalising layers make the increment of a token independent of its size, so a field that has nearly come to rest drifts
on. Without them small fields make small increments.

Shapes: B batch, N tokens, D latent width, W width, E conditions.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ups.models.conditioning import embedding
from ups.models.token_grid import Size, axes, neighbours


class NeighbourBlock(nn.Module):
    """h + W2 gelu(W1 [h_(n-k/2), ..., h_(n+k/2)]): a periodic convolution over tokens, written as one matrix.

    The function of `TokenConvolution`. As a matrix, the kernel can be trained by an optimiser for matrices, and an
    update costs about three quarters on a CPU. On a grid of rank d it sees kernel^d tokens.

    Shapes: (B, N, W) -> (B, N, W).
    """

    around: Tensor

    def __init__(self, width: int, kernel: int, shape: Sequence[int]) -> None:
        super().__init__()
        around = neighbours(kernel, shape)
        # One gather: rolling and joining cost as much as the matrix product where the batch is small.
        self.register_buffer("around", around.flatten(), persistent=False)
        self.mix = nn.Linear(around.shape[1] * width, width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor, modulation: Tensor | None = None) -> Tensor:
        """Return the block's output; `modulation` (B, 1, 2 W), scale and shift of what was mixed (FiLM)."""
        batch, tokens, _ = h.shape
        mixed = self.mix(h.index_select(1, self.around).view(batch, tokens, -1))
        if modulation is not None:
            scale, shift = modulation.chunk(2, dim=-1)
            mixed = mixed * (1 + scale) + shift
        return h + self.out(F.gelu(mixed))


class Modulation(nn.Module):
    """Scale and shift for each of several blocks from the condition; zero at initialisation, whatever the condition.

    FiLM (Perez et al. 2018, arXiv:1709.07871).

    Shapes: (B, num_conditions) -> one (B, 1, 2 W) for each block.
    """

    EMBEDDING = 32

    def __init__(self, num_conditions: int, width: int, blocks: int) -> None:
        super().__init__()
        self.embed = embedding(num_conditions, self.EMBEDDING)
        self.heads = nn.ModuleList(nn.Linear(self.EMBEDDING, 2 * width) for _ in range(blocks))
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)

    def forward(self, condition: Tensor) -> list[Tensor]:
        features = self.embed(condition)
        return [head(features)[:, None] for head in self.heads]


class TokenNetwork(nn.Module):
    """Tokens -> increments of the tokens in each of the next frames; exactly zero at initialisation.

    Args:
        tokens: tokens along each axis, or their number on a line; the weights depend on the number of axes alone.
        dim: latent width.
        num_conditions: scalars the model is conditioned on (dt and the PDE coefficients).
        hidden: width W.
        blocks: number of blocks; a token reads blocks * (kernel // 2) tokens on either side.
        kernel: odd number of tokens a block sees along each axis.
        frames: number F of increments.
        modulated: whether the condition modulates every block, not only the first features.
        out_dim: width of the increments where it is not that of the tokens.
    """

    def __init__(
        self,
        tokens: Size,
        dim: int,
        num_conditions: int,
        hidden: int,
        blocks: int,
        kernel: int,
        frames: int = 1,
        modulated: bool = False,
        out_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.lift = nn.Linear(dim, hidden)
        # Zero at initialisation: an untrained network does not see the condition.
        self.modulation = nn.Linear(num_conditions, 2 * hidden)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.blocks = nn.Sequential(*(NeighbourBlock(hidden, kernel, axes(tokens)) for _ in range(blocks)))
        self.head = nn.Linear(hidden, frames * (out_dim or dim))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        # Last, so that a network with it begins with the same weights as one without.
        self.film = Modulation(num_conditions, hidden, blocks) if modulated else None

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return f(z, condition): (B, N, D), (B, num_conditions) -> (B, N, F D)."""
        scale, level = self.modulation(condition)[:, None].chunk(2, dim=-1)
        h = self.lift(z) * (1 + scale) + level
        if self.film is None:
            return self.head(self.blocks(h))
        for block, modulation in zip(self.blocks, self.film(condition), strict=True):
            h = block(h, modulation)
        return self.head(h)
