"""Stage `simulate`: make the data of a task, so that nothing has to be downloaded.

    python -m ups.stages.simulate        (or: dvc repro simulate)

Reads parameters only. Writes `artifacts/simulate/data.h5` in the layout of PDEBench that suits the equation, and
measures its error against the exact solution or, where there is none, against a finer solution. When `data.path` names
another file it simulates nothing and says so.

A task of R regimes begins with the same fields in each: trajectory i R + r is initial condition i in regime r.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ups.data.flat_layout import Number
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
    problems = [make_problem(params.task.at(regime), params.simulate) for regime in params.task.regimes]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        _write(params, problems, outputs / DATA, device)
        errors = _measure(params, problems, outputs / DATA, device)
    except ValueError as wrong:  # the solvers' own limits, which parameters decide
        raise ParameterError(f"simulate.{params.simulate.method}: {wrong}") from wrong
    by_regime = errors.mean(dim=1)  # (R, T)
    regime, frame = divmod(int(by_regime.argmax()), by_regime.shape[1])
    problem, by_frame = problems[regime], by_regime[regime]
    checked = len(problems) * errors.shape[1]
    metrics = {
        "status": "done",
        "samples": params.simulate.samples * len(problems),
        "method": params.simulate.method,
        "checked_against": problem.against,
        "checked_samples": checked,
        "error_nrmse": float(by_regime.mean()),
        "error_nrmse_max_over_frames": float(by_frame.max()),
        "error_nrmse_worst_sample_and_frame": float(errors.max()),
    }
    where = ""
    if len(problems) > 1:
        names = [", ".join(f"{name}={value:g}" for name, value in each.items()) for each in params.task.regimes]
        metrics["error_nrmse_by_regime"] = dict(zip(names, by_regime.amax(1).tolist(), strict=True))
        where = f" at {names[regime]}"
    print(
        f"{NAME}: {metrics['samples']} trajectories of {params.task.name} ({params.simulate.method}). Error "
        f"against {problem.against}, {checked} trajectories: {by_frame.max():.1e} nRMSE in the worst frame (t = "
        f"{float(problem.times[frame]):g}{where}), {by_regime.mean():.1e} on average.",
        file=sys.stderr,
    )
    if not by_frame.max() <= params.simulate.max_error:
        raise DataError(
            f"the simulated data are {by_frame.max():.2e} nRMSE from {problem.against} at t = "
            f"{float(problem.times[frame]):g}{where}; simulate.max_error allows {params.simulate.max_error:.2e}. "
            f"{problem.remedy}"
        )
    return metrics


def _write(params: Params, problems: list[Problem], path: Path, device: torch.device) -> None:
    task, section, count = params.task, params.simulate, len(problems)
    notes: dict[str, str | int | float] = {
        "equation": task.equation,
        "values": "point values at cell centres",
        "method": section.method,
        "seed": section.seed,
        "domain_extent": task.domain_extent,
        "made_by": "ups.stages.simulate",
    }
    coefficients: dict[str, Number] = dict(task.regimes[0])
    initial = None
    if count > 1:
        initial = np.repeat(np.arange(section.samples), count)
        coefficients = {
            name: np.tile([regime[name] for regime in task.regimes], section.samples) for name in task.regimes[0]
        }
    total, first = section.samples * count, problems[0]
    with (
        create(path, task.equation, coefficients, total, first.grid, first.times.numpy(), notes, initial) as file,
        Progress(NAME, total, "trajectories") as progress,
    ):
        for start in range(0, section.samples, section.batch_size):
            stop = min(start + section.batch_size, section.samples)
            drawn = first.draw(start, stop).to(device)
            solved = torch.stack([problem.solve(drawn).float() for problem in problems], dim=1)
            file.write(start * count, solved.flatten(0, 1).cpu().numpy())
            progress.update((stop - start) * count)


def _measure(params: Params, problems: list[Problem], path: Path, device: torch.device) -> Tensor:
    """Return the nRMSE of stored values, (R, checked samples, T): of the worst field where there are several."""
    section, count = params.simulate, len(problems)
    generator = torch.Generator().manual_seed(section.seed)
    chosen = torch.randperm(section.samples, generator=generator)[: section.check_samples].sort().values.tolist()
    with open_source(path) as source:
        blocks = [np.concatenate(list(source.chunks(row * count, (row + 1) * count))) for row in chosen]
    stored = torch.from_numpy(np.stack(blocks, axis=1)).to(device)  # (R, checked, T, C, *space)
    first = problems[0]
    drawn = first.select(first.draw(0, section.samples), chosen).to(device)
    errors = [
        relative_error(fields.flatten(3), problem.reference(drawn).flatten(3)).amax(dim=2)
        for problem, fields in zip(problems, stored, strict=True)
    ]
    return torch.stack(errors).cpu()


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
