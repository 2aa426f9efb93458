"""Sections that several stages read: the task, the data file, the latent space, the machine."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ups.parameters.equations import EQUATIONS, EquationName
from ups.parameters.section import NonNegative, PartialSection, Positive, PositiveFloat, Section

# Who looks at a field: an observer at rest, or one who moves with the field's mean (Galilean symmetry of Burgers).
Frame = Literal["laboratory", "comoving"]


class Task(Section):
    """What is simulated, and what a data file is taken to hold where it does not say so itself.

    `coefficients` are the numbers of the equation by name; `ups.parameters.equations` has the equations. Every axis of
    the domain is `domain_extent` long. A steady equation has no use for `final_time`.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    equation: EquationName
    coefficients: dict[str, float]
    domain_extent: PositiveFloat
    final_time: PositiveFloat

    @model_validator(mode="after")
    def _check(self) -> Self:
        needed = EQUATIONS[self.equation].coefficient_names
        if set(self.coefficients) != set(needed):
            raise ValueError(
                f"coefficients of equation '{self.equation}' are {list(needed)}, not {sorted(self.coefficients)}"
            )
        return self


Range = Annotated[tuple[NonNegative, Positive | None], Field(strict=False)]


class Splits(Section):
    """Sample ranges [start, stop) of the source file, one per split; stop = null means to the end of the file."""

    train: Range
    validation: Range
    test: Range


class Data(Section):
    """Where the fields come from and which part of them is used."""

    path: str
    space_stride: Positive
    time_stride: Positive
    splits: Splits


class DataLocation(PartialSection):
    """Only the path, for the stage that must know whether its own output is the one in use."""

    path: str


class Latent(Section):
    """The latent space: `tokens` tokens of `dim` numbers each.

    `frame` is the frame of reference in which fields are encoded, for every stage that works on latents. `comoving`:
    without their mean and in coordinates that move with it; forecasts are carried back and get their mean back exactly.
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
