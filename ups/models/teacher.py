"""The teacher: operator and corrector as one step map.

Shapes: B batch, N tokens, D latent width.
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ups.errors import ArtifactError
from ups.models.codec import Codec
from ups.models.corrector import ResidualCorrector
from ups.models.flow import FlowCorrector
from ups.models.operator import LatentOperator
from ups.models.predictor import Predictor
from ups.models.weights import CONFIG, load_model, read_config

# In the residual objective tau is a dummy input; a deterministic correction takes the middle of its range.
DETERMINISTIC_TAU = 0.5

Corrector = ResidualCorrector | FlowCorrector
CORRECTORS: tuple[type[nn.Module], ...] = (ResidualCorrector, FlowCorrector)


def load_corrector(folder: Path) -> Corrector:
    """Load a corrector of either kind, frozen and in evaluation mode.

    Raises:
        ArtifactError: if the folder holds something else; see `load_model`.
    """
    return cast(Corrector, load_model(folder, kind_in(folder, CORRECTORS)))


def kind_in(folder: Path, kinds: tuple[type[nn.Module], ...]) -> type[nn.Module]:
    """Return which of the classes `kinds` the folder of a model says it holds.

    Raises:
        ArtifactError: if it is none of them.
    """
    named = {kind.__name__: kind for kind in kinds}
    found = read_config(folder).get("class")
    if found not in named:
        expected = " or ".join(f"a {name!r}" for name in named)
        raise ArtifactError(f"{folder / CONFIG} describes a {found!r}, but {expected} was expected")
    return named[found]


class Teacher:
    """z_hat = operator(z); z' = z_hat + correction(z_hat), the corrector reading z_hat as `Predictor.legible` shows it.

    Args:
        operator: the frozen operator.
        corrector: the frozen corrector.
        codec: of their latents; see `Predictor` for where it may be left out.
    """

    def __init__(self, operator: LatentOperator, corrector: Corrector, codec: Codec | None = None) -> None:
        self.predictor, self.corrector = Predictor(operator, codec), corrector

    @property
    def evaluations(self) -> int:
        """Network evaluations of one step."""
        return 1 + (self.corrector.evaluations if isinstance(self.corrector, FlowCorrector) else 1)

    def step(self, z: Tensor, coefficients: Tensor) -> Tensor:
        """Advance by one time step with the deterministic correction: (B, N, D), (B, P) -> (B, N, D)."""
        return self.finish(self.predictor.step(z, coefficients))

    def finish(self, z_hat: Tensor) -> Tensor:
        """Add the deterministic correction to the operator's prediction, (B, N, D)."""
        seen = self.predictor.legible(z_hat)
        if isinstance(self.corrector, FlowCorrector):
            return z_hat + self.corrector.deterministic(seen)
        return z_hat + self.correct(seen, torch.full((len(z_hat),), DETERMINISTIC_TAU, device=z_hat.device))

    def correct(self, seen: Tensor, tau: Tensor) -> Tensor:
        """Return the correction of a `residual` corrector, given what it reads, at diffusion times `tau`, (B,)."""
        return cast(ResidualCorrector, self.corrector)(seen, tau)

    def mean_step(self, z: Tensor, coefficients: Tensor, taus: Tensor) -> Tensor:
        """Advance with a `residual` corrector's correction averaged over the diffusion times `taus`, (M,)."""
        z_hat = self.predictor.step(z, coefficients)
        seen = self.predictor.legible(z_hat)
        corrections = [self.correct(seen, tau.expand(len(z))) for tau in taus]
        return z_hat + torch.stack(corrections).mean(dim=0)
