"""A shock-capturing finite-volume solver for Burgers' equation u_t + (u^2/2)_x = (nu/pi) u_xx on a periodic interval.

Space: limited third-order reconstruction (Koren), Godunov's flux, fourth-order central diffusive flux. Time: the
three-stage strong-stability-preserving Runge-Kutta method. The sum of u over the cells is conserved to rounding.
Shapes: B trajectories, T frames, X cells.

Sources: Koren, in Numerical Methods for Advection-Diffusion Problems, Vieweg 1993, p. 117, eq. 21 (limiter); Shu and
Osher, J. Comput. Phys. 77 (1988) 439, eq. 2.18 (time step); Godunov's flux for a convex function in LeVeque, Finite
Volume Methods for Hyperbolic Problems, 2002, eq. 12.4.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ups.data import cells as cell_grids

_HALO = 2
Step = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def solve_burgers(
    initial: Tensor,
    viscosity: float | Tensor,
    times: Tensor | Sequence[float],
    domain_extent: float = 1.0,
    cells: int | None = None,
    courant: float = 0.8,
    compile: bool = False,
) -> Tensor:
    """Solve from point values at cell centres to point values at cell centres.

    Args:
        initial: (B, X), u at the centres of X cells at times[0]; its dtype and device are used throughout.
        viscosity: nu, a number or (B,); the diffusivity is nu/pi. Zero is allowed.
        times: (T,), increasing.
        domain_extent: length of the periodic domain.
        cells: cells the equation is solved on, a multiple or a divisor of X; X by default.
        courant: dt <= courant / (max|u|/dx + 2.5 (nu/pi)/dx^2); above 1 the scheme may oscillate or grow.
        compile: pass the time step through `torch.compile` (some seconds once per shape, then several times faster).

    Returns:
        (B, T, X), point values; frame 0 is `initial`. At nu = 0.01 and 256 cells the error is about 1e-4 nRMSE. Where a
        front is narrower than a cell, the conversion to point values overshoots by up to 1/24 of the jump.

    Raises:
        ValueError: if `cells` neither divides nor is a multiple of X, or `times` do not increase.
    """
    points = initial.shape[-1]
    cells = cells or points
    averages = to_cells(cell_grids.averages_from_points(initial), cells)
    frames = [initial]
    evolution = evolve_averages(averages, viscosity, times, domain_extent, courant, compile)
    next(evolution)
    for state in evolution:
        if cells > points:
            frames.append(cell_grids.values_at_coarse_centres(state, cells // points))
        else:
            frames.append(cell_grids.points_from_averages(to_cells(state, points)))
    return torch.stack(frames, dim=1)


def to_cells(averages: Tensor, cells: int) -> Tensor:
    """Return averages (..., X) on another number of cells, a multiple or a divisor of X.

    Raises:
        ValueError: if it is neither.
    """
    points = averages.shape[-1]
    if cells == points:
        return averages
    if points % cells == 0:
        return cell_grids.coarsen(averages, points // cells)
    if cells % points == 0:
        return cell_grids.refine(averages, cells // points)
    raise ValueError(f"{cells} cells neither divide {points} nor are a multiple of it")


def evolve_averages(
    averages: Tensor,
    viscosity: float | Tensor,
    times: Tensor | Sequence[float],
    domain_extent: float = 1.0,
    courant: float = 0.8,
    compile: bool = False,
) -> Iterator[Tensor]:
    """Yield the cell averages (B, X) at each of `times`, at times[0] `averages` itself; see `solve_burgers`.

    Every trajectory has its own time step, from its own largest speed, so that its result does not depend on the
    others in the batch. Those that need fewer steps than the slowest rest with a step of zero.
    """
    instants = [float(time) for time in times]
    if any(after <= before for before, after in itertools.pairwise(instants)):
        raise ValueError(f"times must increase, not {instants}")
    dx = domain_extent / averages.shape[-1]
    diffusivity = torch.as_tensor(viscosity, dtype=averages.dtype, device=averages.device).reshape(-1, 1) / math.pi
    step = _compiled_step() if compile else _runge_kutta_step
    state = averages
    yield state
    for before, after in itertools.pairwise(instants):
        interval = after - before
        # |u| cannot grow (maximum principle), so the bound at the start of an interval holds all through it.
        rate = state.abs().amax(dim=1, keepdim=True) / dx + 2.5 * diffusivity / dx**2
        steps = torch.ceil(interval * rate / courant).clamp(min=1)
        for count in range(int(steps.max())):
            state = step(state, torch.where(count < steps, interval / steps, 0.0), diffusivity, dx)
        yield state


def _runge_kutta_step(u: Tensor, dt: Tensor, diffusivity: Tensor, dx: float) -> Tensor:
    """Advance averages (B, X) by dt (B, 1)."""
    first = u + dt * _tendency(u, diffusivity, dx)
    second = u + 0.25 * (first - u + dt * _tendency(first, diffusivity, dx))
    # Written as u + ..., a step of zero returns u to the last bit.
    return u + (2 / 3) * (second - u + dt * _tendency(second, diffusivity, dx))


def _tendency(u: Tensor, diffusivity: Tensor, dx: float) -> Tensor:
    """Return du/dt of the averages (B, X): the negative divergence of the flux."""
    padded = torch.cat([u[:, -_HALO:], u, u[:, :_HALO]], dim=1)
    difference = padded[:, 1:] - padded[:, :-1]  # X + 3, between neighbours
    backward, forward = difference[:, :-1], difference[:, 1:]  # X + 2, of the cells -1 .. X
    # Koren's limiter keeps the third-order slopes (2 forward + backward)/6 and (2 backward + forward)/6 in smooth
    # monotone parts and falls back to the total-variation-diminishing bound elsewhere.
    direction = torch.sign(backward)
    a, b = backward.abs(), direction * forward
    rising = direction * torch.minimum(torch.minimum(a, b), (a + 2 * b) / 6).clamp(min=0)
    falling = direction * torch.minimum(torch.minimum(a, b), (2 * a + b) / 6).clamp(min=0)
    inner = padded[:, 1:-1]
    left = (inner + rising)[:, :-1]  # X + 1 faces, the state on their left
    right = (inner - falling)[:, 1:]
    advective = 0.5 * torch.maximum(left.clamp(min=0).square(), right.clamp(max=0).square())
    gradient = (14 * difference[:, 1:-1] - difference[:, 2:] - difference[:, :-2]) / 12
    flux = advective - (diffusivity / dx) * gradient
    return (flux[:, :-1] - flux[:, 1:]) / dx


@functools.cache
def _compiled_step() -> Step:
    compiled: Step = torch.compile(_runge_kutta_step, dynamic=False)
    return compiled
