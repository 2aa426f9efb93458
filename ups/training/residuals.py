"""What the corrector is trained on: the residual of the frozen operator's one-step prediction.

Shapes: S samples, N tokens, D latent width.
"""

import torch

from ups.data.latents import Latents
from ups.models.codec import Codec
from ups.models.operator import LatentOperator
from ups.models.predictor import Predictor
from ups.training.pairs import Pairs


class Residuals:
    """All one-step predictions of the frozen operator from true frames, as correctors read them, and what they lack.

    Args:
        operator: frozen.
        latents: of true frames.
        codec: see `Predictor` for where it may be left out.

    Attributes:
        predicted: z_hat as `Predictor.legible` shows it, (S, N, D).
        residual: z - z_hat, (S, N, D).
        starts: samples of each trajectory.
        probe: fixed random choice of samples, for the numbers after each epoch.
        shape: tokens along each axis of the domain.
    """

    def __init__(self, operator: LatentOperator, latents: Latents, codec: Codec | None = None) -> None:
        predictor = Predictor(operator, codec)
        pairs = Pairs(latents)
        self.starts, self.probe, self.shape = pairs.starts, pairs.probe(), operator.shape
        predicted, residual = [], []
        with torch.no_grad():
            for indices in torch.arange(len(pairs), device=latents.tokens.device).split(2048):
                frames, coefficients = pairs.window(indices, 1)
                z_hat = predictor.legible(predictor.step(frames[:, 0], coefficients))
                predicted.append(z_hat)
                residual.append(frames[:, 1] - z_hat)
        self.predicted, self.residual = torch.cat(predicted), torch.cat(residual)

    def __len__(self) -> int:
        return len(self.predicted)
