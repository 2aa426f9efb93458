"""Parameters of the evaluation."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ups.parameters.section import NonNegative, Positive, PositiveFloat, Section


class FiniteVolume(Section):
    """The classical competitor: finite volumes on grids of these sizes, chosen on the validation split.

    Attributes:
        cells: candidate numbers of cells, rising; they are tried in this order.
        max_seconds: a candidate expected to need more than this per trajectory is not tried (small cells make the
            explicit diffusive time step short, and the cost grow with the cube of the number of cells).
        compile: compile the solver's time step where a C++ compiler is at hand; some seconds per candidate, then about
            five times faster. Without it the competitor is slower than it needs to be.
    """

    cells: Annotated[tuple[Annotated[int, Field(ge=4)], ...], Field(strict=False, min_length=1)]
    max_seconds: PositiveFloat
    compile: bool

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.cells) != sorted(set(self.cells)):
            raise ValueError(f"cells = {list(self.cells)} must rise")
        return self


class Ensemble(Section):
    """Ensembles of a corrector that draws; without one there are none.

    Attributes:
        members: forecasts of each trajectory.
        seed: of all draws.
    """

    members: Annotated[int, Field(ge=2)]
    seed: NonNegative


class Evaluate(Section):
    """Forecasts on the test split, against baselines.

    Attributes:
        protocols: protocols to run; see `ups.evaluation.protocols`.
        horizons: numbers of predicted frames after which errors are reported, beside the full length.
        batch_size: trajectories forecast at once; bounds the memory and is the batch that costs are measured at.
        correlation_threshold: smallest correlation with the truth that counts as correlated (`correlation_time`).
        finite_volume: candidates of the classical competitor (Burgers only).
        ensemble: forecasts by a corrector that draws.
        panel_trajectories: test trajectories drawn in the rollout panel.
    """

    protocols: Annotated[tuple[Literal["one_step", "rollout_ic", "pdebench"], ...], Field(strict=False, min_length=1)]
    horizons: Annotated[tuple[Positive, ...], Field(strict=False)]
    batch_size: Positive
    correlation_threshold: Annotated[float, Field(gt=0, lt=1)]
    finite_volume: FiniteVolume
    ensemble: Ensemble
    panel_trajectories: Positive

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("protocols", "horizons"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} = {list(values)} must not repeat an entry")
        return self
