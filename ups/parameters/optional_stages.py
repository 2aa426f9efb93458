"""Stages that are part of every pipeline but off by default."""

from typing import Literal

from ups.parameters.section import Section


class TrainSteadyPrior(Section):
    """Iterative refinement to a steady solution; 0 epochs, the only length this version offers, skips the stage."""

    epochs: Literal[0]
