"""What the stage `simulate` can make: for each equation, how samples are drawn, solved, and checked.

Shapes: B samples, T frames, C channels, *space the grid. Steady problems have one frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ups.data.darcy import draw_media, solve_darcy
from ups.data.diffusion_reaction import solve_diffusion_reaction, unit_range
from ups.data.fields import Grid
from ups.data.initial_conditions import InitialConditions, cell_centres, draw
from ups.data.navier_stokes import Flows, draw_flows, solve_navier_stokes
from ups.data.simulation import Method as LineMethod
from ups.data.simulation import Simulation
from ups.data.wave import Strings, draw_strings, propagate
from ups.errors import ParameterError
from ups.parameters.equations import EQUATIONS
from ups.parameters.shared import Task
from ups.parameters.simulate import Simulate


@dataclass(frozen=True)
class Problem:
    """One equation with its numbers on one grid.

    Attributes:
        grid: where values are stored.
        times: (T,), float64, beginning at 0.
        draw: (start, stop) -> what the samples start..stop-1 begin with; has `to(device)`.
        select: that, rows -> some of them.
        solve: what `draw` returned -> (B, T, C, *space), float64; frame 0 is the beginning itself.
        reference: the same, on another path or with smaller steps and cells: what stored data are checked against.
        against: what the reference is, in words.
        remedy: which parameter to change when stored data are too far from it.
    """

    grid: Grid
    times: Tensor
    draw: Callable[[int, int], Any]
    solve: Callable[[Any], Tensor]
    reference: Callable[[Any], Tensor]
    against: str
    remedy: str
    select: Callable[[Any, list[int]], Any] = lambda initial, rows: initial.select(rows)


def make_problem(task: Task, settings: Simulate) -> Problem:
    """Return the problem that a task of a single regime and the parameters of `simulate` describe.

    Raises:
        ParameterError: if the method does not solve the equation, or a coefficient has an impossible value.
    """
    if len(task.regimes) != 1:
        raise ValueError(f"a problem has one regime; this task has {len(task.regimes)}: take each of task.regimes")
    makers = _MAKERS[task.equation]
    if settings.method not in makers:
        raise ParameterError(
            f"simulate.method = '{settings.method}' does not solve '{task.equation}'; allowed: {', '.join(makers)}."
        )
    for coefficient in EQUATIONS[task.equation].coefficients:
        value = task.regimes[0][coefficient.name]
        if coefficient.positive and value <= 0:
            raise ParameterError(
                f"task.coefficients.{coefficient.name} = {value} must be positive to simulate '{task.equation}', or "
                "there is no exact solution to make or check the data with."
            )
    return makers[settings.method](task, settings)


def _grid(task: Task, settings: Simulate) -> Grid:
    equation = EQUATIONS[task.equation]
    return Grid(
        extent=(task.domain_extent,) * equation.rank,
        points=(settings.points,) * equation.rank,
        origin=(0.0,) * equation.rank,
        periodic=(equation.periodic,) * equation.rank,
    )


def _times(task: Task, settings: Simulate) -> Tensor:
    return torch.linspace(0.0, task.final_time, settings.frames, dtype=torch.float64)


def _on_a_line(task: Task, settings: Simulate) -> Problem:
    """Burgers' equation or advection: one field, exact solutions."""
    simulation = Simulation(
        equation=task.equation,
        coefficient=_number(task, 0),
        extent=task.domain_extent,
        times=_times(task, settings),
        points=settings.points,
        method=cast(LineMethod, settings.method),
        nodes=settings.nodes,
        refinement=settings.refinement,
        courant=settings.courant,
    )
    return Problem(
        grid=_grid(task, settings),
        times=simulation.times,
        draw=lambda start, stop: draw(settings.seed, start, stop, task.domain_extent),
        solve=lambda initial: simulation.solve(initial)[:, :, None],
        reference=lambda initial: simulation.reference(initial)[:, :, None],
        against="the exact solution",
        remedy=f"Raise simulate.{'nodes' if settings.method == 'exact' else 'refinement'}, or use simulate.method: "
        "exact.",
    )


def _wave(task: Task, settings: Simulate) -> Problem:
    times, centres, speed = _times(task, settings), cell_centres(settings.points, task.domain_extent), _number(task, 0)

    def propagated(strings: Strings) -> Tensor:
        """Carry the first frame on through its Fourier series: another path to the same solution."""
        u, v = strings.at(centres, times[:1], speed)[:, :1].unbind(2)
        return torch.stack(propagate(u, v, times.to(u)[:, None].T, u.new_tensor(speed), task.domain_extent), dim=2)

    return Problem(
        grid=_grid(task, settings),
        times=times,
        draw=lambda start, stop: draw_strings(settings.seed, start, stop, task.domain_extent),
        solve=lambda strings: strings.at(centres, times, speed),
        reference=propagated,
        against="the Fourier series of the first frame",
        remedy="Raise simulate.points: the grid does not resolve the waves.",
    )


