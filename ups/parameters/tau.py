"""Parameters of the corrector's time tau in [0, 1]: its law, and the loss weight that depends on it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ups.parameters.section import Fraction, PositiveFloat, Section

Unit = Annotated[float, Field(ge=0, le=1)]


class UniformTau(Section):
    """U(0, 1)."""

    name: Literal["uniform"]


class BetaTau(Section):
    """Beta(alpha, beta)."""

    name: Literal["beta"]
    alpha: PositiveFloat
    beta: PositiveFloat


class LogUniformTau(Section):
    """log tau uniform between log `low` and 0: every decade above `low` is drawn alike."""

    name: Literal["log_uniform"]
    low: Annotated[float, Field(gt=0, lt=1)]


class StratifiedTau(Section):
    """One uniform draw in each of as many equal bins as there are samples, brought into `range`.

    `limit`: `rescale` maps [0, 1] onto `range`; `clamp` cuts at its ends, so that what lies outside piles up there: a
    mistake of the reference, kept to be compared with.
    """

    name: Literal["stratified"]
    range: Annotated[tuple[Unit, Unit], Field(strict=False)]
    limit: Literal["rescale", "clamp"]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.range[0] >= self.range[1]:
            raise ValueError(f"range = {list(self.range)} must rise")
        return self


class AdaptiveTau(Section):
    """Bins are drawn in proportion to their running loss; importance weights keep the loss that of uniform tau.

    Attributes:
        bins: equal bins of [0, 1]; tau is uniform inside a bin.
        decay: what a bin's running loss keeps at each of its updates.
        uniform_share: share of the draws that goes to all bins alike; it bounds the weights by 1 / uniform_share.
    """

    name: Literal["adaptive"]
    bins: Annotated[int, Field(ge=2, le=100)]
    decay: Fraction
    uniform_share: Annotated[float, Field(gt=0, le=1)]


TauLaw = Annotated[UniformTau | BetaTau | LogUniformTau | StratifiedTau | AdaptiveTau, Field(discriminator="name")]


class ConstantWeight(Section):
    """Every tau counts alike."""

    name: Literal["constant"]


class PowerWeight(Section):
    """(1 + exponent) tau^exponent: late times count more."""

    name: Literal["power"]
    exponent: PositiveFloat


class ParabolaWeight(Section):
    """6 tau (1 - tau): the ends count nothing."""

    name: Literal["parabola"]


# Each has the mean 1 under uniform tau, so that a weight changes where the loss looks, and not how large it is.
TauWeight = Annotated[ConstantWeight | PowerWeight | ParabolaWeight, Field(discriminator="name")]
