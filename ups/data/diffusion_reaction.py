"""The diffusion-reaction equation u_t = nu u_xx + rho u (1 - u) on a periodic interval, by operator splitting.

One step is half a step of diffusion, a step of reaction, and half a step of diffusion (Strang), each part exact: the
modes of the Fourier series decay by exp(-nu k^2 t), every point follows the logistic curve. So the only errors are
those of the splitting, O(dt^2), and of the grid. Shapes: B trajectories, T frames, X points, S slots of an initial
condition.

Sources: Strang, SIAM J. Numer. Anal. 5 (1968) 506, eq. 8; PDEBench splits the same way, with second-order finite
differences for the diffusion (Takamoto et al. 2022, arXiv:2210.07182, appendix D.1).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor


def solve_diffusion_reaction(
    initial: Tensor, diffusivity: float, rate: float, times: Tensor, extent: float, substeps: int
) -> Tensor:
    """Solve on the grid of the initial values.

    Args:
        initial: (B, X), values on a regular grid; its dtype and device are used throughout.
        diffusivity: nu >= 0.
        rate: rho.
        times: (T,), increasing.
        extent: length of the periodic domain.
        substeps: splitting steps from one time to the next.

    Returns:
        (B, T, X); frame 0 is `initial`.
    """
    points = initial.shape[-1]
    wave = 2 * math.pi / extent * torch.arange(points // 2 + 1, dtype=initial.dtype, device=initial.device)
    frames = [initial]
    for before, after in itertools.pairwise(times.tolist()):
        dt = (after - before) / substeps
        half = torch.exp(-diffusivity * wave.square() * dt / 2)
        state = frames[-1]
        for _ in range(substeps):
            state = _diffuse(state, half)
            state = logistic(state, rate, dt)
            state = _diffuse(state, half)
        frames.append(state)
    return torch.stack(frames, dim=1)


def logistic(initial: Tensor, rate: float, time: float) -> Tensor:
    """Return the solution of u' = rho u (1 - u) after `time`: u e / (1 + u (e - 1)), e = exp(rho t)."""
    growth = math.expm1(rate * time)
    return initial * (1 + growth) / (1 + initial * growth)


def unit_range(field: Tensor, known: Tensor) -> Tensor:
    """Return (u - min) / (max - min) along the last axis: PDEBench's initial conditions of this equation.

    Args:
        field: (B, X).
        known: (B, X'), the values whose minimum and maximum count; PDEBench takes those of its grid. Between them the
            field may leave [0, 1] a little.
    """
    low, high = known.amin(-1, keepdim=True), known.amax(-1, keepdim=True)
    # The one draw in many without any variation stays at 0.
    return (field - low) / (high - low).clamp_min(1e-12)


def _diffuse(state: Tensor, factor: Tensor) -> Tensor:
    return torch.fft.irfft(torch.fft.rfft(state) * factor, n=state.shape[-1])
