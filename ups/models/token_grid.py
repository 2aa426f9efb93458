"""How tokens lie on the domain: one for each patch of a regular grid, of any rank.

Tokens are one axis N in files and networks, row by row (the last axis of space runs fastest); whatever looks at
neighbours folds that axis into the grid of tokens first. Shapes: B batch, N tokens, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ups.errors import ParameterError

CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
Size = int | Sequence[int]


def axes(size: Size) -> tuple[int, ...]:
    """Return a size along each axis; a plain number is that of the only axis."""
    return (size,) if isinstance(size, int) else tuple(size)


def token_grid(points: Sequence[int], tokens: int) -> tuple[int, ...]:
    """Divide a grid into `tokens` equal patches that are as near to cubes as possible.

    Args:
        points: grid points along each axis.
        tokens: number of patches.

    Returns:
        Patches along each axis.

    Raises:
        ParameterError: if no division into that many equal patches exists.
    """
    best: tuple[int, ...] | None = None
    for shape in _factorizations(tokens, len(points)):
        if any(count % parts for count, parts in zip(points, shape, strict=True)):
            continue
        if best is None or _stretch(points, shape) < _stretch(points, best):
            best = shape
    if best is None:
        grid = " x ".join(map(str, points))
        raise ParameterError(
            f"latent.tokens = {tokens} must divide the {grid} grid points left after data.space_stride"
            + (" into equal patches" if len(points) > 1 else "")
        )
    return best


def to_grid(tokens: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, N, W) -> (B, W, *shape): the layout of convolutions."""
    return tokens.transpose(1, 2).unflatten(2, tuple(shape))


def from_grid(field: Tensor) -> Tensor:
    """(B, W, *shape) -> (B, N, W)."""
    return field.flatten(2).transpose(1, 2)


def patches(u: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, C, *space) -> (B, N, C R): the values under each token, R points of each channel."""
    rank = len(shape)
    for axis, tokens in enumerate(shape):
        u = u.unflatten(2 + 2 * axis, (tokens, -1))  # (B, C, t_0, r_0, t_1, r_1, ...)
    order = (0, *range(2, 2 + 2 * rank, 2), 1, *range(3, 3 + 2 * rank, 2))
    return u.permute(order).flatten(1 + rank).flatten(1, rank)


def from_patches(values: Tensor, shape: Sequence[int], points: Sequence[int]) -> Tensor:
    """(B, C, N, R) -> (B, C, *points)."""
    rank = len(shape)
    sides = [count // tokens for count, tokens in zip(points, shape, strict=True)]
    folded = values.unflatten(3, tuple(sides)).unflatten(2, tuple(shape))
    order = (0, 1, *(axis for at in range(rank) for axis in (2 + at, 2 + rank + at)))
    return folded.permute(order).reshape(*values.shape[:2], *points)


def wrap(field: Tensor, width: int) -> Tensor:
    """Continue (B, W, *shape) periodically by `width` on every side."""
    return F.pad(field, (width, width) * (field.dim() - 2), mode="circular")


def neighbour_offsets(kernel: int, rank: int) -> list[tuple[int, ...]]:
    """Return the offsets of the kernel^rank tokens around a token, row by row."""
    line = torch.arange(kernel) - kernel // 2
    return [tuple(int(step) for step in offset) for offset in torch.cartesian_prod(*[line] * rank).reshape(-1, rank)]


def neighbours(kernel: int, shape: Sequence[int]) -> Tensor:
    """Return for each token of a periodic grid the kernel^rank tokens around it, (N, kernel^rank) positions."""
    numbers = torch.arange(math.prod(shape))[None, :, None]
    around = [shifted(numbers, offset, shape)[0, :, 0] for offset in neighbour_offsets(kernel, len(shape))]
    return torch.stack(around, dim=1)


def shifted(tokens: Tensor, offset: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return for each token the one that lies `offset` further on the periodic grid, (B, N, W) -> (B, N, W)."""
    folded = tokens.unflatten(1, tuple(shape))
    steps = tuple(-step for step in offset)
    return folded.roll(steps, dims=tuple(range(1, 1 + len(steps)))).flatten(1, len(steps))


def merge_pairs(tokens: Tensor, shape: Sequence[int]) -> Tensor:
    """Join neighbours in pairs along the longest axis: (B, N, W) -> (B, N/2, 2 W)."""
    axis = longest(shape)
    folded = tokens.unflatten(1, (*shape[:axis], shape[axis] // 2, 2, *shape[axis + 1 :]))
    return folded.movedim(2 + axis, -2).flatten(-2).flatten(1, len(shape))


def split_pairs(tokens: Tensor, shape: Sequence[int]) -> Tensor:
    """Undo `merge_pairs`; `shape` is that of the finer grid: (B, N/2, 2 W) -> (B, N, W)."""
    axis = longest(shape)
    folded = tokens.unflatten(1, (*shape[:axis], shape[axis] // 2, *shape[axis + 1 :])).unflatten(-1, (2, -1))
    return folded.movedim(-2, 2 + axis).flatten(1, len(shape) + 1)


def halved(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the grid after `merge_pairs`."""
    axis = longest(shape)
    return tuple(count // 2 if at == axis else count for at, count in enumerate(shape))


def longest(shape: Sequence[int]) -> int:
    """Return the axis with the most tokens, the first of them in a tie."""
    return max(range(len(shape)), key=lambda at: shape[at])


def _factorizations(number: int, parts: int) -> list[tuple[int, ...]]:
    if parts == 1:
        return [(number,)]
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return [(d, *rest) for d in divisors for rest in _factorizations(number // d, parts - 1)]


def _stretch(points: Sequence[int], shape: Sequence[int]) -> tuple[float, int]:
    """Return how far patches are from cubes, and after that how far the grid of tokens is."""
    sides = [math.log(count / parts) for count, parts in zip(points, shape, strict=True)]
    return round(max(sides) - min(sides), 9), -min(shape)
