"""A surrogate whose numbers are known: latents are grid values, a step multiplies them, corrections add constants."""

import torch
from torch import nn

from ups.data.fields import FieldMetadata, Grid, Normalization
from ups.inference import rewards
from ups.inference.surrogate import Surrogate

POINTS = 16


def metadata(points: int = POINTS, dt: float = 0.05, equation: str = "burgers") -> FieldMetadata:
    return FieldMetadata(
        equation=equation,
        channels=("u",),
        units=("1",),
        coefficients=("viscosity" if equation == "burgers" else "velocity",),
        grid=Grid(extent=(1.0,), points=(points,), origin=(0.0,), periodic=(True,)),
        dt=dt,
        normalization=Normalization(mean=(0.0,), std=(1.0,)),
    )


class Identity(nn.Module):
    """A codec whose tokens are the grid values, so that latent and field are the same numbers."""

    points, frame = (POINTS,), "laboratory"

    def encode(self, u):
        return u.transpose(1, 2)

    def decode(self, z):
        return z.transpose(1, 2)

    def conserve(self, z, tokens):
        return tokens


class Decay(nn.Module):
    """An operator that multiplies by a factor."""

    reencode, frames_per_call = False, 1

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.calls = 0
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("std", torch.ones(1))

    def forward(self, z, coefficients):
        self.calls += len(z)
        return self.factor * z

    def advance(self, z, coefficients):
        return self(z, coefficients)[:, None]


class Offset(nn.Module):
    """A corrector that adds tau - 1/2 to every value: candidates differ, the deterministic one corrects nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, z_hat, tau):
        self.calls += len(z_hat)
        return (tau - 0.5)[:, None, None].expand_as(z_hat)


def surrogate() -> Surrogate:
    return Surrogate(metadata(), Identity(), Decay(0.9), Offset(), None, "corrected")


def near(target: float) -> rewards.Reward:
    """A reward that wants the mean of the field at a value."""
    return lambda previous, frame, coefficients: -(frame.mean((1, 2)) - target).abs()


def start(rows: int = 3) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(rows, 1, POINTS)


C = torch.full((3, 1), 0.01)
