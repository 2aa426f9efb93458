"""Who looks at a field: an observer at rest, or one who moves with the mean flow.

Burgers' equation is Galilean invariant: for any speed c, v(x, t) = u(x + c t, t) - c solves the same equation. A model
that works on v, with c near the mean of u, need not learn drifts of every speed. c is the speed nearest to the mean
that crosses whole grid cells in a time step: fields are then shifted without interpolation, which would ring around
fronts narrower than a cell (docs/log.md).

Shapes: B trajectories, T stored frames, C field channels, X grid points; at rest the grid may have any rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.data.normalization import FieldNormalizer
from ups.errors import ParameterError
from ups.parameters.shared import Frame


@dataclass(frozen=True)
class Observer:
    """Maps physical fields to what a model sees, and back.

    At rest: (u - mean) / std with the statistics of the training split. Comoving: (u(x + c t) - c) / std, with c of
    each trajectory.

    Attributes:
        level: (B, C, 1), what is subtracted.
        scale: (C, 1), what is divided by.
        cells: (B,), int64, by how many grid cells the observer moves in a stored time step; None at rest.
    """

    level: Tensor
    scale: Tensor
    cells: Tensor | None = None

    @property
    def offset(self) -> Tensor:
        """(B, C, 1); seen + offset is the field in units of `scale`, with nothing subtracted."""
        return self.level / self.scale

    def see(self, u: Tensor) -> Tensor:
        """Physical trajectories from time 0 on, (B, T, C, X), to what the model sees."""
        return (self._moved(u, 0, 1) - self.level[:, None]) / self.scale

    def restore(self, seen: Tensor, first: int) -> Tensor:
        """What the model sees, (B, T, C, X), frame `first` being the first of them, to physical fields."""
        return self._moved(seen, first, -1) * self.scale + self.level[:, None]

    def rows(self, index: Tensor) -> Observer:
        """Return the observer of trajectories `index`."""
        return Observer(self.level[index], self.scale, None if self.cells is None else self.cells[index])

    def _moved(self, u: Tensor, first: int, direction: int) -> Tensor:
        if self.cells is None:
            return u
        frames = torch.arange(first, first + u.shape[1], device=u.device)
        distance = direction * self.cells[:, None] * frames  # (B, T)
        index = (torch.arange(u.shape[-1], device=u.device) + distance[..., None]) % u.shape[-1]
        return u.gather(-1, index[:, :, None].expand_as(u))


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
        cell = self.metadata.grid.spacing[0] / self.metadata.dt  # the speed of one cell per step
        cells = (initial.double().mean(dim=-1, keepdim=True) / cell).round()
        return Observer((cells * cell).to(initial.dtype), normalizer.std, cells[:, 0, 0].long())

    def observe(self, fields: Tensor) -> Observed:
        """See whole trajectories, (B, T, C, X), physical."""
        observer = self.observer(fields[:, 0])
        return Observed(observer.see(fields), observer.offset)
