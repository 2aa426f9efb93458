"""Symmetries of the equation as augmentation: every training sample is moved by one that is drawn for it alone.

A model of tokens commutes with shifts by whole tokens by construction. Shifts by fewer points and reflections it has to
learn, and a few hundred trajectories show it few of either.

Shapes: S samples, T frames, C field channels, X grid points.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.errors import ParameterError
from ups.parameters.shared import Frame
from ups.parameters.train_operator import Symmetry


def check(symmetries: Sequence[Symmetry], metadata: FieldMetadata) -> None:
    """Refuse a symmetry that the equation on this grid does not have.

    Raises:
        ParameterError: naming it.
    """
    grid = metadata.grid
    if symmetries and (grid.rank != 1 or not all(grid.periodic)):
        raise ParameterError(
            f"train_operator.symmetries = {list(symmetries)} need one periodic axis; this grid has {grid.rank} axes, "
            f"periodic: {list(grid.periodic)}. Set it to []."
        )
    if "reflection" in symmetries and metadata.equation != "burgers":
        raise ParameterError(
            f"train_operator.symmetries: 'reflection' maps u(x) to -u(-x), which solves Burgers' equation but not "
            f"'{metadata.equation}'. Leave it out."
        )


def transform(
    fields: Tensor, offset: Tensor, frame: Frame, symmetries: Sequence[Symmetry], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Move each sample's frames by one drawn symmetry: u(x) -> u(x - k dx), and u(x) -> -u(-x) for half of them.

    Args:
        fields: as the model sees them, (S, T, C, X).
        offset: fields + offset are the physical fields, (S, 1, C, 1).
        frame: of reference; the offset is each trajectory's own mean in the comoving one, a constant in the other.
        symmetries: which to draw from.
        generator: of the draws.

    Returns:
        Both, moved.
    """
    samples, points = len(fields), fields.shape[-1]
    index = torch.arange(points, device=fields.device).expand(samples, -1)
    sign = torch.ones(samples, 1, 1, 1, device=fields.device)
    if "shift" in symmetries:
        index = index + torch.randint(points, (samples, 1), generator=generator, device=fields.device)
    if "reflection" in symmetries:
        mirrored = torch.rand(samples, 1, generator=generator, device=fields.device) < 0.5
        index = torch.where(mirrored, -1 - index, index)  # cell centres onto cell centres
        sign = torch.where(mirrored[..., None, None], -sign, sign)
    moved = fields.gather(-1, index.remainder(points)[:, None, None].expand_as(fields))
    if frame == "comoving":
        return sign * moved, sign * offset
    return sign * (moved + offset) - offset, offset
