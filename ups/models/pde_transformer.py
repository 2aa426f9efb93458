"""A U-shaped transformer over latent tokens with channel-separated attention.

After PDE-Transformer (Holzschuh et al. 2025, arXiv:2505.24717): channels are split into groups, attention mixes
tokens inside each group with weights shared by all groups, and pairs of tokens are merged going down, split going up.
The domain is periodic and of any rank: positions enter as circular distances along each axis, and pairs are neighbours
along the axis that has the most tokens.

Shapes: B batch, N tokens, d axes of the grid of tokens, W width, G channels per group, D latent width, E embedding of
the condition.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ups.errors import ParameterError
from ups.models.conditioning import block_features
from ups.models.token_grid import (
    CONVOLUTIONS,
    Size,
    axes,
    from_grid,
    halved,
    merge_pairs,
    split_pairs,
    to_grid,
    wrap,
)


class GroupAttention(nn.Module):
    """Self-attention over periodic tokens in each channel group, with a learned bias per head and circular distance.

    Shapes: (B, N, W) -> (B, N, W).
    """

    distance: Tensor

    def __init__(self, shape: Sequence[int], group: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.group, self.heads, self.dropout = group, heads, dropout
        self.qkv = nn.Linear(group, 3 * group)
        self.out = nn.Linear(group, group)
        places = torch.cartesian_prod(*(torch.arange(count) for count in shape)).reshape(-1, len(shape))  # (N, d)
        self.distance_bias = nn.Parameter(self._local_bias(places, shape, heads))
        # Circular distances along all axes, counted row by row like the tokens: an index into the bias.
        counts = torch.tensor(shape)
        strides = torch.tensor([math.prod(shape[axis + 1 :]) for axis in range(len(shape))])
        apart = (places[None, :] - places[:, None]).remainder(counts)
        self.register_buffer("distance", (apart * strides).sum(-1), persistent=False)

    @staticmethod
    def _local_bias(distance: Tensor, shape: Sequence[int], heads: int) -> Tensor:
        """Start head h as a bump around its own shift, -2 to 2 tokens: attention that begins as a local stencil.

        A bias quadratic in the distance makes attention a convolution (Cordonnier et al. 2020, arXiv:1911.03584).
        Started from zero, all heads average the whole domain, and a thousand updates go by before they find their
        neighbours. With several axes, heads take turns: each is shifted along one of them.

        Shapes: distances (N, d) -> (heads, N).
        """
        rank = len(shape)
        squares = torch.zeros(heads, len(distance))
        for axis, tokens in enumerate(shape):
            shifts = torch.zeros(heads)
            own = len(range(axis, heads, rank))
            shifts[axis::rank] = torch.linspace(-2, 2, own).round() if own > 1 else torch.zeros(own)
            away = (distance[:, axis] - shifts[:, None] + tokens / 2).remainder(tokens) - tokens / 2
            squares = squares + away.square()
        return -2.0 * squares.clamp_max(4.0)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        groups = width // self.group
        split = x.reshape(batch, tokens, groups, self.group)
        qkv = self.qkv(split).reshape(batch, tokens, groups, 3, self.heads, self.group // self.heads)
        q, k, v = qkv.permute(3, 0, 2, 4, 1, 5).flatten(1, 3)  # each (B * groups * heads, N, G / heads)
        # Written out, because heads are a few channels wide: torch's fused kernels do not take such heads, and its
        # fallback spends a quarter of its time on looking for rows that are masked as a whole, which do not exist here.
        scores = torch.bmm(q * q.shape[-1] ** -0.5, k.transpose(1, 2)).unflatten(0, (-1, self.heads))
        weights = (scores + self.distance_bias[:, self.distance]).softmax(dim=-1).flatten(0, 1)
        weights = F.dropout(weights, self.dropout, self.training)
        mixed = torch.bmm(weights, v).unflatten(0, (batch * groups, self.heads))
        mixed = mixed.transpose(1, 2).reshape(batch, groups, tokens, self.group)
        return self.out(mixed).transpose(1, 2).reshape(batch, tokens, width)


class DropPath(nn.Module):
    """Drop a residual branch for a share `rate` of the samples in training; the others are scaled to keep its mean.

    Stochastic depth (Huang et al. 2016, arXiv:1603.09382). Shapes: (B, N, W) -> (B, N, W).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.rate
        return branch * kept / (1 - self.rate)


