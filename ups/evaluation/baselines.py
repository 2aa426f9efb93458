"""Forecasts that need no training. A model that does not beat them has learned nothing.

All are `Forecaster`s: (given (B, G, C, *space), steps, coefficients (B, P)) -> (B, steps, C, *space), physical units.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.data.wave import propagate
from ups.evaluation.protocols import Forecaster


def persistence_initial(given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
    """Hold the first given frame."""
    return _hold(given[:, 0], num_steps)


def persistence_last(given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
    """Hold the last given frame."""
    return _hold(given[:, -1], num_steps)


def spatial_mean(given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
    """Hold the spatial mean of the last given frame, per channel: the limit of a dissipative, conservative equation."""
    last = given[:, -1]
    mean = last.flatten(2).mean(2).reshape(*last.shape[:2], *[1] * (last.dim() - 2))
    return _hold(mean.expand_as(last), num_steps)


def exact_shift(metadata: FieldMetadata) -> Forecaster:
    """Return the spectral solution of u_t + beta u_x = 0 from the last given frame, u(x, t) = u(x - beta t, 0).

    Mode k of the frame is multiplied by exp(-2 pi i k beta t / L); exact for a field that the grid resolves. The
    Nyquist mode of an even grid keeps its real part, which is the only part the grid can see.

    Raises:
        ValueError: if the metadata are not those of 1-D periodic advection with coefficient `velocity`.
    """
    grid = metadata.grid
    if not shifts(metadata):
        raise ValueError(f"exact_shift solves 1-D periodic advection, not '{metadata.equation}' in {grid.rank}-D")
    velocity_at = metadata.coefficients.index("velocity")

    def forecaster(given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
        last = given[:, -1].to(torch.float64)
        points = last.shape[-1]
        wave = torch.arange(points // 2 + 1, dtype=torch.float64, device=last.device)
        elapsed = metadata.dt * torch.arange(1, num_steps + 1, dtype=torch.float64, device=last.device)
        distance = coefficients[:, velocity_at].to(torch.float64)[:, None] * elapsed
        phase = -2 * math.pi / grid.extent[0] * distance[..., None] * wave
        shifted = torch.fft.rfft(last)[:, None] * torch.polar(torch.ones_like(phase), phase)[:, :, None]
        return torch.fft.irfft(shifted, n=points).to(given.dtype)

    return forecaster


def shifts(metadata: FieldMetadata) -> bool:
    """Return whether `exact_shift` solves the equation."""
    grid = metadata.grid
    return (
        metadata.equation == "advection" and grid.rank == 1 and grid.periodic[0] and "velocity" in metadata.coefficients
    )


def exact_wave(metadata: FieldMetadata) -> Forecaster:
    """Return the solution of the wave equation from the last given frame; exact for a field that the grid resolves.

    Raises:
        ValueError: if the metadata are not those of the 1-D periodic wave equation.
    """
    if not waves(metadata):
        raise ValueError(f"exact_wave solves the 1-D periodic wave equation, not '{metadata.equation}'")
    at, u_at, v_at = metadata.coefficients.index("speed"), metadata.channels.index("u"), metadata.channels.index("v")

    def forecaster(given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
        last = given[:, -1].to(torch.float64)
        elapsed = metadata.dt * torch.arange(1, num_steps + 1, dtype=torch.float64, device=last.device)
        speed = coefficients[:, at, None].to(torch.float64)
        u, v = propagate(last[:, None, u_at], last[:, None, v_at], elapsed[None], speed, metadata.grid.extent[0])
        frames = [v if channel == v_at else u for channel in range(last.shape[1])]
        return torch.stack(frames, dim=2).to(given.dtype)

    return forecaster


def waves(metadata: FieldMetadata) -> bool:
    """Return whether `exact_wave` solves the equation."""
    return metadata.equation == "wave" and metadata.grid.rank == 1 and metadata.grid.periodic[0]


def exact_forecasters(metadata: FieldMetadata) -> dict[str, Forecaster]:
    """Return the forecasts that are exact but for what the grid does not resolve, by name; most equations have none."""
    found: dict[str, Forecaster] = {}
    if shifts(metadata):
        found["exact_shift"] = exact_shift(metadata)
    if waves(metadata):
        found["exact_wave"] = exact_wave(metadata)
    return found


def _hold(frame: Tensor, num_steps: int) -> Tensor:
    return frame.unsqueeze(1).expand(-1, num_steps, *frame.shape[1:])
