"""Why a stage has to run: what changed against the earlier execution that is most like it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ups.parameters.flat import differences
from ups.pipeline import lock
from ups.pipeline.executions import History
from ups.pipeline.graph import Step
from ups.pipeline.jobs import Job

_SHOWN = 4


def why(step: Step, description: Mapping[str, Any], job: Job, waiting: Sequence[str], history: History) -> str:
    """Return why a stage whose result is not in the cache has to run.

    Args:
        step: the stage.
        description: what its result depends on.
        job: the variant and seed it would run for.
        waiting: upstream stages that run too.
        history: of executions.
    """
    earlier = [*history.earlier(step.stage, job.variant, job.seed), *_reproduced(step)]
    if not earlier:
        return _joined(["never run here"], waiting)
    changes = min((_changes(step, before, description) for before in earlier), key=len)
    if not changes and not waiting:
        return "its result is no longer in the cache"
    return _joined(changes, waiting)


def _joined(changes: Sequence[str], waiting: Sequence[str]) -> str:
    shown = [*changes[:_SHOWN], *([f"and {len(changes) - _SHOWN} more"] if len(changes) > _SHOWN else [])]
    upstream = [f"runs after {', '.join(waiting)}"] if waiting else []
    return "; ".join([*shown, *upstream])


def _changes(step: Step, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    if before["command"] != now["command"]:
        found.append(f"command: {before['command']} -> {now['command']}")
    for file in sorted({*before["params"], *now["params"]}):
        pairs = differences(before["params"].get(file, {}), now["params"].get(file, {}))
        found += [f"{key}: {_text(old)} -> {_text(new)}" for key, (old, new) in pairs.items()]
    for path in sorted({*before["sources"], *now["sources"]}):
        if path not in before["sources"]:
            found.append(f"{path} is new")
        elif path not in now["sources"]:
            found.append(f"{path} is not read any more")
        elif before["sources"][path] != now["sources"][path]:
            found.append(f"{path} changed")
    if before.get("products") is not None:
        producers = dict(step.products)
        changed = {producers[p] for p in now["products"] if before["products"].get(p) != now["products"][p]}
        found += [f"{name} upstream changed" for name in sorted(changed)]
    return found


def _reproduced(step: Step) -> list[dict[str, Any]]:
    """Return what the working tree's `dvc.lock` says about the stage, in the form of a description."""
    try:
        info = lock.DVC_LOCK.stat()
    except FileNotFoundError:
        return []
    entry = _locked(lock.DVC_LOCK.absolute(), info.st_mtime_ns, info.st_size).get(step.stage)
    if not entry:
        return []
    sources = {dep["path"]: dep.get("md5") for dep in entry.get("deps", []) if dep["path"] not in dict(step.products)}
    return [{"command": entry["cmd"], "params": entry.get("params", {}), "sources": sources, "products": None}]


@cache
def _locked(path: Path, *version: int) -> dict[str, Any]:
    """Return the stages in `dvc.lock`, read once for all stages of a plan: it takes longer than the rest of it."""
    return lock.read_lock(path)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