class Block(nn.Module):
    """Pre-norm attention and MLP, each modulated by the condition (AdaLN).

    The modulation is a linear map that is zero at initialisation: an untrained block does not see the condition.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int,
        group: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        condition: int,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        inner = round(width * mlp_ratio)
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.attention = GroupAttention(shape, group, heads, dropout)
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Dropout(dropout), nn.Linear(inner, width))
        self.modulation = nn.Linear(condition, 4 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale_a, shift_a, scale_m, shift_m = self.modulation(condition)[:, None].chunk(4, dim=-1)
        x = x + self.drop_path(self.attention(self.norms[0](x) * (1 + scale_a) + shift_a))
        return x + self.drop_path(self.mlp(self.norms[1](x) * (1 + scale_m) + shift_m))


class Level(nn.Module):
    """The blocks of one resolution, one after the other."""

    def __init__(self, depth: int, shape: Sequence[int], **block: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(shape, **block) for _ in range(depth))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, condition)
        return x


class PdeTransformer(nn.Module):
    """Tokens -> increments of the tokens in each of the next frames; exactly zero at initialisation.

    Args:
        tokens: tokens along each axis, or their number on a line; divisible by 2 along the longest axis once for each
            level but the last.
        dim: latent width.
        num_conditions: scalars the model is conditioned on (dt and the PDE coefficients).
        hidden: width W of all levels.
        depths: blocks per level, finest first; all levels but the coarsest have as many again on the way up.
        group, heads, mlp_ratio, dropout: see `Block`.
        stem: odd number of tokens the embedding sees along each axis: a front crosses one to two tokens per time step,
            and a convolution finds that at once where attention has to learn it.
        frames: number F of increments.
        modulated: whether there are several regimes. Every block is modulated by the condition in any case; for several
            the features that do it are more, and of two layers.
        out_dim: width of the increments where it is not that of the tokens.
    """

    def __init__(
        self,
        tokens: Size,
        dim: int,
        num_conditions: int,
        hidden: int,
        depths: Sequence[int],
        group: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        stem: int,
        frames: int = 1,
        modulated: bool = False,
        out_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.pad = stem // 2
        self.embed_condition, width = block_features(num_conditions, modulated)
        shapes = [axes(tokens)]
        for _ in depths[1:]:
            if max(shapes[-1]) % 2:
                raise ParameterError(
                    f"latent.tokens make a grid of {' x '.join(map(str, axes(tokens)))} tokens, whose longest axis "
                    f"cannot be halved {len(depths) - 1} times as train_operator.model.depths = {list(depths)} asks; "
                    "use fewer levels or another number of tokens"
                )
            shapes.append(halved(shapes[-1]))
        self.shapes = shapes
        self.embed = CONVOLUTIONS[len(shapes[0])](dim, hidden, stem)

        def level(index: int) -> Level:
            return Level(
                depths[index],
                shapes[index],
                width=hidden,
                group=group,
                heads=heads,
                mlp_ratio=mlp_ratio,
                dropout=dropout,
                condition=width,
            )

        coarsest = len(depths) - 1
        self.down = nn.ModuleList(level(index) for index in range(coarsest))
        self.merge = nn.ModuleList(nn.Linear(2 * hidden, hidden) for _ in range(coarsest))
        self.bottom = level(coarsest)
        self.split = nn.ModuleList(nn.Linear(hidden, 2 * hidden) for _ in range(coarsest))
        self.up = nn.ModuleList(level(index) for index in reversed(range(coarsest)))
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, frames * (out_dim or dim))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return f(z, condition): (B, N, D), (B, num_conditions) -> (B, N, F D)."""
        features = self.embed_condition(condition)
        x = from_grid(self.embed(wrap(to_grid(z, self.shapes[0]), self.pad)))
        skips = []
        for level, merge, shape in zip(self.down, self.merge, self.shapes[:-1], strict=True):
            x = level(x, features)
            skips.append(x)
            x = merge(merge_pairs(x, shape))
        x = self.bottom(x, features)
        for level, split, shape in zip(self.up, self.split, reversed(self.shapes[:-1]), strict=True):
            x = split_pairs(split(x), shape) + skips.pop()
            x = level(x, features)
        return self.head(self.norm(x))
