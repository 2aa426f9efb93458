"""Parameters of the test-time search."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ups.parameters.section import Fraction, NonNegativeFloat, Positive, Section

Probability = Annotated[float, Field(ge=0, le=1)]


class Rewards(Section):
    """Weight of each reward; 0 leaves it out. Positivity acts on fields declared positive only."""

    conservation: NonNegativeFloat
    dissipation: NonNegativeFloat
    pde_residual: NonNegativeFloat
    positivity: NonNegativeFloat


class EvaluateTTC(Section):
    """Beam search over candidate corrections, for each trajectory on its own.

    Attributes:
        candidates: corrections drawn per beam state and step (C).
        beam: states kept per trajectory from one level of the horizon to the next; without effect at horizon 1.
        horizon: steps looked ahead before the first of them is taken.
        discount: weight of the reward of each further step of the horizon.
        noise_std: standard deviation of the latent noise, in units of each latent channel's own; one entry per
            equal part of the rollout. A flow has noise of its own and needs none here.
        tau_range: candidates of a `residual` corrector draw tau uniformly from this range; those of a flow differ by
            the noise that it starts from.
        steps: rollout steps that are searched; null searches all of them.
        max_evaluations: most network evaluations per rollout step and trajectory.
        margin: stop looking further ahead where the best candidate leads by this share of the spread; null never stops.
        protocols: protocols to run.
    """

    candidates: Positive
    beam: Positive
    horizon: Positive
    discount: Probability
    noise_std: Annotated[tuple[NonNegativeFloat, ...], Field(strict=False, min_length=1)]
    tau_range: Annotated[tuple[Probability, Probability], Field(strict=False)]
    steps: Positive | None
    max_evaluations: Positive
    margin: Fraction | None
    rewards: Rewards
    protocols: Annotated[tuple[Literal["rollout_ic", "pdebench"], ...], Field(strict=False, min_length=1)]

    def evaluations_per_step(self, per_correction: int = 1) -> int:
        """Network evaluations of one searched step: an operator pass per state and a correction per candidate.

        The first level of the beam has one state, each further level at most `beam`. A correction by a flow is several
        evaluations.
        """
        states = 1 + (self.horizon - 1) * min(self.beam, self.candidates)
        return states * (1 + self.candidates * per_correction)

    def check_budget(self, per_correction: int) -> None:
        """Refuse a search that needs more evaluations than it may make.

        Raises:
            ValueError: with what it needs and what to lower.
        """
        needed = self.evaluations_per_step(per_correction)
        if needed > self.max_evaluations:
            raise ValueError(
                f"one searched step costs {needed} network evaluations, more than max_evaluations = "
                f"{self.max_evaluations}; lower candidates, beam or horizon, or raise the budget"
            )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tau_range[0] >= self.tau_range[1]:
            raise ValueError(f"tau_range = {list(self.tau_range)} must rise")
        if not any(self.rewards.model_dump().values()):
            raise ValueError("at least one reward needs a positive weight")
        self.check_budget(1)
        return self
