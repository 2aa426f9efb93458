"""Mean, standard deviation and range per channel, gathered chunk by chunk in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class ChannelStatistics:
    """Running statistics of fields (B, T, C, *space) over everything but the channel.

    The two-pass moments of each chunk are merged by Chan, Golub and LeVeque's formula (1979, eq. 2.1), which loses no
    digits to the difference of large sums.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: npt.NDArray[np.float64] = np.zeros(0)
        self._squares: npt.NDArray[np.float64] = np.zeros(0)
        self.minimum = float("inf")
        self.maximum = float("-inf")

    def update(self, fields: npt.NDArray[np.float32]) -> None:
        values = np.moveaxis(fields, 2, 0).reshape(fields.shape[2], -1).astype(np.float64)
        count, mean = values.shape[1], values.mean(axis=1)
        squares = np.square(values - mean[:, None]).sum(axis=1)
        if not self.count:
            self.count, self.mean, self._squares = count, mean, squares
        else:
            total = self.count + count
            shift = mean - self.mean
            self._squares = self._squares + squares + shift**2 * (self.count * count / total)
            self.mean = self.mean + shift * (count / total)
            self.count = total
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))

    @property
    def std(self) -> npt.NDArray[np.float64]:
        """Population standard deviation per channel."""
        return np.sqrt(self._squares / self.count)
