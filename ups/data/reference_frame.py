"""Who looks at a field: an observer at rest, or one who moves with the mean flow.

Burgers' equation is Galilean invariant: with m the mean of u, which is conserved, v(x, t) = u(x + m t, t) - m solves
the same equation. A model that works on v need not learn drifts of every speed, and the mean cannot be lost.

Shapes: B trajectories, T stored frames, C field channels, X grid points; at rest the grid may have any rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.data.normalization import FieldNormalizer
from ups.errors import ParameterError
from ups.parameters.shared import Frame

_ROWS = 64  # trajectories shifted at a time: bounds the memory of the transforms


@dataclass(frozen=True)
class Observer:
    """Maps physical fields to what a model sees, and back.

    At rest: (u - mean) / std with the statistics of the training split. Comoving: (u(x + m t) - m) / std, with m the
    mean of each trajectory's first field.

    Attributes:
        level: (B, C, 1), what is subtracted.
        scale: (C, 1), what is divided by.
        velocity: (B,), float64, domain lengths per stored time step; None at rest.
    """

    level: Tensor
    scale: Tensor
    velocity: Tensor | None = None

    @property
    def offset(self) -> Tensor:
        """(B, C, 1); seen + offset is the field in units of `scale`, with nothing subtracted."""
        return self.level / self.scale

    def see(self, u: Tensor) -> Tensor:
        """Physical trajectories from time 0 on, (B, T, C, X), to what the model sees."""
        return (self._moved(u, 0, 1.0) - self.level[:, None]) / self.scale

    def restore(self, seen: Tensor, first: int) -> Tensor:
        """What the model sees, (B, T, C, X), frame `first` being the first of them, to physical fields."""
        return self._moved(seen, first, -1.0) * self.scale + self.level[:, None]

    def rows(self, index: Tensor) -> Observer:
        """Return the observer of trajectories `index`."""
        velocity = None if self.velocity is None else self.velocity[index]
        return Observer(self.level[index], self.scale, velocity)

    def _moved(self, u: Tensor, first: int, direction: float) -> Tensor:
        if self.velocity is None:
            return u
        start = 1 if first == 0 else 0  # at time 0 both observers are in one place: nothing to round
        if u.shape[1] == start:
            return u
        frames = torch.arange(first + start, first + u.shape[1], device=u.device, dtype=torch.float64)
        distance = direction * self.velocity[:, None, None] * frames[:, None]
        parts = zip(u[:, start:].split(_ROWS), distance.split(_ROWS), strict=True)
        return torch.cat([u[:, :start], torch.cat([shift(*part) for part in parts])], dim=1)


@dataclass(frozen=True)
class Observed:
    """Trajectories as a model sees them.

    Attributes:
        fields: (B, T, C, X).
        offset: (B, C, 1): fields + offset are the physical fields in units of their deviation. Errors relative to a
            physical field need it.
    """

    fields: Tensor
    offset: Tensor

    def flat(self) -> tuple[Tensor, Tensor]:
        """Return all frames one by one, (B T, C, X), and the offset of each, (B T, C, 1)."""
        return self.fields.flatten(0, 1), self.offset.repeat_interleave(self.fields.shape[1], dim=0)


class ReferenceFrame:
    """The frame of reference in which a model sees fields.

    Args:
        name: "laboratory" or "comoving".
        metadata: of the fields.

    Raises:
        ParameterError: if the equation or the grid has no such symmetry.
    """

    def __init__(self, name: Frame, metadata: FieldMetadata) -> None:
        grid = metadata.grid
        if name == "comoving" and (metadata.equation != "burgers" or grid.rank != 1 or not all(grid.periodic)):
            raise ParameterError(
                f"a comoving frame needs Burgers' equation on one periodic axis, not '{metadata.equation}' with axes "
                f"periodic: {list(grid.periodic)}. Set latent.frame and train_baseline.frame to laboratory."
            )
        self.name, self.metadata = name, metadata

    def observer(self, initial: Tensor) -> Observer:
        """Return the observer of trajectories that start from `initial`, (B, C, X), physical."""
        normalizer = FieldNormalizer(self.metadata, initial.device)
        if self.name == "laboratory":
            return Observer(normalizer.mean.expand(len(initial), *normalizer.mean.shape), normalizer.std)
        mean = initial.double().mean(dim=-1, keepdim=True)
        per_step = self.metadata.dt / self.metadata.grid.extent[0]
        return Observer(mean.to(initial.dtype), normalizer.std, mean[:, 0, 0] * per_step)

    def observe(self, fields: Tensor) -> Observed:
        """See whole trajectories, (B, T, C, X), physical."""
        observer = self.observer(fields[:, 0])
        return Observed(observer.see(fields), observer.offset)


def shift(u: Tensor, distance: Tensor) -> Tensor:
    """Return u(x + distance), the trigonometric interpolant of a periodic field evaluated off the grid.

    Of the two waves that look alike on a grid of even length, the highest one is taken as a cosine: it is the only
    real interpolant without a preferred direction, and shifts by whole cells are then exact.

    Args:
        u: (..., X).
        distance: in domain lengths, float64: phases reach pi X, too far for float32. It broadcasts against u's (...).
    """
    points = u.shape[-1]
    wavenumber = torch.arange(points // 2 + 1, device=u.device, dtype=torch.float64)
    phase = 2 * math.pi * wavenumber * distance.double().remainder(1.0)[..., None]
    factor = torch.complex(phase.cos(), phase.sin())
    if points % 2 == 0:  # the CPU's transform drops the imaginary part by itself; no backend has to
        factor[..., -1] = factor[..., -1].real.to(factor.dtype)
    spectrum = torch.fft.rfft(u)
    return torch.fft.irfft(spectrum * factor.to(spectrum.dtype), n=points)
