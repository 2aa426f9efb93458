"""Make the data file of a task with its solver, and measure the file's error.

A task of R regimes begins with the same fields in each: trajectory i R + r is initial condition i in regime r.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ups.data.file_writer import Note
from ups.data.flat_layout import Number
from ups.data.problems import Problem, make_problem
from ups.data.progress import Progress
from ups.data.readers import open_source
from ups.data.simulation import relative_error
from ups.data.writers import create
from ups.errors import DataError, ParameterError
from ups.parameters.shared import Task
from ups.parameters.simulate import Simulate


@dataclass(frozen=True)
class Made:
    """What was made, and how good it is.

    Attributes:
        task, section: what it was made from.
        problems: one per regime.
        errors: nRMSE of stored values, (R, checked trajectories, T): of the worst field where there are several.
    """

    task: Task
    section: Simulate
    problems: list[Problem]
    errors: Tensor

    def metrics(self) -> dict[str, Any]:
        """Return the size of the file and its error, for a program."""
        regime, _ = self._worst()
        by_regime = self.errors.mean(dim=1)
        metrics: dict[str, Any] = {
            "samples": self.section.samples * len(self.problems),
            "method": self.section.method,
            "checked_against": self.problems[regime].against,
            "checked_samples": self._checked(),
            "error_nrmse": float(by_regime.mean()),
            "error_nrmse_max_over_frames": float(by_regime[regime].max()),
            "error_nrmse_worst_sample_and_frame": float(self.errors.max()),
        }
        if len(self.problems) > 1:
            names = [self._regime(number) for number in range(len(self.problems))]
            metrics["error_nrmse_by_regime"] = dict(zip(names, by_regime.amax(1).tolist(), strict=True))
        return metrics

    def text(self) -> str:
        """Return the same in a sentence."""
        (regime, frame), by_regime = self._worst(), self.errors.mean(dim=1)
        samples = self.section.samples * len(self.problems)
        return (
            f"{samples} trajectories of {self.task.name} ({self.section.method}). Error against "
            f"{self.problems[regime].against}, {self._checked()} trajectories: {by_regime[regime].max():.1e} nRMSE in "
            f"the worst frame ({self._at(regime, frame)}), {by_regime.mean():.1e} on average."
        )

    def check(self) -> None:
        """Refuse data that are too far from the truth.

        Raises:
            DataError: if the mean error of a frame exceeds `simulate.max_error`.
        """
        regime, frame = self._worst()
        error, problem = self.errors.mean(dim=1)[regime, frame], self.problems[regime]
        if not error <= self.section.max_error:
            raise DataError(
                f"the simulated data are {error:.2e} nRMSE from {problem.against} at {self._at(regime, frame)}; "
                f"simulate.max_error allows {self.section.max_error:.2e}. {problem.remedy}"
            )

    def _worst(self) -> tuple[int, int]:
        by_regime = self.errors.mean(dim=1)  # (R, T)
        return divmod(int(by_regime.argmax()), by_regime.shape[1])

    def _checked(self) -> int:
        return len(self.problems) * self.errors.shape[1]

    def _regime(self, number: int) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in self.task.regimes[number].items())

    def _at(self, regime: int, frame: int) -> str:
        where = f" at {self._regime(regime)}" if len(self.problems) > 1 else ""
        return f"t = {float(self.problems[regime].times[frame]):g}{where}"


def simulate_file(task: Task, section: Simulate, path: Path, made_by: str) -> Made:
    """Solve a task's problems, on a GPU where there is one, and write them in the layout that suits the equation.

    Args:
        made_by: who asks, for the file's notes.

    Raises:
        ParameterError: if the solver cannot do what the parameters ask.
        DataError: if the file cannot be written.
    """
    problems = [make_problem(task.at(regime), section) for regime in task.regimes]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        _write(task, section, problems, path, device, made_by)
        return Made(task, section, problems, _measure(section, problems, path, device))
    except ValueError as wrong:  # the solvers' own limits, which parameters decide
        raise ParameterError(f"simulate.{section.method}: {wrong}") from wrong


def _write(
    task: Task, section: Simulate, problems: list[Problem], path: Path, device: torch.device, made_by: str
) -> None:
    count = len(problems)
    notes: dict[str, Note] = {
        "equation": task.equation,
        "values": "point values at cell centres",
        "method": section.method,
        "seed": section.seed,
        "domain_extent": task.domain_extent,
        "made_by": made_by,
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
        Progress("simulate", total, "trajectories") as progress,
    ):
        for start in range(0, section.samples, section.batch_size):
            stop = min(start + section.batch_size, section.samples)
            drawn = first.draw(start, stop).to(device)
            solved = torch.stack([problem.solve(drawn).float() for problem in problems], dim=1)
            file.write(start * count, solved.flatten(0, 1).cpu().numpy())
            progress.update((stop - start) * count)


def _measure(section: Simulate, problems: list[Problem], path: Path, device: torch.device) -> Tensor:
    """Return the nRMSE of stored values, (R, checked samples, T): of the worst field where there are several."""
    count = len(problems)
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
