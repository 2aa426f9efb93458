"""Parameters of the latent operator and its training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ups.parameters.section import Fraction, NonNegativeFloat, Optimization, Positive, PositiveFloat, Section


class PdeTransformer(Section):
    """U-shaped transformer over tokens with channel-separated attention.

    `hidden` channels are split into groups of `group`; attention runs in each group with `heads` heads and weights
    shared by all groups. `depths[i]` blocks run at level i, which holds tokens / 2^i tokens. The embedding sees `stem`
    tokens.
    """

    name: Literal["pde_transformer"]
    hidden: Positive
    depths: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
    group: Positive
    heads: Positive
    mlp_ratio: PositiveFloat
    dropout: Fraction
    stem: Positive

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stem % 2 == 0:
            raise ValueError(f"stem = {self.stem} must be odd, so that a token sits in its middle")
        if self.hidden % self.group:
            near = [g for g in range(1, self.hidden + 1) if self.hidden % g == 0]
            best = min(near, key=lambda g: abs(g - self.group))
            raise ValueError(
                f"group = {self.group} must divide hidden = {self.hidden}; the nearest that does is {best}"
            )
        if self.group % self.heads:
            near = [h for h in range(1, self.group + 1) if self.group % h == 0]
            best = min(near, key=lambda h: abs(h - self.heads))
            raise ValueError(f"heads = {self.heads} must divide group = {self.group}; the nearest that does is {best}")
        return self


class Curriculum(Section):
    """Length of the training rollouts: 1 step at first, `max_steps` from `ramp` (share of all updates) on."""

    max_steps: Positive
    ramp: Fraction


class OperatorLosses(Section):
    """Weights of the loss terms; each is logged unweighted on its own."""

    forward: NonNegativeFloat
    spectral: NonNegativeFloat
    relative: NonNegativeFloat


class TrainOperator(Section):
    """The latent operator: architecture, losses, training."""

    model: PdeTransformer
    rollout: Curriculum
    losses: OperatorLosses
    optimization: Optimization
