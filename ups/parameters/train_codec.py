"""Parameters of the codec and its training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ups.parameters.section import NonNegative, NonNegativeFloat, Optimization, Positive, PositiveFloat, Section
from ups.parameters.train_operator import Backbone


class GridEncoder(Section):
    """Patches of the grid -> tokens, mixed by `depth` periodic token convolutions of width `hidden`."""

    name: Literal["grid"]
    hidden: Positive
    depth: NonNegative
    kernel: Positive


class PointEncoder(Section):
    """Points of a cloud, a mesh or the grid -> tokens, by messages over a window of `neighbours` tokens.

    `frequencies`: of the Fourier features of the coordinates relative to a token. After that `depth` rounds of messages
    between tokens, over `kernel` of them along each axis.
    """

    name: Literal["points"]
    hidden: Positive
    depth: NonNegative
    kernel: Positive
    neighbours: Positive
    frequencies: Positive


class LocalDecoder(Section):
    """Local any-point decoder: a query reads its `neighbours` nearest tokens through their relative coordinate."""

    name: Literal["local"]
    hidden: Positive
    depth: Positive
    neighbours: Positive
    frequencies: Positive


class GlobalDecoder(Section):
    """Global any-point decoder: a query, Fourier features of its coordinates, attends `depth` times to all tokens.

    `frequencies` along each axis; about half the tokens of an axis are needed to tell one token from the next.
    """

    name: Literal["global"]
    hidden: Positive
    depth: Positive
    heads: Positive
    frequencies: Positive

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"heads = {self.heads} must divide hidden = {self.hidden}")
        return self


Encoder = Annotated[GridEncoder | PointEncoder, Field(discriminator="name")]
Decoder = Annotated[LocalDecoder | GlobalDecoder, Field(discriminator="name")]


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


class JointOperator(Section):
    """An operator that is trained together with the codec, on one decoded step; see `ups.training.joint`.

    Attributes:
        weight: of its loss, beside the reconstruction's 1.
        model: its network. It stands here and not in `train_operator` alone, so that the codec does not depend on the
            operator of a pipeline that trains them one after the other.
    """

    weight: PositiveFloat
    model: Backbone


class TrainCodec(Section):
    """The codec: architecture, losses, training. The only stage that trains it.

    `joint_operator`: null trains the codec alone.
    """

    encoder: Encoder
    decoder: Decoder
    inverse_losses: InverseLosses
    joint_operator: JointOperator | None = None
    optimization: Optimization

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.encoder.kernel % 2 == 0:
            raise ValueError(f"encoder.kernel = {self.encoder.kernel} must be odd, so that a token sits in its middle")
        return self
