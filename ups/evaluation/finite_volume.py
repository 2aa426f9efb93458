"""The classical competitor for Burgers: finite volumes on as many cells as the comparison calls for.

`finite_volume_<cells>` starts from the last given frame: its point values become averages on `cells` cells
(conservatively coarsened, or refined by a quartic), the solver of `ups.data.burgers` runs in float32 over the whole
batch, and every stored frame is brought back to the points (a quartic where the cells are coarser). Time steps are as
long as the scheme allows without losing accuracy. Where a C++ compiler is at hand the time step is compiled, five times
faster than plain torch on a CPU core (64 trajectories, 128 cells): a slow competitor would flatter the surrogate.

Two solvers are worth comparing with, both chosen on validation:
* *equal cost*: the most cells whose time per trajectory does not exceed the surrogate's;
* *equal error*: the cheapest one whose error does not exceed the surrogate's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ups.data.burgers import solve_burgers
from ups.data.fields import FieldMetadata
from ups.evaluation.protocols import Forecaster

# At 1.0 the error on 64..256 cells (nu = 0.01) is within 1 % of that at 0.8, for four fifths of the time; at 1.2 it
# grows by 40 % on 128 cells.
COURANT = 1.0


class FiniteVolume:
    """Forecaster on a given number of cells; see the module's header.

    Args:
        cells: a divisor or a multiple of the grid's points.
        metadata: those of a 1-D periodic Burgers data set.
        compile: pass the time step through `torch.compile`, once per batch shape; smaller batches are then padded.

    Raises:
        ValueError: if the metadata describe something else, or the cells do not fit the points.
    """

    def __init__(self, cells: int, metadata: FieldMetadata, compile: bool = False) -> None:
        if not applicable(metadata):
            raise ValueError(f"finite volumes solve 1-D periodic Burgers, not '{metadata.equation}'")
        if not fits(cells, metadata):
            raise ValueError(
                f"{cells} cells neither divide {metadata.grid.points[0]} points nor are a multiple of them"
            )
        self.cells = cells
        self.compile = compile
        self._dt = metadata.dt
        self._extent = metadata.grid.extent[0]
        self._viscosity_at = metadata.coefficients.index("viscosity")
        self._rows = 0

    def __call__(self, given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
        viscosity = coefficients[:, self._viscosity_at]
        regimes = viscosity.unique()
        if len(regimes) == 1:
            return self._solve(given, num_steps, viscosity)
        # Diffusion limits the time step, and a batch takes as many steps as its most viscous trajectory: each regime
        # apart costs what it costs by itself.
        result = given.new_empty(given.shape[0], num_steps, *given.shape[2:])
        for value in regimes:
            rows = viscosity == value
            result[rows] = self._solve(given[rows], num_steps, viscosity[rows])
        return result

    def _solve(self, given: Tensor, num_steps: int, viscosity: Tensor) -> Tensor:
        state = given[:, -1, 0]
        rows = state.shape[0]
        self._rows = max(self._rows, rows)
        if self.compile and rows < self._rows:
            # A new shape would be compiled anew; copies of the last trajectory cost less than that.
            missing = self._rows - rows
            state = torch.cat([state, state[-1:].expand(missing, -1)])
            viscosity = torch.cat([viscosity, viscosity[-1:].expand(missing)])
        times = [self._dt * step for step in range(num_steps + 1)]
        frames = solve_burgers(
            state.contiguous(), viscosity, times, self._extent, cells=self.cells, courant=COURANT, compile=self.compile
        )
        return frames[:rows, 1:, None]


def applicable(metadata: FieldMetadata) -> bool:
    """Return whether the equation is one that the solver solves."""
    grid = metadata.grid
    known = metadata.equation == "burgers" and len(metadata.channels) == 1
    return known and grid.rank == 1 and all(grid.periodic) and "viscosity" in metadata.coefficients


def fits(cells: int, metadata: FieldMetadata) -> bool:
    """Return whether fields can be brought to `cells` cells and back."""
    points = metadata.grid.points[0]
    return points % cells == 0 or cells % points == 0


def compiler_available() -> bool:
    """Return whether `torch.compile` finds a C++ compiler for the CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


@dataclass(frozen=True)
class Candidate:
    """A solver tried on validation.

    Attributes:
        cells: number of cells.
        seconds_per_trajectory: wall time, batched as the surrogate.
        nrmse: mean over frames and trajectories; None if it diverged.
    """

    cells: int
    seconds_per_trajectory: float
    nrmse: float | None


def try_candidates(
    cells: Sequence[int],
    measure: Callable[[int], Candidate],
    surrogate_seconds: float,
    surrogate_nrmse: float | None,
    max_seconds: float,
) -> list[Candidate]:
    """Measure candidates from coarse to fine, as far as they can matter.

    Stops after one that is both slower and at least as accurate as the surrogate: finer ones are slower still, so they
    are neither of equal cost nor the cheapest of equal error. Also stops where the next one is expected to exceed
    `max_seconds` per trajectory (cost grows at most with the third power of the cells: space times diffusive steps).

    Args:
        cells: rising numbers of cells.
        measure: runs one candidate on validation.
        surrogate_seconds, surrogate_nrmse: what they compete with, on the same data; nrmse None if it diverged.
        max_seconds: most seconds per trajectory worth waiting for.
    """
    tried: list[Candidate] = []
    for count in cells:
        if tried and tried[-1].seconds_per_trajectory * (count / tried[-1].cells) ** 3 > max_seconds:
            break
        tried.append(measure(count))
        slower = tried[-1].seconds_per_trajectory > surrogate_seconds
        if slower and _reaches(tried[-1], surrogate_nrmse):
            break
    return tried


def choose(candidates: Sequence[Candidate], surrogate_seconds: float, surrogate_nrmse: float | None) -> dict[str, Any]:
    """Pick the solvers of equal cost and of equal error.

    Returns:
        `equal_cost` and `equal_error`, each the chosen candidate's numbers, or {"cells": None} where none qualifies
        (each is too expensive, or none is accurate enough); and `shown`, the cells to put on the test split: the chosen
        ones, in place of a missing one the cheapest or the most accurate that was tried.
    """
    affordable = [entry for entry in candidates if entry.seconds_per_trajectory <= surrogate_seconds]
    accurate = [entry for entry in candidates if _reaches(entry, surrogate_nrmse)]
    equal_cost = max(affordable, key=lambda entry: entry.cells, default=None)
    equal_error = min(accurate, key=lambda entry: entry.seconds_per_trajectory, default=None)
    shown = []
    if candidates:
        scored = [entry for entry in candidates if entry.nrmse is not None] or list(candidates)
        shown = [
            (equal_cost or min(candidates, key=lambda entry: entry.seconds_per_trajectory)).cells,
            (equal_error or min(scored, key=lambda entry: entry.nrmse or 0.0)).cells,
        ]
    return {
        "equal_cost": asdict(equal_cost) if equal_cost else {"cells": None},
        "equal_error": asdict(equal_error) if equal_error else {"cells": None},
        "shown": sorted(set(shown)),
    }


def _reaches(candidate: Candidate, nrmse: float | None) -> bool:
    """Whether the candidate is at least as accurate; a surrogate that diverged is matched by any that did not."""
    return candidate.nrmse is not None and (nrmse is None or candidate.nrmse <= nrmse)


def forecaster(cells: int, metadata: FieldMetadata, compile: bool) -> Forecaster:
    """Return `finite_volume_<cells>`; it compiles only where that is asked for and possible."""
    return FiniteVolume(cells, metadata, compile and compiler_available())
