"""`dvc.lock`: what was last reproduced. Its fingerprint, and whether it still describes the working tree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ups.errors import ArtifactError
from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import MISSING, flatten
from ups.pipeline.stages import stage_names

DVC_LOCK = Path("dvc.lock")

Stages = Mapping[str, Mapping[str, Any]]


def read_lock(path: Path = DVC_LOCK) -> dict[str, Any]:
    """Return the stages in a `dvc.lock`.

    Raises:
        ArtifactError: if nothing was reproduced yet.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist: nothing was reproduced here yet. Run `make repro`.")
    return read_yaml(path).get("stages", {})


def fingerprint(stages: Stages) -> str:
    """Return the hash of every stage's command, dependencies, parameters and outputs."""
    keys = ("cmd", "deps", "params", "outs")
    relevant = {name: {key: stage.get(key) for key in keys} for name, stage in sorted(stages.items())}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest()[:32]


def file_hashes(stages: Stages) -> dict[str, str]:
    """Return the md5 of every file and folder that a stage read or wrote, by path."""
    entries = [entry for stage in stages.values() for key in ("deps", "outs") for entry in stage.get(key, [])]
    return {entry["path"]: entry["md5"] for entry in entries if "md5" in entry}


def outdated(stages: Stages) -> list[str]:
    """Return why `dvc.lock` does not describe the working tree: one sentence per stage that would have to run.

    Looks at parameters, code and the presence of outputs. What is inside data and artifacts is left to `dvc status`.
    """
    base = read_yaml(BASE)
    reasons = []
    for name in stage_names():
        stage = stages.get(name)
        if stage is None:
            reasons.append(f"{name} was never run")
            continue
        changed = _changed_params(stage, base) + _changed_code(stage) + _missing_outputs(stage)
        if changed:
            reasons.append(f"{name} ({', '.join(changed)})")
    return reasons


def check_current(stages: Stages) -> None:
    """Refuse to take what `dvc.lock` says for the state of the working tree when it is not.

    Raises:
        ArtifactError: naming the stages and what changed.
    """
    reasons = outdated(stages)
    if reasons:
        raise ArtifactError(
            f"The results do not belong to the working tree: {'; '.join(reasons)}. Run `make repro` first."
        )


def _changed_params(stage: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    changed = []
    for key, locked in stage.get("params", {}).get(BASE.as_posix(), {}).items():
        value: Any = base
        for part in key.split("."):
            value = value.get(part, MISSING) if isinstance(value, Mapping) else MISSING
        if _plain(value) != _plain(locked):
            now, then = (flatten({key: side}) for side in (value, locked))
            changed += [name for name in {**then, **now} if _plain(then.get(name)) != _plain(now.get(name))]
    return changed


def _changed_code(stage: Mapping[str, Any]) -> list[str]:
    return [entry["path"] for entry in stage.get("deps", []) if entry["path"].endswith(".py") and not _same_file(entry)]


def _same_file(entry: Mapping[str, Any]) -> bool:
    path = Path(entry["path"])
    return path.is_file() and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == entry.get("md5")


def _missing_outputs(stage: Mapping[str, Any]) -> list[str]:
    return [f"{entry['path']} is missing" for entry in stage.get("outs", []) if not Path(entry["path"]).exists()]


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
