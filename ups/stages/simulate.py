"""Stage `simulate`: make the default data, so that nothing has to be downloaded.

    python -m ups.stages.simulate        (or: dvc repro simulate)

Reads parameters only. Writes `artifacts/simulate/data.h5` in PDEBench's flat layout and measures its error against the
exact solution. When `data.path` names another file it simulates nothing and says so.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor

from ups.data.flat_layout import ATTRIBUTES, TENSOR, FlatWriter
from ups.data.initial_conditions import cell_centres, draw
from ups.data.progress import Progress
from ups.data.simulation import Simulation, relative_error
from ups.errors import DataError, ParameterError
from ups.parameters.section import Section
from ups.parameters.shared import DataLocation, Task
from ups.parameters.simulate import Simulate
from ups.stages.runner import ARTIFACTS, Inputs, main

NAME = "simulate"
INPUTS: dict[str, str] = {}
DATA = "data.h5"


class Params(Section):
    task: Task
    data: DataLocation
    simulate: Simulate


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    own = ARTIFACTS / NAME / DATA
    if Path(params.data.path).resolve() != own.resolve():
        reason = f"data.path is {params.data.path}, not {own}: that file is used as it is and nothing is simulated"
        print(f"{NAME}: skipped, {reason}.", file=sys.stderr)
        return {"status": "skipped", "reason": reason}
    simulation = _simulation(params)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        _write(params, simulation, outputs / DATA, device)
        error = _measure(params, simulation, outputs / DATA, device)
    except ValueError as problem:  # the solvers' own limits, which parameters decide
        raise ParameterError(f"simulate.{simulation.method}: {problem}") from problem
    by_frame = error.mean(dim=0)
    metrics = {
        "status": "done",
        "samples": params.simulate.samples,
        "method": params.simulate.method,
        "checked_samples": len(error),
        "error_nrmse": float(by_frame.mean()),
        "error_nrmse_max_over_frames": float(by_frame.max()),
        "error_nrmse_worst_sample_and_frame": float(error.max()),
    }
    worst = int(by_frame.argmax())
    print(
        f"{NAME}: {params.simulate.samples} trajectories of {params.task.name} ({simulation.method}). Error against "
        f"the exact solution, {len(error)} trajectories: {by_frame.max():.1e} nRMSE in the worst frame (t = "
        f"{float(simulation.times[worst]):g}), {by_frame.mean():.1e} on average.",
        file=sys.stderr,
    )
    if not by_frame.max() <= params.simulate.max_error:
        raise DataError(
            f"the simulated data are {by_frame.max():.2e} nRMSE from the exact solution at t = "
            f"{float(simulation.times[worst]):g}; simulate.max_error allows {params.simulate.max_error:.2e}. Raise "
            f"simulate.{'nodes' if simulation.method == 'exact' else 'refinement'} or use simulate.method: exact."
        )
    return metrics


def _simulation(params: Params) -> Simulation:
    task, section = params.task, params.simulate
    coefficient = task.coefficients[ATTRIBUTES[task.equation][1]]
    if task.equation == "advection" and section.method != "exact":
        raise ParameterError("simulate.method = 'finite_volume' solves Burgers' equation only; advection has 'exact'.")
    if task.equation == "burgers" and coefficient <= 0:
        raise ParameterError(
            f"task.coefficients.viscosity = {coefficient} must be positive: the exact solution, which the data are "
            "made or checked with, needs diffusion."
        )
    return Simulation(
        equation=task.equation,
        coefficient=coefficient,
        extent=task.domain_extent,
        times=torch.linspace(0.0, task.final_time, section.frames, dtype=torch.float64),
        points=section.points,
        method=section.method,
        nodes=section.nodes,
        refinement=section.refinement,
        courant=section.courant,
    )


def _write(params: Params, simulation: Simulation, path: Path, device: torch.device) -> None:
    section = params.simulate
    notes: dict[str, str | int | float] = {
        "equation": simulation.equation,
        "values": "point values at cell centres",
        "method": simulation.method,
        "seed": params.simulate.seed,
        "domain_extent": simulation.extent,
        "made_by": "ups.stages.simulate",
    }
    position = cell_centres(section.points, simulation.extent).numpy()
    with (
        FlatWriter(
            path,
            simulation.equation,
            simulation.coefficient,
            section.samples,
            position,
            simulation.times.numpy(),
            notes,
        ) as file,
        Progress(NAME, section.samples, "trajectories") as progress,
    ):
        for start in range(0, section.samples, section.batch_size):
            stop = min(start + section.batch_size, section.samples)
            initial = draw(params.simulate.seed, start, stop, simulation.extent).to(device)
            file.write(start, simulation.solve(initial).float().cpu().numpy())
            progress.update(stop - start)


def _measure(params: Params, simulation: Simulation, path: Path, device: torch.device) -> Tensor:
    """Return the nRMSE of stored values, (checked samples, T)."""
    generator = torch.Generator().manual_seed(params.simulate.seed)
    chosen = torch.randperm(params.simulate.samples, generator=generator)[: params.simulate.check_samples].sort().values
    initial = draw(params.simulate.seed, 0, params.simulate.samples, simulation.extent).select(chosen).to(device)
    with h5py.File(path, "r") as file:
        stored = torch.from_numpy(file[TENSOR][chosen.numpy()])
    return relative_error(stored.to(device), simulation.reference(initial)).cpu()


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
