"""Sections that several stages read: the task, the data file, the latent space, the machine."""

import itertools
import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from ups.parameters.equations import EQUATIONS, EquationName
from ups.parameters.section import NonNegative, PartialSection, Positive, PositiveFloat, Section

# Who looks at a field: an observer at rest, or one who moves with the field's mean (Galilean symmetry of Burgers).
Frame = Literal["laboratory", "comoving"]

# Relative difference up to which two values of a coefficient are one: files store them in float32 or float64.
SAME = 1e-6


def _number_or_list(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:  # one sentence instead of one for each of the two kinds
        raise ValueError("a number, or a list of numbers, was expected") from None


# One number, or several of which each is a regime of its own.
Values = Annotated[float | Annotated[tuple[float, ...], Field(strict=False)], WrapValidator(_number_or_list)]


def listed(values: Values) -> tuple[float, ...]:
    """Return the values of a coefficient, one or several."""
    return values if isinstance(values, tuple) else (values,)


def _distinct(by_name: dict[str, Values]) -> dict[str, Values]:
    for name, values in by_name.items():
        if not listed(values):
            raise ValueError(f"{name} = [] holds no value; give a number, or a list of at least one")
        if len(set(listed(values))) < len(listed(values)):
            raise ValueError(f"{name} = {list(listed(values))} must not repeat a value")
    return by_name


class Task(Section):
    """What is simulated, and what a data file is taken to hold where it does not say so itself.

    `coefficients` are the numbers of the equation by name; `ups.parameters.equations` has the equations. A list of
    values makes several regimes, one for each combination of values; `data.train_on` says which of them are trained on.
    Every axis of the domain is `domain_extent` long. A steady equation has no use for `final_time`.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    equation: EquationName
    coefficients: dict[str, Values]
    domain_extent: PositiveFloat
    final_time: PositiveFloat

    _are_distinct = field_validator("coefficients")(_distinct)

    @model_validator(mode="after")
    def _check(self) -> Self:
        needed = EQUATIONS[self.equation].coefficient_names
        if set(self.coefficients) != set(needed):
            raise ValueError(
                f"coefficients of equation '{self.equation}' are {list(needed)}, not {sorted(self.coefficients)}"
            )
        if EQUATIONS[self.equation].steady and len(self.regimes) > 1:
            raise ValueError(f"'{self.equation}' is steady: its data are made for one regime, with one number for each")
        return self

    @property
    def regimes(self) -> tuple[dict[str, float], ...]:
        """Every combination of the coefficients' values, each by name in the equation's order."""
        names = EQUATIONS[self.equation].coefficient_names
        values = (listed(self.coefficients[name]) for name in names)
        return tuple(dict(zip(names, regime, strict=True)) for regime in itertools.product(*values))

    def at(self, regime: dict[str, float]) -> "Task":
        """Return the task with the coefficients of one regime."""
        return self.model_copy(update={"coefficients": dict(regime)})


Range = Annotated[tuple[NonNegative, Positive | None], Field(strict=False)]


class Splits(Section):
    """Ranges [start, stop) of the source file's initial conditions, one per split; stop = null means all that follow.

    A file of one regime has an initial condition for each sample. Where several regimes share initial conditions, a
    range takes those samples of every regime, so that no initial condition is in two splits.
    """

    train: Range
    validation: Range
    test: Range

    @model_validator(mode="after")
    def _are_disjoint(self) -> Self:
        ranges = {name: (start, math.inf if stop is None else stop) for name, (start, stop) in self}
        for name, (start, stop) in ranges.items():
            if stop <= start:
                raise ValueError(f"{name} = [{start}, {stop}] is empty: start must be below stop")
        for first, second in itertools.combinations(sorted(ranges, key=lambda name: ranges[name]), 2):
            end = min(ranges[first][1], ranges[second][1])
            if ranges[second][0] < end:
                last = "the end" if end == math.inf else f"{end - 1:.0f}"
                raise ValueError(
                    f"{first} and {second} overlap: both hold the samples {ranges[second][0]} to {last}; a trajectory "
                    "may be in one split only"
                )
        return self


class Data(Section):
    """Where the fields come from and which part of them is used.

    `train_on` are the values of coefficients that a regime must have to be in the training and the validation split,
    by name; a coefficient that is not named may have any. null takes all regimes. The test split always holds all.
    """

    path: str
    space_stride: Positive
    time_stride: Positive
    splits: Splits
    train_on: dict[str, Values] | None = None

    @field_validator("train_on")
    @classmethod
    def _are_distinct(cls, values: dict[str, Values] | None) -> dict[str, Values] | None:
        return values if values is None else _distinct(values)

    def trains_on(self, regime: dict[str, float]) -> bool:
        """Return whether a regime, coefficients by name, belongs to the training and validation splits."""
        chosen = (self.train_on or {}).items()
        return all(any(math.isclose(regime[name], value, rel_tol=SAME) for value in listed(v)) for name, v in chosen)


class DataLocation(PartialSection):
    """Only the path, for the stage that must know whether its own output is the one in use."""

    path: str


class Latent(Section):
    """The latent space: `tokens` tokens of `dim` numbers each.

    `frame` is the frame of reference in which fields are encoded, for every stage that works on latents. `comoving`:
    in coordinates that move by whole cells per time step, as nearly with the mean as that allows, and less that speed;
    the mean is conserved exactly.
    """

    tokens: Positive
    dim: Positive
    frame: Frame


class Compute(Section):
    """The machine. Recorded with every execution, but not part of what a stage's result is keyed on.

    `num_threads` of each process; null: all cores, divided among the processes. `processes` share a training: each
    computes its part of every batch, on CUDA each on a device of its own; `torchrun -m ups.stages.<stage>` overrules
    that number.
    """

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["fp32", "bf16"]
    num_threads: Positive | None
    processes: Positive = 1
    compile: bool
    deterministic: bool
