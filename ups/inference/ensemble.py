"""Ensembles: every step draws its correction from a stochastic corrector.

Shapes: M members, B batch, C field channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ups.inference.surrogate import Forecast, Surrogate


class StochasticCorrector(Protocol):
    """A corrector that draws corrections from a distribution instead of computing one."""

    def sample(self, z_hat: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one correction for each prediction of the operator: (B, N, D) -> (B, N, D)."""
        ...


def is_stochastic(corrector: object) -> bool:
    """Tell whether a corrector draws."""
    return hasattr(corrector, "sample")


def drawing(surrogate: Surrogate, generator: torch.Generator) -> Surrogate:
    """Return a surrogate whose mode `corrected` draws a correction at each step, for each row of a batch its own."""
    drawn = _Drawing(cast(StochasticCorrector, surrogate.corrector), generator)
    return replace(surrogate, corrector=cast(Any, drawn))


def drawing_forecaster(surrogate: Surrogate, seed: int) -> Forecast:
    """Return a forecaster whose every call draws anew; the sequence of its forecasts follows from the seed."""
    generator = torch.Generator(device=surrogate.operator.mean.device).manual_seed(seed)
    forecast = drawing(surrogate, generator).forecaster("corrected")
    return replace(forecast, evaluations_per_step=surrogate.forecaster("corrected").evaluations_per_step)


@dataclass(frozen=True)
class _Drawing:
    """A stochastic corrector in the place of a deterministic one: every call draws."""

    corrector: StochasticCorrector
    generator: torch.Generator

    def __call__(self, z_hat: Tensor, tau: Tensor) -> Tensor:
        return self.corrector.sample(z_hat, self.generator)


@dataclass(frozen=True)
class EnsembleMean:
    """The mean of an ensemble as a forecaster.

    Attributes:
        draw: a forecaster that draws anew for each row of a batch.
        members: size M of the ensemble.
    """

    draw: Forecast
    members: int

    @property
    def evaluations_per_step(self) -> float:
        return self.members * self.draw.evaluations_per_step

    def __call__(self, given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
        """Continue from the last given frame: (B, G, C, *space), (B, P) -> (B, num_steps, C, *space)."""
        rows = given.repeat(self.members, *[1] * (given.dim() - 1))
        forecasts = self.draw(rows, num_steps, coefficients.repeat(self.members, 1))
        return forecasts.unflatten(0, (self.members, -1)).mean(dim=0)
