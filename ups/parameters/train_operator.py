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

    @property
    def token_multiple(self) -> int:
        """What the number of tokens has to be a multiple of: every level but the last merges pairs of tokens."""
        return int(2 ** (len(self.depths) - 1))

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


class StackedTransformer(Section):
    """`depth` pre-norm transformer blocks on a fixed set of tokens, `hidden` wide, `heads` heads over all channels.

    `drop_path`: share of samples that skip the last block's branches in training; it rises from 0 at the first block.
    The embedding sees `stem` tokens.
    """

    name: Literal["stacked_transformer"]
    hidden: Positive
    depth: Positive
    heads: Positive
    mlp_ratio: PositiveFloat
    dropout: Fraction
    drop_path: Fraction
    stem: Positive

    @property
    def token_multiple(self) -> int:
        return 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stem % 2 == 0:
            raise ValueError(f"stem = {self.stem} must be odd, so that a token sits in its middle")
        if self.hidden % self.heads:
            near = [h for h in range(1, self.hidden + 1) if self.hidden % h == 0]
            best = min(near, key=lambda h: abs(h - self.heads))
            raise ValueError(
                f"heads = {self.heads} must divide hidden = {self.hidden}; the nearest that does is {best}"
            )
        return self


class TokenConvolutionModel(Section):
    """`blocks` residual convolutions over `kernel` neighbouring tokens, `hidden` wide, without normalisation layers."""

    name: Literal["token_convolution"]
    hidden: Positive
    blocks: Positive
    kernel: Positive

    @property
    def token_multiple(self) -> int:
        return 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel = {self.kernel} must be odd, so that a token sits in its middle")
        return self


Backbone = Annotated[PdeTransformer | StackedTransformer | TokenConvolutionModel, Field(discriminator="name")]


class Curriculum(Section):
    """Length and starts of the training rollouts.

    1 call of the operator at first, `max_steps` calls from `ramp` (share of all updates) on. A start frame is drawn as
    the share x^(1 + early_starts) of the trajectory, x uniform: 0 draws all frames alike, 1 the first quarter half of
    the time.
    """

    max_steps: Positive
    ramp: Fraction
    early_starts: NonNegativeFloat


class OperatorLosses(Section):
    """Weights of the loss terms; each is logged unweighted on its own.

    `forward`, `spectral` and `relative` compare latents; `decoded` compares decoded fields with the true ones, as the
    square of the nRMSE; `physics` is the residual of the equation between each decoded frame and the one before it.
    """

    forward: NonNegativeFloat
    spectral: NonNegativeFloat
    relative: NonNegativeFloat
    decoded: NonNegativeFloat
    physics: NonNegativeFloat


Symmetry = Literal["shift", "reflection"]


class TrainOperator(Section):
    """The latent operator: architecture, losses, training.

    With `reencode` every step of a rollout, in training and after it, starts from what the encoder makes of the decoded
    field: a latent space that is larger than the field has directions of which no decoded field tells, and errors in
    them grow unseen. One call predicts the next `frames_per_call` frames, from which the last starts the next call:
    fewer calls cost less and add up fewer errors, but each has further to go. The stages after this one (corrector,
    student, search) refine single steps and need 1. `symmetries`: of the equation, by one of which, drawn at random,
    each training sample is moved.

    `initial`: where the training starts: `fresh` draws the weights, `joint` takes those that the codec's stage trained
    with the codec (`train_codec.joint_operator`).

    `conditioning`: where several regimes are trained on, whether the network is told their coefficients: true modulates
    every block by their standardised logarithms, false shows the same network zeros in their place. A single regime has
    nothing to tell, and the network is the recipe's in either case.
    """

    initial: Literal["fresh", "joint"] = "fresh"
    model: Backbone
    conditioning: bool = True
    reencode: bool
    frames_per_call: Positive
    symmetries: Annotated[tuple[Symmetry, ...], Field(strict=False)]
    rollout: Curriculum
    losses: OperatorLosses
    optimization: Optimization
