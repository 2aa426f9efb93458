"""How long a stage will take: what it took before, at the same size and most alike in everything else.

A stage that ran at preset `tiny` says nothing about the same stage at `default`. So two executions are compared in the
parameters of the stage and of all stages upstream; where a key that presets set (sizes and lengths) differs, an
execution does not count, and a stage without one that counts is reported as not run at this size in any sweep.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from ups.parameters.flat import flatten
from ups.parameters.overlay import names, read_preset
from ups.pipeline.executions import Execution, History, description_of

_MOST_RECENT = 5  # executions that a prediction is the median of
_LOOKED_AT = 100  # the latest executions of a stage that are compared; older ones would cost time and tell little

Workload = Mapping[str, Any]


class Predictor:
    """Times of past executions, by what they are alike in.

    Args:
        history: of executions.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._sizes = _preset_keys()

    def seconds(self, stage: str, fingerprint: str, workload: Workload) -> float | None:
        """Return the median time of the executions most like this one; None if none had its size.

        Args:
            stage: its name.
            fingerprint: of the execution to come; the same one before is the best prediction.
            workload: its parameters and those upstream, see `workload`.
        """
        same = self._history.all_of(fingerprint)
        return _median(same or self._most_alike(self._history.all_at(stage)[-_LOOKED_AT:], workload))

    def _most_alike(self, executions: Iterable[Execution], workload: Workload) -> list[Execution]:
        by_distance: dict[int, list[Execution]] = {}
        for execution in executions:
            before = _workload_of(execution.fingerprint)
            if before is None:
                continue
            changed = [key for key in {*before, *workload} if before.get(key) != workload.get(key)]
            if not self._sizes.intersection(changed):
                by_distance.setdefault(len(changed), []).append(execution)
        return by_distance[min(by_distance)] if by_distance else []


def workload(description: Mapping[str, Any], upstream: Iterable[Workload]) -> Workload:
    """Return the parameters of a stage and of all stages that it reads from, by dotted key.

    Args:
        description: what the stage depends on, see `ups.pipeline.fingerprint.describe`.
        upstream: the workloads of the stages that it reads from.
    """
    merged: dict[str, Any] = {}
    for above in upstream:
        merged.update(above)
    for values in description["params"].values():
        merged.update(flatten(values))
    return merged


@cache
def _workload_of(fingerprint: str) -> Workload | None:
    """Return the workload of a logged execution; None if what it depended on is not recorded any more."""
    description = description_of(fingerprint)
    if description is None:
        return None
    upstream = [_workload_of(name) for name in set(description["products"].values())]
    known = [above for above in upstream if above is not None]
    return workload(description, known) if len(known) == len(upstream) else None


def _preset_keys() -> frozenset[str]:
    return frozenset(key for name in names("presets") for part in read_preset(name) for key in flatten(part))


def _median(executions: list[Execution]) -> float | None:
    if not executions:
        return None
    return round(statistics.median(execution.seconds for execution in executions[-_MOST_RECENT:]), 3)
