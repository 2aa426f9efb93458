"""Incompressible flow in two dimensions: w_t + (v . grad) w = nu laplace(w) on a periodic square, w the vorticity.

Pseudo-spectral: derivatives in Fourier space, products at the grid's points, the upper third of the wavenumbers left
empty so that products do not alias (2/3 rule). Time: the classical Runge-Kutta method on exp(nu k^2 t) w_k (integrating
factor), so the viscous part is exact and sets no time step. Shapes: B flows, T frames, X x Y points, K modes.

Sources: Orszag, J. Atmos. Sci. 28 (1971) 1074 (2/3 rule); Canuto et al., Spectral Methods, Springer 2007, sec. 3.3.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST_WAVE = 6  # of an initial condition
PEAK = 3.0  # wavenumber around which an initial condition has its energy
RMS = 4.0  # of an initial vorticity, 1/time


@dataclass(frozen=True)
class Flows:
    """A batch of initial vorticities, sum over k of Re(c_k exp(2 pi i k.x / L)), that can be put on any grid.

    Attributes:
        modes: (B, 2 M + 1, 2 M + 1), complex128, c_k for wavenumbers -M..M along both axes.
        extent: length L of the square.
    """

    modes: Tensor
    extent: float

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Evaluate at all (x_i, y_j): positions (X,), (Y,) -> (B, X, Y), float64."""
        reach = self.modes.shape[-1] // 2
        number = torch.arange(-reach, reach + 1, dtype=torch.float64, device=self.modes.device)
        along = [torch.polar(torch.ones_like(a), a) for a in (_angles(number, p, self.extent) for p in (x, y))]
        return torch.einsum("bkl,kx,ly->bxy", self.modes, *along).real

    def select(self, rows: list[int]) -> Flows:
        return Flows(self.modes[rows], self.extent)

    def to(self, device: torch.device | str) -> Flows:
        return Flows(self.modes.to(device), self.extent)


def draw_flows(seed: int, start: int, stop: int, extent: float) -> Flows:
    """Draw the samples start..stop-1 of the endless sequence that belongs to `seed`.

    c_k = k exp(-(k/PEAK)^2) times a complex normal number, for 0 < |k| <= LARGEST_WAVE, scaled so that the rms
    vorticity of the sample is RMS. Sample i depends on `seed` and i alone.
    """
    generator = torch.Generator().manual_seed(seed)
    side = 2 * LARGEST_WAVE + 1
    # Normal numbers are drawn in pairs of a batch, so only uniform ones have the property that a longer draw begins
    # with a shorter one; Box and Muller turn them into normal ones.
    uniform = torch.rand(stop + 1, 2, side, side, generator=generator, dtype=torch.float64)[start:stop]
    radius = torch.sqrt(-2 * torch.log1p(-uniform[:, 0]))
    normal = torch.polar(radius, 2 * math.pi * uniform[:, 1])
    number = torch.arange(-LARGEST_WAVE, LARGEST_WAVE + 1, dtype=torch.float64)
    size = (number[:, None].square() + number.square()).sqrt()
    shape = torch.where(size <= LARGEST_WAVE, size * torch.exp(-((size / PEAK) ** 2)), 0.0)
    modes = shape * normal
    # The real part of c_k exp(ikx) + c_-k exp(-ikx) has the mode (c_k + conj(c_-k)) / 2.
    power = ((modes + modes.flip(1, 2).conj()) / 2).abs().square().sum((1, 2), keepdim=True)
    return Flows(modes * (RMS / power.sqrt()), extent)


def solve_navier_stokes(initial: Tensor, viscosity: float, times: Tensor, extent: float, substeps: int) -> Tensor:
    """Solve on the grid of the initial values.

    Args:
        initial: (B, X, Y), vorticity on a regular grid of a periodic square, mean 0; its dtype is used throughout.
        viscosity: nu >= 0.
        times: (T,), increasing.
        extent: length of both sides.
        substeps: Runge-Kutta steps from one time to the next; the method is stable for |v| dt pi/dx below about 2.8.

    Returns:
        (B, T, X, Y); frame 0 is `initial`, all others have no wavenumber beyond a third of the grid's.

    Raises:
        ValueError: if a step is so long that the method cannot be stable.
    """
    space = tuple(initial.shape[-2:])
    kx, ky = _wavenumbers(space, extent, initial)
    square = kx.square() + ky.square()
    kept = (kx.abs() < _limit(space[0], extent)) & (ky.abs() < _limit(space[1], extent))
    inverse = torch.where(square > 0, 1 / square.clamp_min(1e-30), 0.0)

    def tendency(modes: Tensor) -> Tensor:
        stream = modes * inverse  # laplace(stream) = -w, velocity = (d_y stream, -d_x stream)
        fields = [1j * ky * stream, -1j * kx * stream, 1j * kx * modes, 1j * ky * modes]
        u, v, slope_x, slope_y = torch.fft.irfft2(torch.stack(fields), s=space)
        return -torch.fft.rfft2(u * slope_x + v * slope_y) * kept

    modes = torch.fft.rfft2(initial) * kept
    frames = [initial]
    for before, after in itertools.pairwise(times.tolist()):
        dt = (after - before) / substeps
        _check_step(modes * inverse, (kx, ky), space, extent, dt, substeps)
        half = torch.exp(-viscosity * square * dt / 2)
        whole = half.square()
        for _ in range(substeps):
            k1 = tendency(modes)
            k2 = tendency(half * (modes + dt / 2 * k1))
            k3 = tendency(half * modes + dt / 2 * k2)
            k4 = tendency(whole * modes + dt * half * k3)
            modes = whole * modes + dt / 6 * (whole * k1 + 2 * half * (k2 + k3) + k4)
        frames.append(torch.fft.irfft2(modes, s=space))
    return torch.stack(frames, dim=1)


def _check_step(
    stream: Tensor, waves: tuple[Tensor, Tensor], space: tuple[int, ...], extent: float, dt: float, substeps: int
) -> None:
    speeds = [torch.fft.irfft2(1j * wave * stream, s=space).abs().amax() for wave in waves]
    # The largest wavenumber kept is two thirds of pi/dx; 2.8 is the method's bound on the imaginary axis.
    rate = float(sum(speeds)) * 2 / 3 * math.pi * max(space) / extent
    if not dt * rate < 2.8:
        needed = math.ceil(substeps * dt * rate / 2.8) if math.isfinite(rate) else 2 * substeps
        raise ValueError(f"{substeps} steps between two frames are too few for this flow; use substeps >= {needed}")


def _limit(points: int, extent: float) -> float:
    return 2 * math.pi / extent * points / 3


def _wavenumbers(space: tuple[int, ...], extent: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return k_x (X, 1) and k_y (1, Y/2 + 1), radians per length.

    The highest wavenumber of an even grid is among those that are left empty, so its sign does not matter.
    """
    unit = 2 * math.pi / extent
    along_x = torch.fft.fftfreq(space[0], 1 / space[0], dtype=like.dtype, device=like.device)
    along_y = torch.fft.rfftfreq(space[1], 1 / space[1], dtype=like.dtype, device=like.device)
    return unit * along_x[:, None], unit * along_y[None, :]


def _angles(number: Tensor, position: Tensor, extent: float) -> Tensor:
    return 2 * math.pi / extent * number[:, None] * position.to(number)
