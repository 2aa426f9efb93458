"""Steady flow through a porous medium: -div(a grad u) = f on the unit square, u = 0 on its boundary.

Finite volumes on X x Y cells: the flux through a face is -a_face (u_right - u_left)/dx, a_face the harmonic mean of the
two cells, which is exact for layers; on the boundary the distance is half a cell. One sparse system per sample, solved
directly. Second order for smooth a. Shapes: B samples, X x Y cells.

Source: Patankar, Numerical Heat Transfer and Fluid Flow, 1980, sec. 4.2-3 (harmonic mean).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

PERMEABILITY = (0.1, 1.0)  # the two values of a
BUMPS = 5

Array = npt.NDArray[np.float64]


def solve_darcy(permeability: Array, force: float | Array, extent: float | tuple[float, float] = 1.0) -> Array:
    """Solve one problem.

    Args:
        permeability: (X, Y), a > 0 at the cell centres.
        force: f, a number or (X, Y).
        extent: length of both sides, or of each.

    Returns:
        (X, Y), u at the cell centres, to the rounding of a direct solver.

    Raises:
        ValueError: if a is not positive everywhere.
    """
    import scipy.sparse
    import scipy.sparse.linalg

    if not (permeability > 0).all():
        raise ValueError("the permeability must be positive everywhere")
    index = np.arange(permeability.size).reshape(permeability.shape)
    diagonal = np.zeros(permeability.shape)
    rows, columns, values = [], [], []
    sides = extent if isinstance(extent, tuple) else (extent, extent)
    for axis, points in enumerate(permeability.shape):
        dx = sides[axis] / points
        a = np.moveaxis(permeability, axis, 0)
        at, number = np.moveaxis(diagonal, axis, 0), np.moveaxis(index, axis, 0)
        face = 2 * a[1:] * a[:-1] / (a[1:] + a[:-1]) / dx**2
        at[1:] += face
        at[:-1] += face
        at[0] += 2 * a[0] / dx**2
        at[-1] += 2 * a[-1] / dx**2
        for one, other in ((number[1:], number[:-1]), (number[:-1], number[1:])):
            rows.append(one.ravel())
            columns.append(other.ravel())
            values.append(-face.ravel())
    rows.append(index.ravel())
    columns.append(index.ravel())
    values.append(diagonal.ravel())
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    matrix = scipy.sparse.csc_matrix(entries, shape=(permeability.size, permeability.size))
    right = np.broadcast_to(np.asarray(force, dtype=np.float64), permeability.shape).ravel()
    solution: Array = scipy.sparse.linalg.spsolve(matrix, right).reshape(permeability.shape)
    return solution


def draw_media(seed: int, start: int, stop: int, points: int, extent: float) -> Tensor:
    """Draw the media start..stop-1 of the endless sequence that belongs to `seed`, (B, X, X), float64.

    PDEBench's law: the sum of five Gaussian bumps exp(-|x - x_j|^2 / s_j), centres uniform on the square, s_j uniform
    up to half its side, is cut at a threshold into a = 1 above and a = 0.1 below. PDEBench takes the mean over the
    whole batch for the threshold; here it is that of the sample, so that a sample depends on `seed` and its number
    alone.
    """
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(stop + 1, 3, BUMPS, generator=generator, dtype=torch.float64)[start:stop]
    centre = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    spread = (0.5 * uniform[:, 2]).clamp_min(1e-6)
    along = [torch.exp(-(centre - uniform[:, axis, :, None]).square() / spread[..., None]) for axis in range(2)]
    total = torch.einsum("bjx,bjy->bxy", *along)
    low, high = total.new_tensor(PERMEABILITY)
    return torch.where(total > total.mean((1, 2), keepdim=True), high, low)
