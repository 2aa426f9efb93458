"""The operator's prediction of one step, and what of it correctors read.

Shapes: B batch, N tokens, D latent width, P coefficients.
"""

from torch import Tensor

from ups.models.codec import Codec
from ups.models.operator import LatentOperator


class Predictor:
    """One step of the frozen operator, and its prediction as correctors see it.

    An operator that starts every step from encoded fields (`reencode`) may predict any of the tokens that decode
    alike; nothing holds it to the encoder's choice. A residual against encoded truth would mostly be that choice, and
    adding it would change fields that were right. Correctors of such an operator read the encoding of what it predicts.

    Args:
        operator: the frozen operator.
        codec: of its latents; may be left out where nothing is re-encoded and no mean is carried.

    Raises:
        ValueError: if the operator re-encodes and there is no codec.
    """

    def __init__(self, operator: LatentOperator, codec: Codec | None = None) -> None:
        if operator.reencode and codec is None:
            raise ValueError("to encode predictions anew takes a codec")
        self.operator, self.codec = operator, codec

    def step(self, z: Tensor, coefficients: Tensor) -> Tensor:
        """Predict the next tokens, which carry the mean of `z` if any do: (B, N, D), (B, P) -> (B, N, D)."""
        tokens = self.operator(z, coefficients)
        return tokens if self.codec is None else self.codec.conserve(z, tokens[:, None])[:, 0]

    def legible(self, z_hat: Tensor) -> Tensor:
        """Return what correctors read of a prediction: (B, N, D) -> (B, N, D)."""
        if not self.operator.reencode or self.codec is None:
            return z_hat
        return self.codec.encode(self.codec.decode(z_hat))
