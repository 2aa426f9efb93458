"""The global any-point decoder: a query point attends to all tokens.

Shapes: B batch, C field channels, d axes, N tokens, D latent width, H hidden width, Q query points, F frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ups.errors import ParameterError
from ups.models.neighbourhood import cell_centres

# Values of hidden layers that are held at a time where no gradient is needed: 256 MiB in float32.
_MOST_VALUES = 2**26


class CrossAttention(nn.Module):
    """q + attention of q to the tokens, then a residual MLP on each query; both pre-norm.

    Shapes: (B, Q, H), (B, N, H) -> (B, Q, H).
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(2))
        self.query, self.key, self.value, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden))

    def forward(self, q: Tensor, tokens: Tensor) -> Tensor:
        parts = (self.query(self.norms[0](q)), self.key(tokens), self.value(tokens))
        split = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]
        q = q + self.out(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))
        return q + self.mlp(self.norms[1](q))


class GlobalDecoder(nn.Module):
    """Any point x -> field value, from all tokens: a query made of Fourier features of the absolute coordinates

        phi(x) = [sin(2 pi k x_a), cos(2 pi k x_a)],    k = 1..F, along each axis a,

    attends `depth` times to the tokens, which carry the features of their own places. The features are periodic, so is
    the field. Unlike `LocalDecoder` it has to learn which tokens are near a point, and every frame costs Q x N scores.

    Args:
        channels: field channels C.
        shape: tokens along each axis.
        dim: latent width D.
        hidden: width H, a multiple of `heads`.
        depth: number of cross-attention blocks.
        heads: heads of each.
        frequencies: F; to tell one token from the next it takes about half the tokens along an axis.

    Raises:
        ParameterError: if `heads` do not divide `hidden`.
    """

    frequencies: Tensor
    places: Tensor
    grid_queries: Tensor | None

    def __init__(
        self, channels: int, shape: Sequence[int], dim: int, hidden: int, depth: int, heads: int, frequencies: int
    ) -> None:
        super().__init__()
        if hidden % heads:
            raise ParameterError(f"train_codec.decoder.heads = {heads} must divide decoder.hidden = {hidden}")
        self.hidden = hidden
        features = 2 * frequencies * len(shape)
        self.query = nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.content, self.place = nn.Linear(dim, hidden), nn.Linear(features, hidden)
        self.blocks = nn.ModuleList(CrossAttention(hidden, heads) for _ in range(depth))
        self.head = nn.Linear(hidden, channels)
        self.register_buffer("frequencies", torch.arange(1, frequencies + 1) * (2 * math.pi), persistent=False)
        self.register_buffer("places", self._features(cell_centres(shape, self.frequencies)), persistent=False)
        self.register_buffer("grid_queries", None, persistent=False)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Decode at query points.

        Args:
            z: tokens, (B, N, D).
            x: positions as fractions of the domain, (Q, d) or (B, Q, d).

        Returns:
            Field values, (B, C, Q).
        """
        return self._attend(z, self.query(self._features(x)))

    def on_grid(self, z: Tensor, points: Sequence[int]) -> Tensor:
        """Decode at the cell centres of a regular grid: (B, N, D) -> (B, C, *points)."""
        queries = self._on_grid(points) if self.grid_queries is None else self.grid_queries
        return self._attend(z, queries).unflatten(2, tuple(points))

    @torch.no_grad()
    def keep_grid(self, points: Sequence[int]) -> None:
        """Compute the queries of the grid once and for all; only for a decoder whose weights no longer change."""
        self.grid_queries = self._on_grid(points)

    def _on_grid(self, points: Sequence[int]) -> Tensor:
        return self.query(self._features(cell_centres(points, self.frequencies)))

    def _attend(self, z: Tensor, queries: Tensor) -> Tensor:
        """Tokens (B, N, D) and queries ([B,] Q, H) -> (B, C, Q)."""
        queries = queries.expand(len(z), -1, -1)
        rows = len(z) if torch.is_grad_enabled() else max(1, _MOST_VALUES // (queries.shape[1] * self.hidden))
        return torch.cat([self._read(*part) for part in zip(z.split(rows), queries.split(rows), strict=True)])

    def _read(self, z: Tensor, queries: Tensor) -> Tensor:
        tokens = self.content(z) + self.place(self.places)
        for block in self.blocks:
            queries = block(queries, tokens)
        return self.head(queries).transpose(1, 2)

    def _features(self, x: Tensor) -> Tensor:
        """Positions (..., d) -> (..., 2 F d)."""
        phase = (x[..., None] * self.frequencies).flatten(-2)
        return torch.cat([phase.sin(), phase.cos()], dim=-1)
