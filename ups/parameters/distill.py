"""Parameters of the student and its training."""

from typing import Annotated

from pydantic import Field

from ups.parameters.section import Optimization, Positive, Section


class Distill(Section):
    """The student: the operator's architecture, trained to the teacher's corrected output.

    `num_taus` is the number of tau draws the teacher's correction is averaged over, one entry per equal part of the
    training.
    """

    num_taus: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
    optimization: Optimization
