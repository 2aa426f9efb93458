"""The audit that `prepare_data` makes, of a file with the present parameters, without writing anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ups.data import regimes
from ups.data.audit import SplitAudit, check_overlap
from ups.data.progress import Progress
from ups.data.readers import open_source
from ups.errors import DataError
from ups.parameters.prepare_data import PrepareData
from ups.parameters.shared import Data, Task


@dataclass(frozen=True)
class SplitReport:
    """The audit of a file.

    Attributes:
        path: the file.
        refused: why `prepare_data` would refuse it; empty if it would not.
        splits: figures of each split.
        overlap: the nearest initial conditions of each pair of splits; empty where they overlap.
    """

    path: Path
    refused: str
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    overlap: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "path": str(self.path), "passed": not self.refused}


def audit(path: Path, task: Task, data: Data, limits: PrepareData) -> SplitReport:
    """Audit a file as `prepare_data` would; what it refuses is in the report, not raised.

    Args:
        path: the file.
        task, data, limits: the sections of the parameters; `data.path` is not looked at.
    """
    audits: dict[str, SplitAudit] = {}
    try:
        with open_source(path, data.space_stride, data.time_stride) as source:
            samples, _ = regimes.assign(source, task, data)
            rows = regimes.split(source, samples, data)
            with Progress("audit", sum(map(len, rows.values())), "trajectories") as progress:
                for name in regimes.SPLITS:
                    audits[name] = SplitAudit(rows[name].tolist())
                    for _, fields in regimes.chunks(source, rows[name]):
                        audits[name].update(fields)
                        progress.update(len(fields))
        overlap = check_overlap(audits, limits.min_distance)
    except DataError as error:
        whole = {name: split for name, split in audits.items() if split.statistics.count}
        return SplitReport(path, str(error), {name: split.report() for name, split in whole.items()})
    return SplitReport(path, "", {name: split.report() for name, split in audits.items()}, overlap)


def text(report: SplitReport) -> list[str]:
    """Return the lines that are printed."""
    lines = []
    for name, split in report.splits.items():
        first, stop = split["samples"]
        lines.append(
            f"{name:<11} samples {first} to {stop - 1}: {split['minimum']:.4g} to {split['maximum']:.4g}, mean "
            f"{split['mean'][0]:.4g}, std {split['std'][0]:.4g}; the mean changes by at most "
            f"{split['largest_change_of_mean']:.1e}, wrap ratio {split['largest_wrap_ratio']:.2g}"
        )
    for pair, nearest in report.overlap.get("nearest", {}).items():
        one, other = nearest["samples"]
        lines.append(
            f"{pair:<17} nearest initial conditions {nearest['distance']:.3g} apart (samples {one} and {other})"
        )
    for name, count in report.overlap.get("duplicates_inside", {}).items():
        if count:
            lines.append(f"{name:<11} {count} initial conditions occur more than once inside it (allowed)")
    verdict = f"REFUSED: {report.refused}" if report.refused else "PASSED: no initial condition is in two splits."
    return [*lines, f"{report.path}: {verdict}"]
