"""A deterministic way to spend the same compute: average the surrogate over shifts of the periodic domain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ups.inference.surrogate import Forecast


@dataclass(frozen=True)
class ShiftAverage:
    """Mean over `copies` rollouts from fields shifted by whole grid points within a token, and shifted back.

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
        """(B, G, C, X), (B, P) -> (B, num_steps, C, X), physical units."""
        codec = self.forecast.surrogate.codec
        per_token = codec.points // codec.encoder.tokens
        total = torch.zeros(())
        for copy in range(self.copies):
            shift = round(copy * per_token / self.copies)
            shifted = self.forecast(given.roll(shift, dims=-1), num_steps, coefficients)
            total = total + shifted.roll(-shift, dims=-1)
        return total / self.copies
