"""Small fields with metadata for the evaluation's tests: advected sines, for which every answer is known."""

import math

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata, Grid, Normalization, Trajectories


def metadata(equation: str = "burgers", points: tuple[int, ...] = (32,), dt: float = 0.05) -> FieldMetadata:
    rank = len(points)
    return FieldMetadata(
        equation=equation,
        channels=("u",),
        units=("1",),
        coefficients=("velocity",) if equation == "advection" else ("viscosity",),
        grid=Grid(extent=(1.0,) * rank, points=points, origin=(0.0,) * rank, periodic=(True,) * rank),
        dt=dt,
        normalization=Normalization(mean=(0.0,), std=(0.5,)),
    )


def advected_sines(
    trajectories: int = 4, frames: int = 9, points: int = 32, dt: float = 0.05, mean: float = 0.3, first_index: int = 0
) -> Trajectories:
    """u(x, t) = mean + sin(2 pi (x - beta t) + phase): exact advection, velocity beta = 0.5 + 0.25 b."""
    meta = metadata("advection", (points,), dt)
    x = meta.grid.coordinates()
    velocity = 0.5 + 0.25 * torch.arange(trajectories, dtype=torch.float64)
    time = dt * torch.arange(frames, dtype=torch.float64)
    place = x - velocity[:, None, None] * time[:, None]
    phase = torch.arange(trajectories, dtype=torch.float64)[:, None, None]
    fields = (mean + torch.sin(2 * math.pi * place + phase))[:, :, None].float()
    return Trajectories(
        fields=fields,
        coefficients=velocity[:, None].float(),
        index=torch.arange(first_index, first_index + trajectories),
        metadata=meta,
    )


def drift(amount: float):
    """Forecaster that adds `amount` to the last given frame at every step: its error reveals the protocol."""

    def forecaster(given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
        steps = amount * torch.arange(1, num_steps + 1, dtype=given.dtype)
        return given[:, -1:] + steps.reshape(1, -1, *[1] * (given.dim() - 2))

    return forecaster
