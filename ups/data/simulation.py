"""Trajectories of the built-in one-dimensional problems, and how far they are from the exact solution.

Shapes: B trajectories, T frames, X points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ups.data.advection import advect
from ups.data.burgers import evolve_averages
from ups.data.cells import values_at_coarse_centres
from ups.data.cole_hopf import cole_hopf
from ups.data.initial_conditions import InitialConditions, cell_centres

Method = Literal["exact", "finite_volume"]


@dataclass(frozen=True)
class Simulation:
    """One problem on one grid.

    Attributes:
        equation: "burgers" or "advection".
        coefficient: viscosity nu (the diffusivity is nu/pi) or wave speed beta.
        extent: length of the periodic domain.
        times: (T,), float64, beginning at 0.
        points: stored points X, at cell centres.
        method: "exact" (Cole-Hopf; shift of the initial condition) or "finite_volume" (Burgers only).
        nodes: quadrature nodes per period of the Cole-Hopf integral.
        refinement: finite-volume cells per stored point.
        courant: Courant number of the finite-volume scheme.
    """

    equation: str
    coefficient: float
    extent: float
    times: Tensor
    points: int
    method: Method = "exact"
    nodes: int = 2048
    refinement: int = 4
    courant: float = 0.8

    def solve(self, initial: InitialConditions) -> Tensor:
        """Return point values at the cell centres, (B, T, X), float64, on the device of `initial`.

        Frame 0 is the initial condition itself at the cell centres, whatever the method.
        """
        if self.method == "exact":
            return self.exact(initial, self.nodes)
        averages = initial.cell_averages(self.points * self.refinement)
        evolution = evolve_averages(averages, self.coefficient, self.times, self.extent, self.courant)
        frames = [values_at_coarse_centres(state, self.refinement) for state in evolution]
        frames[0] = initial(self._position(initial))
        return torch.stack(frames, dim=1)

    def exact(self, initial: InitialConditions, nodes: int, log_space: bool = False) -> Tensor:
        """Return the exact solution at the cell centres, (B, T, X), float64."""
        position = self._position(initial)
        if self.equation == "advection":
            return advect(initial, position, self.times, self.coefficient)
        return cole_hopf(initial, position, self.times, self.coefficient, self.extent, nodes, log_space)

    def reference(self, initial: InitialConditions) -> Tensor:
        """Return what stored data are checked against, (B, T, X).

        For Burgers: Cole-Hopf with twice the nodes and every sum in log space, another path than `solve` takes.
        """
        return self.exact(initial, 2 * self.nodes, log_space=True)

    def _position(self, initial: InitialConditions) -> Tensor:
        return cell_centres(self.points, self.extent).to(initial.phase.device)


def relative_error(fields: Tensor, exact: Tensor) -> Tensor:
    """Return rms(fields - exact) / rms(exact) over the last axis."""
    difference = (fields.to(exact) - exact).square().mean(dim=-1)
    return (difference / exact.square().mean(dim=-1)).sqrt()
