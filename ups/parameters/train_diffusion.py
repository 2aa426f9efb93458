"""Parameters of the corrector and its training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ups.parameters.section import Fraction, NonNegativeFloat, Optimization, Positive, Section
from ups.parameters.tau import TauLaw, TauWeight


class ResidualObjective(Section):
    """Regression: drift(z_hat, tau) ~ z - z_hat. The target does not depend on tau, so tau is a dummy input."""

    name: Literal["residual"]

    @property
    def evaluations(self) -> int:
        """Network evaluations of one correction."""
        return 1


class FlowObjective(Section):
    """Conditional flow matching from z_hat plus noise (tau = 0) to z (tau = 1).

    Attributes:
        steps: steps in which a correction integrates the flow.
        solver: `euler` evaluates the network once per step, `midpoint` and `heun` twice.
        noise: deviation of the noise at tau = 0, in units of what the network predicts in (`standardize_residual`).
    """

    name: Literal["flow"]
    steps: Annotated[int, Field(ge=1, le=100)]
    solver: Literal["euler", "midpoint", "heun"]
    noise: NonNegativeFloat

    @property
    def evaluations(self) -> int:
        """Network evaluations of one correction."""
        return self.steps * (1 if self.solver == "euler" else 2)


Objective = Annotated[ResidualObjective | FlowObjective, Field(discriminator="name")]


class CorrectorLosses(Section):
    """Weights of the loss terms beside the MSE, which always has weight 1.

    `spectral` and `relative` compare corrected latents with the true ones; `decoded` compares what both decode to, as
    the square of the nRMSE.
    """

    spectral: NonNegativeFloat
    relative: NonNegativeFloat
    decoded: NonNegativeFloat


class TrainDiffusion(Section):
    """The corrector of the frozen operator.

    Attributes:
        objective: what the network learns.
        hidden: width of the network.
        depth: number of linear layers.
        skip: every layer between two hidden ones adds to what it got.
        norm: a normalisation layer after every hidden layer.
        dropout: share of hidden values that are dropped while training.
        mixing: odd number of neighbouring tokens that a convolution mixes after the first layer; 1 mixes none, so that
            every token is corrected on its own.
        zero_init: the untrained network corrects nothing.
        standardize_residual: the network predicts in units of the training residual's standard deviation.
        tau: where tau is drawn in training.
        tau_weight: what each tau counts in the loss.
        tau_bins: equal bins of tau for which the validation loss is logged.
        losses: weights of the other terms.
        optimization: how it trains.
    """

    objective: Objective
    hidden: Positive
    depth: Annotated[int, Field(ge=2)]
    skip: bool
    norm: bool
    dropout: Fraction
    mixing: Positive
    zero_init: bool
    standardize_residual: bool
    tau: TauLaw
    tau_weight: TauWeight
    tau_bins: Positive
    losses: CorrectorLosses
    optimization: Optimization

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tau_bins > 100:
            raise ValueError(f"tau_bins = {self.tau_bins} leaves too few samples per bin; use at most 100")
        if self.mixing % 2 == 0:
            raise ValueError(f"mixing = {self.mixing} must be odd, so that a token sits in its middle")
        if self.skip and self.depth < 3:
            raise ValueError(
                f"skip = true needs a layer between two hidden ones; depth = {self.depth} has none: use 3 or more"
            )
        return self
