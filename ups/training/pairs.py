"""Pairs of successive latents, and longer windows, as training samples.

Shapes: S samples, N tokens, D latent width, P coefficients.
"""

import torch
from torch import Tensor

from ups.data.latents import Latents
from ups.training.sampling import PROBE, probe


class Pairs:
    """Start frames of all trajectories as one flat list of samples: sample i is frame i mod (T-1) of one trajectory."""

    def __init__(self, latents: Latents) -> None:
        self.tokens, self.coefficients = latents.tokens, latents.coefficients
        self.starts = latents.tokens.shape[1] - 1

    def __len__(self) -> int:
        return self.tokens.shape[0] * self.starts

    def probe(self, count: int = PROBE) -> Tensor:
        """Return the samples to look at after each epoch, (S,); see `ups.training.sampling.probe`."""
        return probe(len(self), count).to(self.tokens.device)

    def window(self, indices: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Return frames (S, steps + 1, N, D) and coefficients (S, P); late starts move back so that the window fits."""
        rows, frames = self.positions(indices, steps)
        return self.tokens[rows[:, None], frames], self.coefficients[rows]

    def positions(self, indices: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Return trajectory (S,) and frames (S, steps + 1) of each window."""
        rows = torch.div(indices, self.starts, rounding_mode="floor")
        first = (indices % self.starts).clamp_max(self.starts - steps)
        return rows, first[:, None] + torch.arange(steps + 1, device=indices.device)
