"""Parameters of the learned baseline."""

from ups.parameters.section import Optimization, Positive, Section


class TrainBaseline(Section):
    """A Fourier neural operator (neuraloperator's FNO) on the fields themselves; null size = the operator's size.

    `num_parameters` is the size to come nearest to; null takes that of codec and operator together.
    """

    num_parameters: Positive | None
    modes: Positive
    layers: Positive
    optimization: Optimization
