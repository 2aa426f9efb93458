"""An encoder of point clouds and meshes: messages from points to tokens, and between tokens.

Shapes: B batch, C field channels, *space grid points, d axes, Q points, N tokens, D latent width, H hidden width, K
neighbouring tokens, R grid points per token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ups.errors import DataError
from ups.models.neighbourhood import (
    basis_network,
    cell_centres,
    check_neighbours,
    frequencies_of,
    inside_patch,
    nearest_tokens,
    relative_features,
)
from ups.models.token_convolution import TokenConvolution
from ups.models.token_grid import neighbour_offsets, patches, shifted, token_grid


class PointEncoder(nn.Module):
    """Values at any points -> tokens. Tokens are supernodes at fixed places, the centres of equal parts of the domain:

        m_n = sum_j V_j w(r_jn) <b(r_jn), v_j> / sum_j V_j w(r_jn),    r_jn = (x_j - x_n) in widths of a token,
        z = W m + V mix(U m),

    with v_j the values at point j, V_j its volume, b a small network on Fourier features of the relative coordinate, w
    the Hann window of `LocalDecoder`, and `mix` `depth` rounds of messages between neighbouring tokens.

    The first line is a message-passing layer from points to supernodes, whose messages are pooled with learned weights
    (a continuous-filter convolution, Schuett et al. 2017, arXiv:1706.08566; supernodes: Alkin et al. 2024,
    arXiv:2402.12365). It is a quotient of sums, so the order of the points does not matter, and as a quadrature of an
    integral over the window it depends on their number and places only through its error. On a grid whose points the
    tokens divide the relative coordinates repeat under every token, and the sum is one matrix product.

    Args:
        channels: field channels C.
        points: grid points along each axis of the training grid; only how tokens divide the domain follows from it.
        tokens, dim: size of the latent space.
        hidden: width H.
        depth, kernel: rounds of messages between tokens, and the odd number of tokens each sees along each axis.
        neighbours: width of the window along each axis in tokens, odd.
        frequencies: of the Fourier features.
    """

    frequencies: Tensor

    def __init__(
        self,
        channels: int,
        points: Sequence[int],
        tokens: int,
        dim: int,
        hidden: int,
        depth: int,
        kernel: int,
        neighbours: int,
        frequencies: int,
    ) -> None:
        super().__init__()
        self.shape = token_grid(points, tokens)
        check_neighbours("train_codec.encoder.neighbours", neighbours, self.shape)
        self.channels, self.tokens, self.neighbours = channels, tokens, neighbours
        self.offsets = neighbour_offsets(neighbours, len(self.shape))  # K
        self.basis = basis_network(len(self.shape), frequencies, hidden, channels * hidden)
        self.register_buffer("frequencies", frequencies_of(frequencies, neighbours))
        self.linear = nn.Linear(hidden, dim)
        self.lift = nn.Linear(hidden, hidden)
        self.mix = nn.Sequential(*(TokenConvolution(hidden, kernel, self.shape) for _ in range(depth)))
        self.out = nn.Linear(hidden, dim, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, u: Tensor) -> Tensor:
        """Encode fields on a regular grid, of any number of points: (B, C, *space) -> (B, N, D)."""
        points = u.shape[2:]
        if any(count % parts for count, parts in zip(points, self.shape, strict=True)):
            return self.at(u.flatten(2), cell_centres(points, u))
        inside = inside_patch(points, self.shape, self.frequencies)  # (R, d)
        filters, window = self._filters(inside[:, None] + torch.tensor(self.offsets, device=u.device))
        under = patches(u, self.shape).unflatten(-1, (self.channels, -1))  # (B, N, C, R)
        near = torch.stack([shifted(under.flatten(2), offset, self.shape) for offset in self.offsets], dim=2)
        near = near.unflatten(-1, (self.channels, -1))  # (B, N, K, C, R)
        return self._tokens(torch.einsum("rkch,bnkcr->bnh", filters, near) / window.sum())

    def at(self, values: Tensor, x: Tensor, volumes: Tensor | None = None) -> Tensor:
        """Encode values at scattered points: (B, C, Q) -> (B, N, D).

        Args:
            values: (B, C, Q).
            x: positions as fractions of the domain, in [0, 1), (Q, d) or (B, Q, d).
            volumes: of the points' cells, (Q,) or (B, Q); equal ones by default.

        Raises:
            DataError: if a token has no point within its window.
        """
        batch, _, count = values.shape
        relative, index = nearest_tokens(x, self.shape, self.offsets)  # ([B,] Q, K, d), ([B,] Q, K)
        filters, window = self._filters(relative)  # ([B,] Q, K, C, H), ([B,] Q, K)
        if volumes is not None:
            filters, window = filters * volumes[..., None, None, None], window * volumes[..., None]
        equation = "qkch,bcq->bqkh" if x.ndim == 2 else "bqkch,bcq->bqkh"
        messages = torch.einsum(equation, filters, values)
        # One row of supernodes per sample, so that every sample may have points of its own.
        rows = torch.arange(batch, device=x.device)[:, None, None] * self.tokens
        places = (index + rows).expand(batch, count, -1).flatten()
        sums = messages.new_zeros(batch * self.tokens, messages.shape[-1])
        sums = sums.index_add(0, places, messages.flatten(0, 2))
        weights = window.expand(batch, count, -1).flatten()
        totals = weights.new_zeros(batch * self.tokens).index_add(0, places, weights)
        if not bool((totals > 0).all()):
            empty = int((totals <= 0).sum())
            raise DataError(
                f"{empty} of {batch * self.tokens} tokens have no point within their window: {count} points are too "
                f"few or too uneven for {' x '.join(map(str, self.shape))} tokens. Give more, or take fewer tokens."
            )
        return self._tokens((sums / totals[:, None]).unflatten(0, (batch, self.tokens)))

    def _filters(self, relative: Tensor) -> tuple[Tensor, Tensor]:
        """Relative coordinates (..., d) -> windowed filters (..., C, H) and the window (...)."""
        features, window = relative_features(relative, self.frequencies, self.neighbours)
        # Larger by sqrt(K): the mean over a window of many tokens would begin small.
        filters = self.basis(features) * (window[..., None] * math.sqrt(len(self.offsets)))
        return filters.unflatten(-1, (self.channels, -1)), window

    def _tokens(self, pooled: Tensor) -> Tensor:
        return self.linear(pooled) + self.out(self.mix(self.lift(pooled)))
