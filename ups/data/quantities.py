"""Quantities of a field that an equation conserves or lets fall, by the names that `ups.parameters.equations` uses.

Shapes: (*batch) any number of leading axes beginning with B trajectories, C field channels, *space the grid,
P coefficients, K components of a quantity.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.parameters.equations import EQUATIONS

_TINY = 1e-12


@dataclass(frozen=True)
class Quantity:
    """A number, or a few, that follow from a field; densities, so that they do not depend on the domain's size.

    Attributes:
        compute: fields (*batch, C, *space), coefficients (B, P), metadata -> (*batch, K).
        scale: the same -> (*batch); what a change is compared with.
        linear: whether the quantity of a difference is the difference of the quantities.
    """

    compute: Callable[[Tensor, Tensor, FieldMetadata], Tensor]
    scale: Callable[[Tensor, Tensor, FieldMetadata], Tensor]
    linear: bool


def _space(metadata: FieldMetadata) -> tuple[int, ...]:
    return tuple(range(-metadata.grid.rank, 0))


def _mean(field: Tensor, coefficients: Tensor, metadata: FieldMetadata) -> Tensor:
    """Return the mean of every channel."""
    return field.mean(_space(metadata))


def _rms(field: Tensor, coefficients: Tensor, metadata: FieldMetadata) -> Tensor:
    return field.square().mean((-metadata.grid.rank - 1, *_space(metadata))).sqrt().clamp_min(_TINY)


def _mean_velocity(field: Tensor, coefficients: Tensor, metadata: FieldMetadata) -> Tensor:
    """Return the mean of channel v: what is left of it is the momentum of the whole string."""
    return _channel(field, "v", metadata).mean(-1, keepdim=True)


def _rms_velocity(field: Tensor, coefficients: Tensor, metadata: FieldMetadata) -> Tensor:
    return _channel(field, "v", metadata).square().mean(-1).sqrt().clamp_min(_TINY)


def _energy(field: Tensor, coefficients: Tensor, metadata: FieldMetadata) -> Tensor:
    """Return <v^2 + c^2 u_x^2> / 2 of the wave equation, u_x by the Fourier series through the grid's values."""
    u, v = (_channel(field, name, metadata) for name in ("u", "v"))
    points, extent = metadata.grid.points[0], metadata.grid.extent[0]
    wave = 2 * math.pi / extent * torch.arange(points // 2 + 1, dtype=u.dtype, device=u.device)
    # By Parseval: <u_x^2> = sum over k of weight_k wave_k^2 |U_k|^2 / N^2; conjugate modes are not stored. The highest
    # mode of an even grid has no slope at the grid's points, so it counts for nothing.
    weight = torch.full_like(wave, 2.0)
    weight[0] = 0.0
    if points % 2 == 0:
        weight[-1] = 0.0
    slope = (weight * wave.square() * torch.fft.rfft(u).abs().square()).sum(-1) / points**2
    speed = coefficients[:, metadata.coefficients.index("speed")].to(u)
    speed = speed.reshape(-1, *[1] * (slope.dim() - 1))
    return (0.5 * (v.square().mean(-1) + speed.square() * slope))[..., None]


def _square(field: Tensor, coefficients: Tensor, metadata: FieldMetadata) -> Tensor:
    """Return the mean square over channels and space: twice the energy, for a vorticity twice the enstrophy."""
    return field.square().mean((-metadata.grid.rank - 1, *_space(metadata)))[..., None]


def _own_size(compute: Callable[[Tensor, Tensor, FieldMetadata], Tensor]) -> Quantity:
    """A positive quantity whose changes are compared with itself."""

    def scale(field: Tensor, coefficients: Tensor, metadata: FieldMetadata) -> Tensor:
        return compute(field, coefficients, metadata)[..., 0].clamp_min(_TINY)

    return Quantity(compute, scale, linear=False)


def _channel(field: Tensor, name: str, metadata: FieldMetadata) -> Tensor:
    return field.select(-metadata.grid.rank - 1, metadata.channels.index(name))


QUANTITIES: dict[str, Quantity] = {
    "mean": Quantity(_mean, _rms, linear=True),
    "mean_velocity": Quantity(_mean_velocity, _rms_velocity, linear=True),
    "energy": _own_size(_energy),
    "square": _own_size(_square),
}


def conserved(metadata: FieldMetadata) -> dict[str, Quantity]:
    """Return the quantities that the equation conserves, by name; none for an equation that is not known."""
    equation = EQUATIONS.get(metadata.equation)
    return {name: QUANTITIES[name] for name in equation.conserved} if equation else {}


def dissipated(metadata: FieldMetadata) -> Quantity | None:
    """Return the quantity that may only fall, if the equation has one."""
    equation = EQUATIONS.get(metadata.equation)
    return QUANTITIES[equation.dissipated] if equation and equation.dissipated else None


def change(quantity: Quantity, after: Tensor, before: Tensor, coefficients: Tensor, metadata: FieldMetadata) -> Tensor:
    """Return Q(after) - Q(before), (*batch, K); for a linear quantity without cancellation of what both have."""
    if quantity.linear:
        return quantity.compute(after - before, coefficients, metadata)
    return quantity.compute(after, coefficients, metadata) - quantity.compute(before, coefficients, metadata)
