"""Parameters of the codec and its training."""

from typing import Literal, Self

from pydantic import model_validator

from ups.parameters.section import NonNegative, NonNegativeFloat, Optimization, Positive, Section


class Encoder(Section):
    """Grid encoder: patches of the grid -> tokens, mixed by `depth` periodic token convolutions of width `hidden`."""

    hidden: Positive
    depth: NonNegative
    kernel: Positive


class Decoder(Section):
    """Local any-point decoder: a query reads its `neighbours` nearest tokens through their relative coordinate."""

    hidden: Positive
    depth: Positive
    neighbours: Positive
    frequencies: Positive


class InverseLosses(Section):
    """The two inverse losses and the curriculum of their weight.

    The weight is 0 for `warmup_epochs`, ramps to `weight` over as many epochs again, and never exceeds `max_weight`.
    The inverse encoding loss looks at `num_queries` points per frame (on a smaller grid: half its points); both act on
    every `frequency`-th update.
    """

    weight: NonNegativeFloat
    max_weight: NonNegativeFloat
    warmup_epochs: NonNegative
    ramp: Literal["linear", "cosine"]
    num_queries: Positive
    query_sampling: Literal["uniform", "stratified"]
    frequency: Positive


class TrainCodec(Section):
    """The codec: architecture, losses, training. The only stage that trains it."""

    encoder: Encoder
    decoder: Decoder
    inverse_losses: InverseLosses
    optimization: Optimization

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.encoder.kernel % 2 == 0:
            raise ValueError(f"encoder.kernel = {self.encoder.kernel} must be odd, so that a token sits in its middle")
        return self
