"""Parameters of the corrector and its training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ups.parameters.section import NonNegativeFloat, Optimization, Positive, PositiveFloat, Section


class TauSampling(Section):
    """How the diffusion time tau in (0, 1) is drawn: uniform, or Beta(alpha, beta)."""

    name: Literal["uniform", "beta"]
    alpha: PositiveFloat
    beta: PositiveFloat


class CorrectorLosses(Section):
    """Weights of the loss terms beside the MSE, which always has weight 1."""

    spectral: NonNegativeFloat
    relative: NonNegativeFloat


class TrainDiffusion(Section):
    """The corrector of the frozen operator.

    `depth` counts linear layers. With `zero_init` the untrained corrector corrects nothing; with
    `standardize_residual` it predicts in units of the training residual's standard deviation.
    """

    objective: Literal["residual"]
    hidden: Positive
    depth: Annotated[int, Field(ge=2)]
    zero_init: bool
    standardize_residual: bool
    tau: TauSampling
    tau_bins: Positive
    losses: CorrectorLosses
    optimization: Optimization

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tau_bins > 100:
            raise ValueError(f"tau_bins = {self.tau_bins} leaves too few samples per bin; use at most 100")
        return self