def _diffusion_reaction(task: Task, settings: Simulate) -> Problem:
    times = _times(task, settings)
    diffusivity, rate = _number(task, 0), _number(task, 1)

    def solve(initial: InitialConditions, refinement: int, substeps: int) -> Tensor:
        fine = _refined(settings.points, refinement, task.domain_extent).to(initial.phase.device)
        values = initial(fine)
        # Minimum and maximum of the stored points, so that all refinements start from one field.
        start = unit_range(values, values[:, ::refinement])
        solution = solve_diffusion_reaction(start, diffusivity, rate, times, task.domain_extent, substeps)
        return solution[:, :, None, ::refinement]

    def extrapolated(initial: InitialConditions) -> Tensor:
        refinement, substeps = 2 * settings.refinement, settings.substeps
        coarse, fine = (solve(initial, refinement, count) for count in (substeps, 2 * substeps))
        return fine + (fine - coarse) / 3  # the splitting's error is even in dt: what is left is of order 4

    return Problem(
        grid=_grid(task, settings),
        times=times,
        draw=lambda start, stop: draw(settings.seed, start, stop, task.domain_extent),
        solve=lambda initial: solve(initial, settings.refinement, settings.substeps),
        reference=extrapolated,
        against="twice the cells and steps, extrapolated",
        remedy="Raise simulate.substeps or simulate.refinement.",
    )


def _navier_stokes(task: Task, settings: Simulate) -> Problem:
    times, viscosity = _times(task, settings), _number(task, 0)

    def solve(flows: Flows, refinement: int, substeps: int) -> Tensor:
        fine = _refined(settings.points, refinement, task.domain_extent)
        solution = solve_navier_stokes(flows(fine, fine), viscosity, times, task.domain_extent, substeps)
        return solution[:, :, None, ::refinement, ::refinement]

    return Problem(
        grid=_grid(task, settings),
        times=times,
        draw=lambda start, stop: draw_flows(settings.seed, start, stop, task.domain_extent),
        solve=lambda flows: solve(flows, settings.refinement, settings.substeps),
        reference=lambda flows: solve(flows, 2 * settings.refinement, 2 * settings.substeps),
        against="twice the points along each axis and half the step",
        remedy="Raise simulate.refinement or simulate.substeps.",
    )


def _darcy(task: Task, settings: Simulate) -> Problem:
    force, extent = _number(task, 0), task.domain_extent

    def solve(media: Tensor, refinement: int) -> Tensor:
        fine = media.cpu().repeat_interleave(refinement, 1).repeat_interleave(refinement, 2).numpy()
        solved = np.stack([solve_darcy(medium, force, extent) for medium in fine])
        # The mean over the parts of a cell is what its centre has, to second order.
        u = torch.from_numpy(solved).unflatten(1, (-1, refinement)).unflatten(3, (-1, refinement)).mean((2, 4))
        return torch.stack([media, u.to(media.device)], dim=1)[:, None]

    return Problem(
        grid=_grid(task, settings),
        times=torch.zeros(1, dtype=torch.float64),
        draw=lambda start, stop: draw_media(settings.seed, start, stop, settings.points, extent),
        solve=lambda media: solve(media, settings.refinement),
        reference=lambda media: solve(media, 2 * settings.refinement),
        against="the same medium on twice the cells along each axis",
        remedy="Raise simulate.refinement.",
        select=lambda media, rows: media[rows],
    )


def _refined(points: int, refinement: int, extent: float) -> Tensor:
    """Return `refinement` positions for each stored one, beginning at the first cell centre: every n-th is stored."""
    first = 0.5 * extent / points
    return first + torch.arange(points * refinement, dtype=torch.float64) * (extent / (points * refinement))


def _number(task: Task, at: int) -> float:
    return task.regimes[0][EQUATIONS[task.equation].coefficient_names[at]]


_MAKERS: dict[str, dict[str, Callable[[Task, Simulate], Problem]]] = {
    "burgers": {"exact": _on_a_line, "finite_volume": _on_a_line},
    "advection": {"exact": _on_a_line},
    "diffusion_reaction": {"splitting": _diffusion_reaction},
    "wave": {"exact": _wave},
    "darcy": {"finite_volume": _darcy},
    "navier_stokes": {"spectral": _navier_stokes},
}
