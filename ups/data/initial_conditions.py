"""Initial conditions of PDEBench's one-dimensional data sets, as functions that can be put on any grid.

    u0(x) = s * w(x) * r( sum_{j=1..4} A_j sin(2 pi k_j x / L + phi_j) )

with A_j ~ U(0, 1), phi_j ~ U(0, 2 pi), a random sign s, r = |.| with probability 0.1 and otherwise the identity, and
w a smooth window with probability 0.1 and otherwise 1. Shapes: B samples, X points, S = 4 slots.

Source: Takamoto et al., "PDEBench", 2022, arXiv:2210.07182, appendix D, and the law that its generator really applies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

SLOTS = 4  # slot j carries the wavenumber j, or 0
DRAWS = 2  # wavenumbers drawn per sample, with replacement
RECTIFY_PROBABILITY = 0.1
WINDOW_PROBABILITY = 0.1
WINDOW_WIDTH = 0.01  # width of the window's tanh flanks, in domain lengths
LEFT_EDGE = (0.1, 0.45)  # bounds of the window's left edge, in domain lengths
RIGHT_EDGE = (0.55, 0.9)

# One row of uniform numbers per sample, in this order: wavenumbers, amplitudes, phases, rectify, sign, window, edges.
_UNIFORMS = DRAWS + 2 * SLOTS + 5


@dataclass(frozen=True)
class InitialConditions:
    """A batch of initial conditions, callable at any positions.

    Attributes:
        wavenumber: (B, S), float64, whole numbers 0..8; 0 makes the slot a constant.
        amplitude: (B, S), float64.
        phase: (B, S), radians.
        rectified: (B,), bool, whether the absolute value is taken.
        sign: (B,), +1 or -1.
        windowed: (B,), bool.
        left, right: (B,), edges of the window in domain lengths (drawn for every sample, used where `windowed`).
        extent: length L of the periodic domain.
    """

    wavenumber: Tensor
    amplitude: Tensor
    phase: Tensor
    rectified: Tensor
    sign: Tensor
    windowed: Tensor
    left: Tensor
    right: Tensor
    extent: float = 1.0

    def __len__(self) -> int:
        return self.wavenumber.shape[0]

    def __call__(self, position: Tensor) -> Tensor:
        """Evaluate every sample.

        Args:
            position: (X,) positions shared by all samples, or (B, X); any real number, the functions are periodic.

        Returns:
            (B, X), float64.
        """
        place = torch.remainder(position.to(self.phase) / self.extent, 1.0)
        place = place.expand(len(self), place.shape[-1])
        total = torch.zeros_like(place)
        for slot in range(SLOTS):
            angle = 2 * math.pi * self.wavenumber[:, slot, None] * place + self.phase[:, slot, None]
            total += self.amplitude[:, slot, None] * torch.sin(angle)
        total = torch.where(self.rectified[:, None], total.abs(), total) * self.sign[:, None]
        if bool(self.windowed.any()):
            rows = self.windowed.nonzero().squeeze(1)
            total[rows] *= _window(place[rows], self.left[rows, None], self.right[rows, None])
        return total

    def cell_averages(self, cells: int) -> Tensor:
        """Return averages over `cells` equal cells, (B, cells), by 4-point Gauss-Legendre quadrature per cell.

        The error is O(dx^8) where the function is smooth, O(dx) in the cells with the kinks of a rectified sample.
        """
        dx = self.extent / cells
        centres = (torch.arange(cells, dtype=torch.float64, device=self.phase.device) + 0.5) * dx
        nodes = ((0.8611363115940526, 0.34785484513745385), (0.3399810435848563, 0.6521451548625461))
        total = torch.zeros(len(self), cells, dtype=torch.float64, device=self.phase.device)
        for node, weight in nodes:
            for side in (-1.0, 1.0):
                total += 0.5 * weight * self(centres + side * node * dx / 2)
        return total

    def select(self, rows: slice | Tensor | list[int]) -> InitialConditions:
        """Return some of the samples."""
        return self._map(lambda tensor: tensor[rows])

    def to(self, device: torch.device | str) -> InitialConditions:
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function) -> InitialConditions:  # type: ignore[no-untyped-def]
        tensors = {f.name: function(getattr(self, f.name)) for f in fields(self) if f.name != "extent"}
        return InitialConditions(**tensors, extent=self.extent)


def draw(seed: int, start: int, stop: int, extent: float = 1.0) -> InitialConditions:
    """Draw the samples start..stop-1 of the endless sequence that belongs to `seed`.

    Sample i depends on `seed` and i alone: not on how many others are drawn, nor in which batches.

    Args:
        seed: seed of the sequence.
        start, stop: range of sample indices.
        extent: length of the periodic domain.

    Returns:
        stop - start initial conditions on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    # Row i of a row-major draw needs only the numbers before it, so a longer draw begins with a shorter one. Drawing
    # the rows before `start` and dropping them costs 3 ms per 10,000 samples. The dropped row keeps size >= 16.
    uniform = torch.rand(stop + 1, _UNIFORMS, generator=generator, dtype=torch.float64)[start:stop]
    drawn, amplitude, phase, rest = uniform.split([DRAWS, SLOTS, SLOTS, 5], dim=1)
    # PDEBench sums one-hot vectors of the drawn slots and multiplies the slot numbers 1..4 by that sum: a slot drawn
    # once carries its own number, a slot drawn twice carries *twice* its number, and one not drawn carries 0, where
    # A sin(phi) is a constant: this is where the mean flow comes from. We follow that law as it is. Its generator
    # also reuses random keys, which ties the sign and |.| to the phases; here every draw is independent.
    slot = (drawn * SLOTS).long()
    counts = torch.nn.functional.one_hot(slot, SLOTS).sum(dim=1)
    return InitialConditions(
        wavenumber=(counts * torch.arange(1, SLOTS + 1)).double(),
        amplitude=amplitude,
        phase=2 * math.pi * phase,
        rectified=rest[:, 0] < RECTIFY_PROBABILITY,
        sign=torch.where(rest[:, 1] < 0.5, 1.0, -1.0).double(),
        windowed=rest[:, 2] < WINDOW_PROBABILITY,
        left=LEFT_EDGE[0] + (LEFT_EDGE[1] - LEFT_EDGE[0]) * rest[:, 3],
        right=RIGHT_EDGE[0] + (RIGHT_EDGE[1] - RIGHT_EDGE[0]) * rest[:, 4],
        extent=extent,
    )


def cell_centres(points: int, extent: float = 1.0) -> Tensor:
    """Return x_i = (i + 1/2) extent / points, shape (points,), float64."""
    return (torch.arange(points, dtype=torch.float64) + 0.5) * (extent / points)


def _window(place: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return the window at places in [0, 1); its periodic images make it exactly periodic.

    PDEBench has the middle term alone and jumps by up to 4e-9 at the boundary (tanh at 10 widths).
    """
    images = [
        torch.tanh((place - left - shift) / WINDOW_WIDTH) - torch.tanh((place - right - shift) / WINDOW_WIDTH)
        for shift in (-1.0, 0.0, 1.0)
    ]
    return 0.5 * (images[0] + images[1] + images[2])
