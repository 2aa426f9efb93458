"""Point values and cell averages on a periodic grid, and grids of different fineness.

A stored frame holds *point values at cell centres*; a finite-volume scheme evolves *cell averages*. They differ by
dx^2 u''/24, which is as large as the error of a second-order scheme, so the two are converted and never mixed.
All functions act on the last axis and take tensors (..., X); all conserve the sum of what they convert.
"""

import torch
from torch import Tensor


def averages_from_points(points: Tensor) -> Tensor:
    """Return cell averages, to O(dx^4): p + (p_{i+1} - 2 p_i + p_{i-1}) / 24."""
    return points + _second_difference(points) / 24


def points_from_averages(averages: Tensor) -> Tensor:
    """Return values at cell centres, to O(dx^4): a - (a_{i+1} - 2 a_i + a_{i-1}) / 24."""
    return averages - _second_difference(averages) / 24


def coarsen(averages: Tensor, factor: int) -> Tensor:
    """Return the averages over groups of `factor` cells: exact."""
    return averages.unflatten(-1, (-1, factor)).mean(dim=-1)


def refine(averages: Tensor, factor: int) -> Tensor:
    """Split every cell into `factor` cells, to O(dx^5); `coarsen` of the result gives `averages` back.

    The averages of the parts are those of the quartic polynomial that has the averages of the cell and of its two
    neighbours on either side.
    """
    stencil = torch.stack([torch.roll(averages, -shift, -1) for shift in range(-2, 3)], dim=-1)
    return (stencil @ _refinement_weights(factor).to(averages).T).flatten(-2)


def values_at_coarse_centres(averages: Tensor, factor: int) -> Tensor:
    """Return point values at the centres of groups of `factor` cells, to O(dx^4), shape (..., X / factor).

    For an even factor that centre is a face between two cells, for an odd one the centre of a cell.
    """
    if factor % 2:
        return points_from_averages(averages)[..., factor // 2 :: factor]
    right = averages
    left = torch.roll(averages, 1, -1)
    outer = torch.roll(averages, 2, -1) + torch.roll(averages, -1, -1)
    faces = (7 * (left + right) - outer) / 12  # faces[i] lies between the cells i-1 and i
    return faces[..., factor // 2 :: factor]


def _second_difference(values: Tensor) -> Tensor:
    return torch.roll(values, -1, -1) - 2 * values + torch.roll(values, 1, -1)


def _refinement_weights(factor: int) -> Tensor:
    """Return W (factor, 5), float64: average of part s = sum_k W[s, k] average of cell i + k - 2.

    The primitive function has known values at the six faces of the five cells; the interpolating quintic is evaluated
    at the faces of the parts.
    """
    faces = torch.arange(6, dtype=torch.float64) - 2.0
    powers = torch.arange(6, dtype=torch.float64)
    coefficients = torch.linalg.inv(faces[:, None] ** powers)  # monomial coefficients from values at the faces
    inner = torch.arange(factor + 1, dtype=torch.float64) / factor
    at_inner = (inner[:, None] ** powers) @ coefficients
    from_faces = (at_inner[1:] - at_inner[:-1]) * factor
    # A cell's average adds to the primitive at every face on its right.
    cumulative = torch.tril(torch.ones(6, 5, dtype=torch.float64), diagonal=-1)
    return from_faces @ cumulative
