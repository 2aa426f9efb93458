"""The wave equation u_t = v, v_t = c^2 u_xx on a periodic interval, exactly.

By d'Alembert u(x, t) = f(x - c t) + g(x + c t) + m t, with f and g sums of sines: two trains of waves that pass through
each other, and a string that moves as a whole. Shapes: B samples, K wavenumbers, T frames, X points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

WAVES = 4  # wavenumbers 1..4, as in PDEBench's initial conditions
MEAN_VELOCITY = 0.5  # largest mean of v
_UNIFORMS = 4 * WAVES + 2


@dataclass(frozen=True)
class Strings:
    """A batch of solutions, callable at any time.

    u(x, t) = sum_k a_k sin(2 pi k (x - c t)/L + phi_k) + b_k sin(2 pi k (x + c t)/L + psi_k) + level + m t

    Attributes:
        amplitude: (B, 2, K), a and b.
        phase: (B, 2, K), phi and psi, radians.
        level: (B,), mean of u at t = 0.
        momentum: (B,), m, mean of v at all times.
        extent: length L of the domain.
    """

    amplitude: Tensor
    phase: Tensor
    level: Tensor
    momentum: Tensor
    extent: float

    def at(self, position: Tensor, times: Tensor, speed: float) -> Tensor:
        """Return u and v, (B, T, 2, X), float64, at positions (X,) and times (T,)."""
        wave = 2 * math.pi / self.extent * torch.arange(1, WAVES + 1, dtype=torch.float64, device=self.level.device)
        frames = []
        for time in times.tolist():
            u = (self.level + self.momentum * time)[:, None].expand(-1, len(position))
            v = self.momentum[:, None].expand(-1, len(position))
            for side, direction in enumerate((-1.0, 1.0)):
                shift = direction * speed * time
                angle = wave[:, None] * (position.to(wave) + shift) + self.phase[:, side, :, None]  # (B, K, X)
                size = self.amplitude[:, side, :, None]
                u = u + (size * torch.sin(angle)).sum(1)
                v = v + (size * direction * speed * wave[:, None] * torch.cos(angle)).sum(1)
            frames.append(torch.stack([u, v], dim=1))
        return torch.stack(frames, dim=1)

    def select(self, rows: list[int]) -> Strings:
        return self._map(lambda part: part[rows])

    def to(self, device: torch.device | str) -> Strings:
        return self._map(lambda part: part.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Strings:
        parts = {name: function(getattr(self, name)) for name in ("amplitude", "phase", "level", "momentum")}
        return Strings(**parts, extent=self.extent)


def draw_strings(seed: int, start: int, stop: int, extent: float) -> Strings:
    """Draw the samples start..stop-1 of the endless sequence that belongs to `seed`.

    a_k, b_k ~ U(0, 1)/k, phases ~ U(0, 2 pi), level ~ U(-1, 1), m ~ U(-1, 1) * 0.5. Both trains of waves are drawn, so
    u and v of a sample are never 0 everywhere at the same time as in a standing wave. Sample i depends on `seed` and i
    alone.
    """
    generator = torch.Generator().manual_seed(seed)
    # See `ups.data.initial_conditions.draw`: row i needs only the numbers before it.
    uniform = torch.rand(stop + 1, _UNIFORMS, generator=generator, dtype=torch.float64)[start:stop]
    amplitude, phase, rest = uniform.split([2 * WAVES, 2 * WAVES, 2], dim=1)
    number = torch.arange(1, WAVES + 1, dtype=torch.float64)
    return Strings(
        amplitude=amplitude.unflatten(1, (2, WAVES)) / number,
        phase=2 * math.pi * phase.unflatten(1, (2, WAVES)),
        level=2 * rest[:, 0] - 1,
        momentum=MEAN_VELOCITY * (2 * rest[:, 1] - 1),
        extent=extent,
    )


def propagate(u: Tensor, v: Tensor, time: Tensor, speed: Tensor, extent: float) -> tuple[Tensor, Tensor]:
    """Return u and v after `time`, exactly for fields that the grid resolves.

    Each mode k of the Fourier series is a harmonic oscillator of angular frequency w = 2 pi k c / L; the mean of u
    grows by the mean of v. The highest mode of an even grid is treated alike: its sine part cannot be seen.

    Args:
        u, v: (..., X), values on a regular periodic grid.
        time, speed: broadcast against u's (...).
        extent: length L of the domain.
    """
    points = u.shape[-1]
    number = torch.arange(points // 2 + 1, dtype=torch.float64, device=u.device)
    frequency = 2 * math.pi / extent * number * speed[..., None]
    angle = frequency * time[..., None]
    # sin(w t) / w, which is t for the mean; torch.sinc(x) is sin(pi x) / (pi x).
    response = time[..., None] * torch.sinc(angle / math.pi)
    modes_u, modes_v = torch.fft.rfft(u), torch.fft.rfft(v)
    after_u = angle.cos() * modes_u + response * modes_v
    after_v = angle.cos() * modes_v - frequency * angle.sin() * modes_u
    return torch.fft.irfft(after_u, n=points), torch.fft.irfft(after_v, n=points)
