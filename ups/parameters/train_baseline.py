"""Parameters of the learned baseline."""

from ups.parameters.section import Optimization, Positive, Section
from ups.parameters.shared import Frame


class TrainBaseline(Section):
    """A Fourier neural operator (neuraloperator's FNO) on the fields themselves; null size = the operator's size.

    `num_parameters` is the size to come nearest to; null takes that of codec and operator together.
    `frame` is the frame of reference in which it steps the fields, see `latent.frame`.
    `conditioning`: where several regimes are trained on, whether the channels of the coefficients hold their
    standardised logarithms or zeros; see `train_operator.conditioning`.
    """

    num_parameters: Positive | None
    modes: Positive
    layers: Positive
    frame: Frame
    conditioning: bool = True
    optimization: Optimization
