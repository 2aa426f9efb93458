"""The classical competitor for Darcy: finite volumes and a sparse direct solve, on as many cells as is worth it.

`finite_volume_<cells>` brings the medium to `cells` cells along each axis, solves there with `ups.data.darcy`, and
brings the solution back to the grid's points. On coarser cells a is the geometric mean of the points in a cell, which
is the exact effective value of a two-dimensional medium whose two phases are alike but for their value (Dykhne 1971,
Sov. Phys. JETP 32:63); u is interpolated linearly, and continued as an odd function through the walls, where it is 0.
On finer cells every point becomes a square of cells and u is their mean, as `simulate` makes its data: with as many
cells as `simulate` took, this is the truth itself.

The solver runs on one core, one sample after the other, in float64.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ups.data.darcy import solve_darcy
from ups.data.fields import FieldMetadata


class DirectSolve:
    """Solver on a given number of cells along each axis; see the module's header.

    Args:
        cells: a divisor or a multiple of the grid's points along each axis.
        metadata: those of a Darcy data set.

    Raises:
        ValueError: if the equation is another one, or the cells do not fit the points.
    """

    def __init__(self, cells: int, metadata: FieldMetadata) -> None:
        if not applicable(metadata):
            raise ValueError(f"the direct solve is for Darcy flow, not for '{metadata.equation}'")
        if not fits(cells, metadata):
            raise ValueError(f"{cells} cells neither divide {metadata.grid.points} points nor are a multiple of them")
        self.cells, self.metadata = cells, metadata
        self._force_at = metadata.coefficients.index("force")

    def __call__(self, given: Tensor, coefficients: Tensor) -> Tensor:
        """Solve all samples: a, (B, 1, X, Y), and coefficients (B, P) -> u, (B, 1, X, Y), physical."""
        points, extent = self.metadata.grid.points, self.metadata.grid.extent
        media = self._coarsened(given.double().cpu())[:, 0].numpy()
        forces = coefficients[:, self._force_at].double().cpu().tolist()
        sides = (extent[0], extent[1])
        solved = [solve_darcy(medium, force, sides) for medium, force in zip(media, forces, strict=True)]
        u = torch.from_numpy(np.stack(solved))[:, None]
        return brought_to(u, points).to(given)

    def _coarsened(self, media: Tensor) -> Tensor:
        for axis, points in enumerate(self.metadata.grid.points, start=2):
            if self.cells < points:
                media = media.unflatten(axis, (self.cells, -1)).log().mean(axis + 1).exp()
            else:
                media = media.repeat_interleave(self.cells // points, axis)
        return media


def brought_to(u: Tensor, points: tuple[int, ...]) -> Tensor:
    """Bring cell values of a field that is 0 on its boundary, (B, 1, X, Y), to other cells, (B, 1, *points)."""
    for axis, count in enumerate(points, start=2):
        if u.shape[axis] >= count:
            u = u.unflatten(axis, (count, -1)).mean(axis + 1)
        else:
            u = _interpolated(u.movedim(axis, -1), count).movedim(-1, axis)
    return u


def _interpolated(u: Tensor, count: int) -> Tensor:
    """Interpolate linearly along the last axis, with mirror images of opposite sign beyond both walls."""
    padded = torch.cat([-u[..., :1], u, -u[..., -1:]], dim=-1)
    ratio = count // u.shape[-1]
    flat = F.interpolate(padded.flatten(0, -2)[:, None], scale_factor=ratio, mode="linear", align_corners=False)
    return flat[:, 0, ratio:-ratio].unflatten(0, u.shape[:-1])


def applicable(metadata: FieldMetadata) -> bool:
    """Return whether the equation is one that the solver solves."""
    return metadata.equation == "darcy" and metadata.grid.rank == 2


def fits(cells: int, metadata: FieldMetadata) -> bool:
    """Return whether fields can be brought to `cells` cells along each axis and back."""
    return all(points % cells == 0 or cells % points == 0 for points in metadata.grid.points)
