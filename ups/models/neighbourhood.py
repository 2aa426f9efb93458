"""Points and the tokens near them: relative coordinates, their Fourier features, and a partition of unity.

Shared by the decoder that reads tokens at points and by the encoder that collects points into tokens.

Shapes: Q points, d axes, K neighbouring tokens, R grid points per token, F frequencies. Positions are fractions of the
domain, relative coordinates are in widths of a token.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ups.errors import ParameterError


def check_neighbours(key: str, neighbours: int, shape: Sequence[int]) -> None:
    """Refuse a neighbourhood that has no middle or does not fit the tokens.

    Raises:
        ParameterError: naming the parameter `key`.
    """
    if neighbours % 2 == 0 or not 3 <= neighbours <= min(shape):
        raise ParameterError(
            f"{key} = {neighbours} must be odd, at least 3 and at most the tokens along "
            f"each axis: latent.tokens = {math.prod(shape)} make {' x '.join(map(str, shape))}"
        )


def nearest_tokens(x: Tensor, shape: Sequence[int], offsets: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """Find the tokens near points of the periodic domain.

    Args:
        x: positions in [0, 1), (..., Q, d).
        shape: tokens along each axis.
        offsets: which tokens count as near, relative to the one a point lies in, K of them.

    Returns:
        x minus the centre of each near token, (..., Q, K, d), and that token's number, (..., Q, K).
    """
    counts = torch.tensor(shape, device=x.device)
    position = x * counts
    nearest = position.floor()[..., None, :] + torch.tensor(offsets, device=x.device)
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    index = (nearest.long().remainder(counts) * torch.tensor(strides, device=x.device)).sum(-1)
    return position[..., None, :] - nearest - 0.5, index


def inside_patch(points: Sequence[int], shape: Sequence[int], like: Tensor) -> Tensor:
    """Return the grid points under a token, relative to its centre, row by row: (R, d), of the kind of `like`."""
    sides = [count // tokens for count, tokens in zip(points, shape, strict=True)]
    return cell_centres(sides, like) - 0.5


def cell_centres(counts: Sequence[int], like: Tensor) -> Tensor:
    """Return the centres of a regular grid of cells in [0, 1), row by row: (cells, d), of the kind of `like`."""
    lines = [(torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) / count for count in counts]
    return torch.cartesian_prod(*lines).reshape(-1, len(counts))


def frequencies_of(count: int, neighbours: int) -> Tensor:
    """Return the angular frequencies of features over a neighbourhood, (F,)."""
    return torch.arange(1, count + 1) * (2 * math.pi / neighbours)


def basis_network(rank: int, frequencies: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return a small network on `relative_features`: (..., d (2 F + 1)) -> (..., outputs)."""
    return nn.Sequential(
        nn.Linear(rank * (2 * frequencies + 1), hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden),
        nn.GELU(),
        nn.Linear(hidden, outputs),
    )


def relative_features(relative: Tensor, frequencies: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Describe relative coordinates.

    Args:
        relative: (..., d), within +-neighbours/2.
        frequencies: (F,), see `frequencies_of`.
        neighbours: width of the neighbourhood along each axis, in tokens.

    Returns:
        Features (..., d (2 F + 1)), and the window (...): the product over axes of Hann windows `neighbours` wide,
        which sum to one over the neighbouring tokens of a point and vanish where the neighbours change.
    """
    features, windows = [], []
    for along in relative.unbind(-1):
        phase = along[..., None] * frequencies
        scaled = along[..., None] * (2 / neighbours)
        features += [scaled, phase.sin(), phase.cos()]
        windows.append(torch.cos(along * (math.pi / neighbours)).square() * (2 / neighbours))
    return torch.cat(features, dim=-1), functools.reduce(torch.mul, windows)
