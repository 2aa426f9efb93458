"""Parameters of the student and its training."""

from typing import Annotated, Literal

from pydantic import Field

from ups.parameters.section import Optimization, Positive, Section


class MergedStudent(Section):
    """Of a `residual` corrector: the operator's architecture, trained to the teacher's corrected output in one pass.

    `num_taus` is the number of tau draws the teacher's correction is averaged over, one entry per equal part of the
    training.
    """

    name: Literal["merged"]
    num_taus: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]


class ConsistencyStudent(Section):
    """Of a `flow` corrector: the corrector's architecture, trained to reach the teacher's end in `steps` steps."""

    name: Literal["consistency"]
    steps: Annotated[int, Field(ge=1, le=4)]


Student = Annotated[MergedStudent | ConsistencyStudent, Field(discriminator="name")]


class Distill(Section):
    """The student: what it is, and its training."""

    student: Student
    optimization: Optimization
