"""Stage `simulate`: make the data of a task, so that nothing has to be downloaded.

    python -m ups.stages.simulate        (or: dvc repro simulate)

Reads parameters only. Writes `artifacts/simulate/data.h5` in the layout of PDEBench that suits the equation, and
measures its error against the exact solution or, where there is none, against a finer solution. When `data.path` names
another file it simulates nothing and says so.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ups.data.problems import Problem, make_problem
from ups.data.progress import Progress
from ups.data.readers import open_source
from ups.data.simulation import relative_error
from ups.data.writers import create
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
    problem = make_problem(params.task, params.simulate)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        _write(params, problem, outputs / DATA, device)
        error = _measure(params, problem, outputs / DATA, device)
    except ValueError as wrong:  # the solvers' own limits, which parameters decide
        raise ParameterError(f"simulate.{params.simulate.method}: {wrong}") from wrong
    by_frame = error.mean(dim=0)
    worst = int(by_frame.argmax())
    metrics = {
        "status": "done",
        "samples": params.simulate.samples,
        "method": params.simulate.method,
        "checked_against": problem.against,
        "checked_samples": len(error),
        "error_nrmse": float(by_frame.mean()),
        "error_nrmse_max_over_frames": float(by_frame.max()),
        "error_nrmse_worst_sample_and_frame": float(error.max()),
    }
    print(
        f"{NAME}: {params.simulate.samples} trajectories of {params.task.name} ({params.simulate.method}). Error "
        f"against {problem.against}, {len(error)} trajectories: {by_frame.max():.1e} nRMSE in the worst frame (t = "
        f"{float(problem.times[worst]):g}), {by_frame.mean():.1e} on average.",
        file=sys.stderr,
    )
    if not by_frame.max() <= params.simulate.max_error:
        raise DataError(
            f"the simulated data are {by_frame.max():.2e} nRMSE from {problem.against} at t = "
            f"{float(problem.times[worst]):g}; simulate.max_error allows {params.simulate.max_error:.2e}. "
            f"{problem.remedy}"
        )
    return metrics


def _write(params: Params, problem: Problem, path: Path, device: torch.device) -> None:
    task, section = params.task, params.simulate
    notes: dict[str, str | int | float] = {
        "equation": task.equation,
        "values": "point values at cell centres",
        "method": section.method,
        "seed": section.seed,
        "domain_extent": task.domain_extent,
        "made_by": "ups.stages.simulate",
    }
    with (
        create(
            path, task.equation, task.coefficients, section.samples, problem.grid, problem.times.numpy(), notes
        ) as file,
        Progress(NAME, section.samples, "trajectories") as progress,
    ):
        for start in range(0, section.samples, section.batch_size):
            stop = min(start + section.batch_size, section.samples)
            initial = problem.draw(start, stop).to(device)
            file.write(start, problem.solve(initial).float().cpu().numpy())
            progress.update(stop - start)


def _measure(params: Params, problem: Problem, path: Path, device: torch.device) -> Tensor:
    """Return the nRMSE of stored values, (checked samples, T): of the worst field where there are several."""
    section = params.simulate
    generator = torch.Generator().manual_seed(section.seed)
    chosen = torch.randperm(section.samples, generator=generator)[: section.check_samples].sort().values.tolist()
    with open_source(path) as source:
        stored = np.concatenate([block for row in chosen for block in source.chunks(row, row + 1)])
    initial = problem.select(problem.draw(0, section.samples), chosen).to(device)
    exact = problem.reference(initial)
    return relative_error(torch.from_numpy(stored).to(device).flatten(3), exact.flatten(3)).amax(dim=2).cpu()


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
