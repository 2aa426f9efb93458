"""A deterministic way to spend the same compute: average the surrogate over shifts of the periodic domain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ups.inference.surrogate import Forecast


@dataclass(frozen=True)
class ShiftAverage:
    """Mean over `copies` rollouts from fields shifted by whole grid points within a token, and shifted back.

    On a grid of several axes the shifts go along its diagonal.

    The equation commutes with shifts, the patches of the encoder do not: the copies err differently, and their mean is
    a control for any search that spends `copies` times the base's network evaluations.

    Attributes:
        forecast: the surrogate's forecaster.
        copies: number of shifted rollouts.
    """

    forecast: Forecast
    copies: int

    @property
    def evaluations_per_step(self) -> float:
        return self.copies * self.forecast.evaluations_per_step

    @torch.no_grad()
    def __call__(self, given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
        """(B, G, C, *space), (B, P) -> (B, num_steps, C, *space), physical units."""
        codec = self.forecast.surrogate.codec
        sides = [points // tokens for points, tokens in zip(codec.points, codec.encoder.shape, strict=True)]
        space = tuple(range(-len(sides), 0))
        total = torch.zeros(())
        for copy in range(self.copies):
            shifts = [round(copy * side / self.copies) for side in sides]
            shifted = self.forecast(given.roll(shifts, dims=space), num_steps, coefficients)
            total = total + shifted.roll([-shift for shift in shifts], dims=space)
        return total / self.copies
