"""The vorticity of a velocity on a periodic plane, w = dv/dx - du/dy by the Fourier series through the grid's values.

Shapes: N trajectories, T frames, X x Y points, the velocity's components (u, v) last.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ups.data.arrays import ArrayLike
from ups.errors import DataError

_LARGEST_DIVERGENCE = 0.05  # of an incompressible velocity, rms over the rms of its gradient; storage rounds it
_LARGEST_MEAN = 0.01  # of the velocity's mean over its rms: what a vorticity says nothing of


class Curl:
    """The curl (N, T, X, Y) of a stored velocity (N, T, X, Y, 2), computed where it is read.

    Args:
        velocity: along x, then along y.
        extent: lengths of the plane.
        source: where it comes from, for messages.

    Raises (where it is read):
        DataError: if the velocity has a divergence, so that its vorticity is not all there is to it, or a mean, which
            would carry the vorticity along.
    """

    def __init__(self, velocity: ArrayLike, extent: tuple[float, ...], source: str) -> None:
        self._velocity, self._extent, self._source = velocity, extent, source
        self.shape = tuple(velocity.shape[:-1])
        self.dtype = velocity.dtype

    def __getitem__(self, part: slice) -> Any:
        made = [self._of(velocity) for velocity in self._velocity[part]]
        return np.stack(made).astype(self.dtype)

    def _of(self, velocity: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Return the curl of one trajectory, (T, X, Y)."""
        u, v = (np.fft.rfft2(velocity[..., i].astype(np.float64), axes=(1, 2)) for i in (0, 1))
        kx, ky = _wavenumbers(self.shape[-2:], self._extent)

        def size(*modes: npt.NDArray[Any]) -> float:
            return math.sqrt(sum(float((np.abs(each) ** 2).sum()) for each in modes))

        gradient = size(kx * u, ky * u, kx * v, ky * v)
        if size(kx * u + ky * v) > _LARGEST_DIVERGENCE * gradient:
            raise DataError(
                f"{self._source}: the velocity has a divergence (rms {size(kx * u + ky * v) / gradient:.2g} of its "
                "gradient), so it is no incompressible flow, and its vorticity is not all of it. Choose "
                "another dataset; if the components are in another order, put that along x first."
            )
        mean = math.hypot(*(float(np.abs(part[:, 0, 0]).max()) for part in (u, v))) / math.prod(self.shape[-2:])
        rms = math.sqrt(float(np.square(velocity, dtype=np.float64).sum(-1).mean()))
        if mean > _LARGEST_MEAN * rms:
            raise DataError(
                f"{self._source}: the velocity has the mean {mean:.3g}, {mean / rms:.2g} of its rms. The vorticity "
                "does not know of it, so nothing could forecast how it is carried along. Choose another dataset."
            )
        vorticity: npt.NDArray[np.floating] = np.fft.irfft2(1j * kx * v - 1j * ky * u, s=self.shape[-2:], axes=(1, 2))
        return vorticity


def _wavenumbers(points: tuple[int, ...], extent: tuple[float, ...]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return k_x (X, 1) and k_y (1, Y/2 + 1); the highest one of an even grid has no slope at the grid's points."""
    along_x = np.fft.fftfreq(points[0], 1 / points[0])
    along_y = np.fft.rfftfreq(points[1], 1 / points[1])
    for along, count in ((along_x, points[0]), (along_y, points[1])):
        along[np.abs(along) * 2 == count] = 0
    return 2 * math.pi / extent[0] * along_x[:, None], 2 * math.pi / extent[1] * along_y[None, :]
