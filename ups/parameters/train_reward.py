"""Parameters of the learned reward and its training."""

from typing import Self

from pydantic import model_validator

from ups.parameters.section import Optimization, Positive, Section


class TrainReward(Section):
    """The learned reward of the test-time search; 0 epochs skip it.

    One sample is a triplet: the best, the median and the worst of the candidates of one step, by their true error.

    Attributes:
        trajectories: most training trajectories that candidates are drawn on, and as many validation trajectories.
        hidden: width of the network.
        depth: number of its convolutions.
        kernel: odd number of grid points that each of them sees along an axis.
        optimization: how it trains; `pairs_per_update` counts triplets.
    """

    trajectories: Positive
    hidden: Positive
    depth: Positive
    kernel: Positive
    optimization: Optimization

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel = {self.kernel} must be odd, so that a grid point sits in its middle")
        return self
