"""Which stages a change of parameters reaches, told from the parameters alone; nothing is hashed or looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ups.parameters.flat import differences
from ups.pipeline.graph import Step, steps

_SHOWN = 2


@dataclass(frozen=True)
class Reached:
    """A stage that would not be what it was.

    Attributes:
        stage: its name.
        changed: the keys it reads itself that changed, or the files; empty if it only follows others.
        follows: changed stages whose outputs it reads.
    """

    stage: str
    changed: tuple[str, ...]
    follows: tuple[str, ...]

    def reason(self) -> str:
        """Return why, with the first keys by name."""
        shown = [
            *self.changed[:_SHOWN],
            *([f"{len(self.changed) - _SHOWN} more"] if len(self.changed) > _SHOWN else []),
        ]
        own = [", ".join(shown)] if shown else []
        return "; ".join([*own, *([f"reads {', '.join(self.follows)}"] if self.follows else [])])


def reached(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Reached]:
    """Return the stages that differ between two complete sets of parameters, in the order of `dvc.yaml`.

    They are the most that would run again: what the cache holds does not, nor what follows a stage that wrote the same
    bytes as before.

    Raises:
        UpsError: as `ups.pipeline.graph.steps`.
    """
    before = {step.stage: step for step in steps(first)}
    found: dict[str, Reached] = {}
    for step in steps(second):
        changed = _changes(before[step.stage], step)
        follows = tuple(name for name in step.upstream if name in found)
        if changed or follows:
            found[step.stage] = Reached(step.stage, changed, follows)
    return list(found.values())


def _changes(before: Step, now: Step) -> tuple[str, ...]:
    keys = [key for file in now.params for key in differences(before.params.get(file, {}), now.params[file])]
    files = [
        path for path in (*now.sources, *dict(now.products)) if path not in (*before.sources, *dict(before.products))
    ]
    command = ["its command"] if before.command != now.command else []
    return (*keys, *files, *command)
