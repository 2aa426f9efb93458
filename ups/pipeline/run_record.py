"""What a run was made of: parameters, code, data and environment, from the files that it left in its folder.

A run's folder is one of `.ups/results/`, or the project itself: it holds `params/base.yaml`, `dvc.lock` and
`artifacts/<stage>/provenance.json`. Where the parameter file was edited after the run, `dvc.lock` says what really ran.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ups.errors import ArtifactError, ParameterError
from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import flatten, put
from ups.parameters.overlay import complete
from ups.parameters.selection import DEFAULT_PRESET
from ups.pipeline.jobs import job_suffix
from ups.pipeline.lock import DVC_LOCK

RESULTS = Path(".ups/results")
ARTIFACTS = Path("artifacts")
# Entries of provenance.json that say when a stage ran and what it is called, not where. The code is compared by its
# hashes: two commits may hold the same, and one commit with changes in the working tree may not.
_NOT_ENVIRONMENT = frozenset({"stage", "started", "seconds", "git_commit", "git_dirty"})
_RESULTS_OF = re.compile(r"(?P<variant>[^.]+)-(?P<seed>\d+)")
_SELECTED = re.compile(r"# Selected by `ups params use (?P<name>\S+)")


@dataclass(frozen=True)
class StageRecord:
    """One stage of a run.

    Attributes:
        command: what was run.
        params: the parameter keys that its result depends on.
        code: file -> md5, of the files under `ups/` that it runs.
        inputs: file -> md5, of everything else that it reads.
        output: md5 of its output folder. Equal for two runs that share one execution of the stage, and for no others:
            the folder holds the time of the execution.
        environment: name -> value of versions, host and device; None where it was not recorded or is not there.
    """

    command: str
    params: tuple[str, ...]
    code: Mapping[str, str]
    inputs: Mapping[str, str]
    output: str
    environment: Mapping[str, str] | None


@dataclass(frozen=True)
class RunRecord:
    """One run: its folder, its complete parameters (nested), and its stages by name."""

    folder: Path
    params: Mapping[str, Any]
    stages: Mapping[str, StageRecord]


def find_runs(
    variants: Iterable[str], root: Path = Path("."), preset: str = DEFAULT_PRESET, task: str | None = None
) -> dict[str, dict[int, Path]]:
    """Return variant -> seed -> folder: the results of sweeps, or the project itself.

    The project's own run stands in only for a variant without results: beside a sweep it would be one more seed that
    the other variants lack. Parameters that were never selected by `ups params use` go by the name `base`.
    """
    found: dict[str, dict[int, Path]] = {variant: {} for variant in variants}
    suffix = job_suffix(preset, task)
    for folder in sorted((root / RESULTS).glob(f"*-*{suffix}")):
        match = _RESULTS_OF.fullmatch(folder.name.removesuffix(suffix))
        if match and folder.is_dir() and match["variant"] in found:
            found[match["variant"]][int(match["seed"])] = folder
    if (root / DVC_LOCK).is_file() and not suffix:
        selected = _SELECTED.match((root / BASE).read_text(encoding="utf-8"))
        name = selected["name"] if selected else "base"
        if found.get(name) == {}:
            found[name][read_yaml(root / BASE)["seed"]] = root
    return found


def read_record(folder: Path) -> RunRecord:
    """Read the record of the run in a folder.

    Raises:
        ArtifactError: if nothing was run there, or if its stages were not run with the same parameters.
    """
    if not (folder / DVC_LOCK).is_file():
        raise ArtifactError(f"{folder / DVC_LOCK} does not exist: nothing was run in {folder} yet.")
    stages = read_yaml(folder / DVC_LOCK).get("stages", {})
    return RunRecord(
        folder, _params(folder, stages), {name: _stage(folder, name, locked) for name, locked in stages.items()}
    )


def _params(folder: Path, stages: Mapping[str, Any]) -> dict[str, Any]:
    """Return the complete parameters: what `dvc.lock` says was run, and the file's own for what no stage depends on."""
    raw = read_yaml(folder / BASE)
    by: dict[str, tuple[str, Any]] = {}
    for name, stage in stages.items():
        for key, value in (stage.get("params") or {}).get(BASE.as_posix(), {}).items():
            other, before = by.setdefault(key, (name, value))
            if before != value:
                raise ArtifactError(
                    f"{folder}: the stages {other} and {name} were run with different values of '{key}' ({before!r} "
                    f"and {value!r}), so its results are not those of one run. Run the pipeline there again."
                )
            put(raw, key, value)
    try:
        return complete(raw)
    except ParameterError:
        # Made by code that had other parameters: it is compared by what it says, and a parameter that only one of two
        # runs has is a difference between them.
        return raw


def _stage(folder: Path, name: str, locked: Mapping[str, Any]) -> StageRecord:
    hashes = {entry["path"]: str(entry.get("md5")) for entry in locked.get("deps") or []}
    outs = {entry["path"]: str(entry.get("md5")) for entry in locked.get("outs") or []}
    return StageRecord(
        command=str(locked.get("cmd")),
        params=tuple((locked.get("params") or {}).get(BASE.as_posix(), {})),
        code={path: md5 for path, md5 in hashes.items() if path.endswith(".py")},
        inputs={path: md5 for path, md5 in hashes.items() if not path.endswith(".py")},
        output=" ".join(f"{path}:{md5}" for path, md5 in sorted(outs.items())),
        environment=_environment(folder / ARTIFACTS / name / "provenance.json"),
    )


def _environment(path: Path) -> dict[str, str] | None:
    if not path.is_file():
        return None  # a stage restored from the cache whose outputs nobody reads is not brought into the workspace
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path} is not valid JSON ({error}). Delete its folder and run the stage again.") from None
    versions = content.pop("versions", {})
    flat = flatten({key: value for key, value in content.items() if key not in _NOT_ENVIRONMENT})
    return {key: str(value) for key, value in {**flat, **versions}.items()}
