"""The teacher: operator and corrector as one step map.

Shapes: B batch, N tokens, D latent width, P coefficients.
"""

import torch
from torch import Tensor

from ups.models.corrector import ResidualCorrector
from ups.models.operator import LatentOperator

# In the residual objective tau is a dummy input; a deterministic correction takes the middle of its range.
DETERMINISTIC_TAU = 0.5


class Teacher:
    """z_hat = operator(z); z' = z_hat + drift(z_hat, tau).

    Args:
        operator: the frozen operator.
        corrector: the frozen corrector.
    """

    def __init__(self, operator: LatentOperator, corrector: ResidualCorrector) -> None:
        self.operator, self.corrector = operator, corrector

    def step(self, z: Tensor, coefficients: Tensor) -> Tensor:
        """Advance by one time step with the deterministic correction: (B, N, D), (B, P) -> (B, N, D)."""
        return self.finish(self.operator(z, coefficients))

    def finish(self, z_hat: Tensor) -> Tensor:
        """Add the deterministic correction to the operator's prediction, (B, N, D)."""
        return z_hat + self.correct(z_hat, torch.full((len(z_hat),), DETERMINISTIC_TAU, device=z_hat.device))

    def correct(self, z_hat: Tensor, tau: Tensor) -> Tensor:
        """Return the correction at diffusion times `tau`, (B,)."""
        return self.corrector(z_hat, tau)

    def mean_step(self, z: Tensor, coefficients: Tensor, taus: Tensor) -> Tensor:
        """Advance with the correction averaged over the diffusion times `taus`, (M,)."""
        z_hat = self.operator(z, coefficients)
        corrections = [self.correct(z_hat, tau.expand(len(z))) for tau in taus]
        return z_hat + torch.stack(corrections).mean(dim=0)
