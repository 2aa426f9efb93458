"""What a person sees while a sweep runs: a line when a stage starts and when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable

from ups.pipeline.jobs import Job
from ups.pipeline.plan import Node, Plan
from ups.pipeline.sweep import Observer, State


class Progress(Observer):
    """Prints a line when a stage starts and when it is over.

    Args:
        made: the plan.
        say: prints a line.
    """

    def __init__(self, made: Plan, say: Callable[[str], None]) -> None:
        self._plan, self._say = made, say
        self._over: set[str] = set()
        self._started: dict[str, float] = {}

    def stage(self, node: Node, state: State, message: str) -> None:
        now = time.monotonic()
        who = f"{node.stage} ({sharers(self._plan, node.jobs)})"
        if state is State.RUNNING:
            self._started[node.fingerprint] = now
            self._say(f"{self._count()} {who} ...")
            return
        self._over.add(node.fingerprint)
        if state is State.EXECUTED:
            self._say(f"{self._count()} {who} done in {now - self._started.get(node.fingerprint, now):.1f} s")
        elif state is State.SHARED:
            self._say(f"{self._count()} {who} found in the cache")
        else:
            self._say(f"{self._count()} {who} FAILED")

    def _count(self) -> str:
        return f"[{len(self._over)}/{self._plan.executions}]"


def sharers(made: Plan, jobs: list[Job]) -> str:
    """Return who shares a stage: `golden, light-diffusion` or `golden (seeds 0, 1)`."""
    if len(jobs) == len(made.jobs) > 1:
        return "all"
    seeds: dict[str, list[int]] = {}
    for job in jobs:
        seeds.setdefault(job.variant, []).append(job.seed)
    several = len({job.seed for job in made.jobs}) > 1
    return ", ".join(
        f"{variant} (seed {', '.join(map(str, found))})" if several else variant for variant, found in seeds.items()
    )
