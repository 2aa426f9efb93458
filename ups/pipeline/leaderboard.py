"""All published runs of a task in one order: by a metric, over seeds, apart for what must not be mixed.

Runs stand in one row only if they have task, data, variant and preset in common; rows are compared only within one task
and one data file. Of several runs of one seed (the code changed in between) the latest counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from ups.tracking import Published

METRIC = "evaluate/assembled/pdebench/nrmse"


@dataclass(frozen=True)
class Row:
    """One variant on one data file.

    Attributes:
        task, data_md5, preset, variant: what the runs have in common.
        seeds: of the runs.
        mean: of the metric over seeds.
        deviation: standard deviation over seeds; None for a single one.
        best: the smallest value.
        run_ids: of the runs, in the order of the seeds.
        older: runs of these seeds that newer ones replaced.
    """

    task: str
    data_md5: str
    preset: str
    variant: str
    seeds: tuple[int, ...]
    mean: float
    deviation: float | None
    best: float
    run_ids: tuple[str, ...]
    older: int


def leaderboard(runs: Iterable[Published], metric: str = METRIC, task: str | None = None) -> list[Row]:
    """Return the rows of each task and data file, the smallest mean first; runs without the metric are left out.

    Args:
        runs: the latest first, see `ups.tracking.finished_runs`.
        metric: smaller is better.
        task: only this one.
    """
    groups: dict[tuple[str, ...], dict[int, Published]] = {}
    older: dict[tuple[str, ...], int] = {}
    for run in runs:
        tags = run.tags
        if metric not in run.metrics or (task and tags.get("task") != task):
            continue
        key = tuple(tags.get(name, "unknown") for name in ("task", "data_md5", "preset", "variant"))
        if groups.setdefault(key, {}).setdefault(int(tags.get("seed", "-1")), run) is not run:
            older[key] = older.get(key, 0) + 1
    rows = []
    for key, by_seed in groups.items():
        seeds = tuple(sorted(by_seed))
        values = [by_seed[seed].metrics[metric] for seed in seeds]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        ids = tuple(by_seed[seed].run_id for seed in seeds)
        task_name, data, preset, variant = key
        rows.append(
            Row(
                task_name,
                data,
                preset,
                variant,
                seeds,
                statistics.fmean(values),
                deviation,
                min(values),
                ids,
                older.get(key, 0),
            )
        )
    return sorted(rows, key=lambda row: (row.task, row.data_md5, row.mean))
