"""Rewards of a predicted frame: how well it obeys what the equation says, without knowing the truth.

Every reward is at most 0, dimensionless, and 0 for a frame that obeys. Shapes: B batch, C field channels, X grid.
Sources of the laws: integrate the conservation law u_t + (f(u) - D u_x)_x = 0 over a period.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.errors import ParameterError

# (previous frame, frame, coefficients) -> (B,)
Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
_TINY = 1e-12


def conservation(previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
    """-|integral u - integral u_previous| / rms(u_previous): the integral of a conserved field cannot change."""
    change = (frame.mean(-1) - previous.mean(-1)).abs().sum(1)
    return -change / _rms(previous)


def dissipation(previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
    """-max(0, E - E_previous) / E_previous with E = mean u^2: energy may only fall."""
    energy, before = frame.square().mean((1, 2)), previous.square().mean((1, 2))
    return -((energy - before) / before.clamp_min(_TINY)).clamp_min(0)


def positivity(previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
    """-rms(min(u, 0)) / rms(u_previous), for fields that cannot be negative."""
    return -_rms(frame.clamp_max(0)) / _rms(previous)


@dataclass(frozen=True)
class PdeResidual:
    """-rms(R) dt / rms(u_previous), R the trapezoidal residual of the equation between two frames.

    R = (u - u_previous) / dt + (L(u) + L(u_previous)) / 2, with L(u) = (f(u))_x - D u_xx in conservative central
    differences on the periodic grid; f = u^2/2 and D = nu/pi for Burgers, f = beta u and D = 0 for advection. Second
    order in dx and dt, so that the true solution scores O(dt^2): with fronts that cross several cells per frame this
    floor is high, and the reward ranks candidates only above it.
    """

    metadata: FieldMetadata

    def __call__(self, previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
        dt = self.metadata.dt
        residual = (frame - previous) / dt + 0.5 * (
            self._spatial(frame, coefficients) + self._spatial(previous, coefficients)
        )
        return -_rms(residual) * dt / _rms(previous)

    def _spatial(self, u: Tensor, coefficients: Tensor) -> Tensor:
        dx = self.metadata.grid.spacing[0]
        coefficient = coefficients[:, :1, None]
        if self.metadata.equation == "burgers":
            flux, diffusivity = u.square() / 2, coefficient / math.pi
        else:
            flux, diffusivity = coefficient * u, torch.zeros_like(coefficient)
        right, left = torch.roll(u, -1, -1), torch.roll(u, 1, -1)
        slope = (torch.roll(flux, -1, -1) - torch.roll(flux, 1, -1)) / (2 * dx)
        return slope - diffusivity * (right - 2 * u + left) / dx**2


def weighted_reward(weights: Mapping[str, float], metadata: FieldMetadata) -> Reward:
    """Return the weighted sum of rewards by name, leaving out those of weight 0 and those that do not apply.

    `positivity` applies to no field of Burgers or advection: neither is positive by its equation.

    Raises:
        ParameterError: if no reward remains, or a name is unknown.
    """
    rewards: dict[str, Reward] = {
        "conservation": conservation,
        "dissipation": dissipation,
        "pde_residual": PdeResidual(metadata),
    }
    known = {*rewards, "positivity"}
    if set(weights) - known:
        raise ParameterError(f"unknown rewards {sorted(set(weights) - known)}; known are {sorted(known)}")
    active = [(rewards[name], weight) for name, weight in weights.items() if weight and name in rewards]
    if not active:
        raise ParameterError(
            f"no reward of evaluate_ttc.rewards applies to {metadata.equation}; give conservation, dissipation or "
            "pde_residual a positive weight"
        )

    def reward(previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
        return torch.stack([weight * term(previous, frame, coefficients) for term, weight in active]).sum(0)

    return reward


def _rms(u: Tensor) -> Tensor:
    return u.square().mean((1, 2)).sqrt().clamp_min(_TINY)
