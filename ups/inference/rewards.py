"""Rewards of a predicted frame: how well it obeys what the equation says, without knowing the truth.

Every reward by a law is at most 0, dimensionless, and 0 for a frame that obeys. Which of them an equation has follows
from what `ups.parameters.equations` declares. The learned one has no such scale: see `ups.models.reward`. Shapes: B
batch, C field channels, *space grid.
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
class TotalVariation:
    """-max(0, TV(u) - TV(u_previous)) / TV(u_previous), TV(u) = sum_i |u_(i+1) - u_i| on the periodic line.

    The variation of a scalar conservation law's solution cannot grow; that of its values on a grid can by what lies
    between the points.
    """

    metadata: FieldMetadata

    def __call__(self, previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
        after, before = ((u.roll(-1, -1) - u).abs().sum((1, 2)) for u in (frame, previous))
        return -((after - before) / before.clamp_min(_TINY)).clamp_min(0)


@dataclass(frozen=True)
class MaximumPrinciple:
    """-rms(what lies above max u_previous or below min u_previous) / rms(u_previous), extrema over space by channel.

    What is transported and diffused makes no new extrema; on a grid they move between the points.
    """

    metadata: FieldMetadata

    def __call__(self, previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
        space = tuple(range(2, previous.dim()))
        above = (frame - previous.amax(space, keepdim=True)).clamp_min(0)
        below = (previous.amin(space, keepdim=True) - frame).clamp_min(0)
        return -_rms(above + below) / _rms(previous)


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


# Scalar conservation laws on a line, and what only transports and diffuses.
_VARIATION_FALLS = {"burgers", "advection"}
_KEEPS_EXTREMA = {"burgers", "advection", "navier_stokes"}


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


def weighted_rewards(
    weights: Mapping[str, float], metadata: FieldMetadata, learned: Reward | str = "none was given"
) -> Rewards:
    """Return the weighted sum of rewards by name, leaving out those of weight 0 and those the equation does not have.

    Args:
        weights: weight of each reward; that of `auto` goes to what `suggested` returns.
        metadata: of the fields.
        learned: the learned reward, or why there is none.

    Raises:
        ParameterError: if a name is unknown.
    """
    equation = EQUATIONS.get(metadata.equation)
    quoted = f"'{metadata.equation}'"
    nothing = f"{quoted} has no such law"
    known: dict[str, tuple[Reward | str, str | None]] = {
        "conservation": (Conservation(metadata), None if conserved(metadata) else f"{nothing}: it conserves nothing"),
        "dissipation": (
            Dissipation(metadata),
            None if dissipated(metadata) else f"{nothing}: no quantity of it may only fall",
        ),
        "total_variation": (
            TotalVariation(metadata),
            None if metadata.equation in _VARIATION_FALLS else f"{nothing}: the variation of its fields may grow",
        ),
        "maximum_principle": (
            MaximumPrinciple(metadata),
            None if metadata.equation in _KEEPS_EXTREMA else f"{nothing}: its fields may reach new extrema",
        ),
        "pde_residual": (
            PdeResidual(metadata),
            None if metadata.equation in RESIDUALS else f"there is no discrete residual for {quoted}",
        ),
        "positivity": (
            Positivity(metadata),
            None
            if equation and any(channel.positive for channel in equation.channels)
            else f"no field of {quoted} is positive by its equation",
        ),
        "learned": (learned, learned if isinstance(learned, str) else None),
    }
    asked = {name: weight for name, weight in weights.items() if weight}
    if auto := asked.pop("auto", 0.0):
        chosen = suggested(metadata)
        asked[chosen] = asked.get(chosen, 0.0) + auto
    unknown = set(weights) - set(known) - {"auto"}
    if unknown:
        raise ParameterError(f"unknown rewards {sorted(unknown)}; known are {sorted([*known, 'auto'])}")
    terms: dict[str, tuple[Reward, float]] = {}
    missing: dict[str, str] = {}
    for name, weight in asked.items():
        reward, reason = known[name]
        if reason is None and not isinstance(reward, str):
            terms[name] = (reward, weight)
        else:
            missing[name] = str(reason)
    return Rewards(terms, missing)


def suggested(metadata: FieldMetadata) -> str:
    """Name the reward that suits an equation: what dissipates, else what is conserved, else one that is learned."""
    if dissipated(metadata):
        return "dissipation"
    return "conservation" if conserved(metadata) else "learned"


def _rms(u: Tensor) -> Tensor:
    return u.square().mean(tuple(range(1, u.dim()))).sqrt().clamp_min(_TINY)
