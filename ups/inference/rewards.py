"""Rewards of a predicted frame: how well it obeys what the equation says, without knowing the truth.

Every reward is at most 0, dimensionless, and 0 for a frame that obeys. Which of them an equation has follows from what
`ups.parameters.equations` declares. Shapes: B batch, C field channels, *space grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.data.pde_residual import RESIDUALS, pde_residual
from ups.data.quantities import conserved, dissipated
from ups.errors import ParameterError
from ups.parameters.equations import EQUATIONS

# (previous frame, frame, coefficients) -> (B,)
Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
_TINY = 1e-12


@dataclass(frozen=True)
class Conservation:
    """-sum over conserved quantities of |Q - Q_previous| / scale: none of them can change.

    The scale is rms(u_previous) for the integral of a field, and Q_previous itself for an energy.
    """

    metadata: FieldMetadata

    def __call__(self, previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
        changes = []
        for quantity in conserved(self.metadata).values():
            after, before = (quantity.compute(u, coefficients, self.metadata) for u in (frame, previous))
            scale = quantity.scale(previous, coefficients, self.metadata)
            changes.append(-(after - before).abs().sum(1) / scale)
        return torch.stack(changes).sum(0)


@dataclass(frozen=True)
class Dissipation:
    """-max(0, Q - Q_previous) / Q_previous, Q what may only fall: the mean square for Burgers."""

    metadata: FieldMetadata

    def __call__(self, previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
        quantity = dissipated(self.metadata)
        assert quantity is not None
        after, before = (quantity.compute(u, coefficients, self.metadata)[:, 0] for u in (frame, previous))
        return -((after - before) / before.clamp_min(_TINY)).clamp_min(0)


@dataclass(frozen=True)
class Positivity:
    """-rms(min(u, 0)) / rms(u_previous) over the fields that cannot be negative."""

    metadata: FieldMetadata

    def __call__(self, previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
        channels = [at for at, channel in enumerate(EQUATIONS[self.metadata.equation].channels) if channel.positive]
        return -_rms(frame[:, channels].clamp_max(0)) / _rms(previous[:, channels])


@dataclass(frozen=True)
class PdeResidual:
    """-rms(R) dt / rms(u_previous), R the trapezoidal residual of the equation between two frames.

    R is that of `ups.data.pde_residual`, of second order in dx and dt, so that the true solution scores O(dt^2): with
    fronts that cross several cells per frame this floor is high, and the reward ranks candidates only above it.
    """

    metadata: FieldMetadata

    def __call__(self, previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
        residual = pde_residual(previous, frame, coefficients, self.metadata)
        return -_rms(residual) * self.metadata.dt / _rms(previous)


@dataclass(frozen=True)
class Rewards:
    """The weighted sum of the rewards that an equation has.

    Attributes:
        terms: reward and weight by name; none if no reward with a positive weight applies.
        not_applicable: name of a reward with a positive weight that the equation does not have -> why.
    """

    terms: Mapping[str, tuple[Reward, float]]
    not_applicable: Mapping[str, str]

    def __call__(self, previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
        return torch.stack([w * term(previous, frame, coefficients) for term, w in self.terms.values()]).sum(0)


def weighted_rewards(weights: Mapping[str, float], metadata: FieldMetadata) -> Rewards:
    """Return the weighted sum of rewards by name, leaving out those of weight 0 and those the equation does not have.

    Raises:
        ParameterError: if a name is unknown.
    """
    equation = EQUATIONS.get(metadata.equation)
    nothing = f"'{metadata.equation}' has no such law"
    known: dict[str, tuple[Reward, str | None]] = {
        "conservation": (Conservation(metadata), None if conserved(metadata) else f"{nothing}: it conserves nothing"),
        "dissipation": (
            Dissipation(metadata),
            None if dissipated(metadata) else f"{nothing}: no quantity of it may only fall",
        ),
        "pde_residual": (
            PdeResidual(metadata),
            None if metadata.equation in RESIDUALS else f"there is no discrete residual for '{metadata.equation}'",
        ),
        "positivity": (
            Positivity(metadata),
            None
            if equation and any(channel.positive for channel in equation.channels)
            else f"no field of '{metadata.equation}' is positive by its equation",
        ),
    }
    if set(weights) - set(known):
        raise ParameterError(f"unknown rewards {sorted(set(weights) - set(known))}; known are {sorted(known)}")
    wanted = {name: (*known[name], weight) for name, weight in weights.items() if weight}
    return Rewards(
        {name: (reward, weight) for name, (reward, missing, weight) in wanted.items() if missing is None},
        {name: missing for name, (_, missing, _) in wanted.items() if missing is not None},
    )


def _rms(u: Tensor) -> Tensor:
    return u.square().mean(tuple(range(1, u.dim()))).sqrt().clamp_min(_TINY)
