"""Parameters of the steady prior and its training."""

from typing import Literal, Self

from pydantic import model_validator

from ups.parameters.section import NonNegativeFloat, Optimization, Positive, Section
from ups.parameters.train_operator import Backbone


class SteadyLosses(Section):
    """Weights of the loss terms; each is logged unweighted on its own.

    `latent` compares standardised latents with those of the solution, `decoded` the decoded solution with the true one,
    as the square of the nRMSE.
    """

    latent: NonNegativeFloat
    decoded: NonNegativeFloat

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.latent or self.decoded):
            raise ValueError("one of the weights latent and decoded must be above 0: nothing is trained otherwise")
        return self


class TrainSteadyPrior(Section):
    """Refinement of latents from the coefficients of a steady problem to its solution; 0 epochs skip it.

    Attributes:
        model: the network of one refinement; the same weights serve all of them.
        iterations: number of refinements.
        supervise: which iterates the losses are taken on: `every` one of them, or the `last` alone.
        losses: weights of the terms.
        optimization: how it trains; `pairs_per_update` counts samples.
    """

    model: Backbone
    iterations: Positive
    supervise: Literal["every", "last"]
    losses: SteadyLosses
    optimization: Optimization
