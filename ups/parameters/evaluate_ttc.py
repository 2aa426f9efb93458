"""Parameters of the test-time search."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ups.parameters.section import Fraction, NonNegativeFloat, PartialSection, Positive, Section

Probability = Annotated[float, Field(ge=0, le=1)]


class CandidateDraws(Section):
    """How candidates of a step are drawn.

    Attributes:
        candidates: corrections drawn per state and step (C).
        noise_std: standard deviation of the latent noise, in units of each latent channel's own; one entry per
            equal part of the rollout. A flow has noise of its own and needs none here.
        tau_range: candidates of a `residual` corrector draw tau uniformly from this range; those of a flow differ by
            the noise that it starts from.
    """

    candidates: Positive
    noise_std: Annotated[tuple[NonNegativeFloat, ...], Field(strict=False, min_length=1)]
    tau_range: Annotated[tuple[Probability, Probability], Field(strict=False)]

    @model_validator(mode="after")
    def _check_draws(self) -> Self:
        if self.tau_range[0] >= self.tau_range[1]:
            raise ValueError(f"tau_range = {list(self.tau_range)} must rise")
        return self


class SearchedCandidates(PartialSection, CandidateDraws):
    """Only how candidates are drawn, for the stage that learns to rank them."""


class Rewards(Section):
    """Weight of each reward; 0 leaves it out, and so does an equation that does not have it.

    `auto` is the weight of what the equation suggests: `dissipation` where a quantity may only fall, else
    `conservation` where one is conserved, else `learned`. `learned` is what the stage `train_reward` trained.
    """

    conservation: NonNegativeFloat
    dissipation: NonNegativeFloat
    total_variation: NonNegativeFloat
    maximum_principle: NonNegativeFloat
    pde_residual: NonNegativeFloat
    positivity: NonNegativeFloat
    learned: NonNegativeFloat
    auto: NonNegativeFloat


class Adaptive(Section):
    """Search only where the plain step's reward is poor; everywhere else the plain step is taken.

    Attributes:
        quantile: a reward is poor below this quantile of the plain steps' rewards in free-running forecasts of the
            validation split. The test split has no say in it.
    """

    quantile: Annotated[float, Field(gt=0, lt=1)]


class EvaluateTTC(CandidateDraws):
    """Beam search over candidate corrections, for each trajectory on its own.

    Attributes:
        beam: states kept per trajectory from one level of the horizon to the next; without effect at horizon 1.
        horizon: steps looked ahead before the first of them is taken.
        discount: weight of the reward of each further step of the horizon.
        steps: rollout steps that are searched; null searches all of them.
        max_evaluations: most network evaluations per rollout step and trajectory.
        margin: stop looking further ahead where the best candidate leads by this share of the spread; null never stops.
        adaptive: where to search at all; null searches everywhere.
        rewards: weight of each reward.
        protocols: protocols to run.
    """

    beam: Positive
    horizon: Positive
    discount: Probability
    steps: Positive | None
    max_evaluations: Positive
    margin: Fraction | None
    adaptive: Adaptive | None
    rewards: Rewards
    protocols: Annotated[tuple[Literal["rollout_ic", "pdebench"], ...], Field(strict=False, min_length=1)]

    def evaluations_per_step(self, per_correction: int = 1) -> int:
        """Most network evaluations of one searched step: an operator pass per state, a correction per candidate.

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
        if not any(self.rewards.model_dump().values()):
            raise ValueError("at least one reward needs a positive weight")
        self.check_budget(1)
        return self
