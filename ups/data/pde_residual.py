"""The discrete residual of an equation between two successive frames, for rewards and for the operator's loss.

Shapes: B batch, C field channels, X grid points of one periodic axis, P coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata


def pde_residual(previous: Tensor, frame: Tensor, coefficients: Tensor, metadata: FieldMetadata) -> Tensor:
    """Return R = (u - u_previous) / dt + (L(u) + L(u_previous)) / 2, the trapezoidal residual of u_t + L(u) = 0.

    L is in central differences on the periodic grid, that of fluxes in conservative form. For a solution that the grid
    and the time step resolve R = O(dt^2 + dx^2); where fronts cross several cells per frame it is of order one.

    Args:
        previous, frame: physical fields `metadata.dt` apart, (B, C, X).
        coefficients: of the equation, (B, P).
        metadata: equation, dt and grid.

    Returns:
        (B, C, X), in field units per time unit.

    Raises:
        KeyError: for an equation that is not among `RESIDUALS`.
    """
    spatial, dx = RESIDUALS[metadata.equation], metadata.grid.spacing[0]
    numbers = [coefficients[:, at, None, None] for at in range(coefficients.shape[1])]
    after, before = (spatial(u, numbers, dx) for u in (frame, previous))
    return (frame - previous) / metadata.dt + 0.5 * (after + before)


def _burgers(u: Tensor, coefficients: list[Tensor], dx: float) -> Tensor:
    (viscosity,) = coefficients
    return _slope(u.square() / 2, dx) - viscosity / math.pi * _curvature(u) / dx**2


def _advection(u: Tensor, coefficients: list[Tensor], dx: float) -> Tensor:
    (velocity,) = coefficients
    return _slope(velocity * u, dx)


def _diffusion_reaction(u: Tensor, coefficients: list[Tensor], dx: float) -> Tensor:
    diffusivity, rate = coefficients
    return -diffusivity * _curvature(u) / dx**2 - rate * u * (1 - u)


def _slope(u: Tensor, dx: float) -> Tensor:
    return (torch.roll(u, -1, -1) - torch.roll(u, 1, -1)) / (2 * dx)


def _curvature(u: Tensor) -> Tensor:
    return torch.roll(u, -1, -1) - 2 * u + torch.roll(u, 1, -1)


# L(u) of the equations that have a discrete residual. The wave equation's would mix fields of two units in one norm.
RESIDUALS: dict[str, Callable[[Tensor, list[Tensor], float], Tensor]] = {
    "burgers": _burgers,
    "advection": _advection,
    "diffusion_reaction": _diffusion_reaction,
}
