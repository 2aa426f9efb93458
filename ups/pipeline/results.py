"""The results of each variant and seed, readable in `.ups/results/<name>/` without copying a byte out of the cache.

The folder looks like the project after `dvc repro` with that variant and seed: `artifacts/` (links into DVC's cache),
`dvc.lock`, `dvc.yaml`, `params/base.yaml`; and `result.json` says what it is.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ups.errors import ArtifactError
from ups.parameters.files import BASE, nearest
from ups.pipeline import collect, dvc_store, lock
from ups.pipeline.jobs import Job
from ups.pipeline.plan import Node, Plan
from ups.pipeline.stages import DVC_YAML
from ups.pipeline.workspace import parameter_text

FOLDER = Path(".ups/results")
_RECORD = "result.json"
_SWAPS = 5  # attempts; more simultaneous sweeps than that do not end in the same instant
_VERIFIED_BYTES = 1 << 20  # smaller files are read by people and by reports, and cost nothing to check


@dataclass(frozen=True)
class Result:
    """What `result.json` holds.

    Attributes:
        variant, seed, preset, task: what was run.
        key: fingerprint of the pipeline, see `ups.pipeline.lock.fingerprint`.
        snapshot: the git commit of code and parameters.
        sweep: name of the sweep, if it has one.
        varies: what the variant changes against its parent, by dotted key.
        fingerprints: by stage.
    """

    variant: str
    seed: int
    preset: str
    task: str | None
    key: str
    snapshot: str
    sweep: str | None
    varies: dict[str, Any]
    fingerprints: dict[str, str]


def write(made: Plan, job: Job, snapshot: Callable[[], str], sweep: str | None) -> Path:
    """Write the results of a job whose stages are all in the cache; quick if they are there already.

    Args:
        made: the plan.
        job: variant and seed.
        snapshot: makes the git commit of code and parameters.
        sweep: name of the sweep, if it has one.

    Raises:
        CorruptObject: if a small file in the cache does not hold what it should.
    """
    nodes = made.of(job)
    records = {name: {**made.record(node), "outs": node.outs} for name, node in nodes.items()}
    key = lock.fingerprint(records)
    folder = FOLDER / job.name
    try:
        if read(folder).key == key and _complete(made, nodes, folder):
            return folder
    except ArtifactError:
        pass
    chosen = job.selection
    fingerprints = {name: node.fingerprint for name, node in nodes.items()}
    result = Result(
        job.variant,
        job.seed,
        chosen.preset,
        chosen.task,
        key,
        snapshot(),
        sweep,
        collect.varied(job.variant),
        fingerprints,
    )
    fresh = FOLDER / f".{job.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        for path, md5 in _files(made, nodes):
            source = made.store.object_path(md5)
            if source.stat().st_size < _VERIFIED_BYTES and dvc_store.file_md5(source) != md5:
                made.store.evict(md5)
            place = fresh / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(source)
        dvc_store.write_lock(records, fresh / lock.DVC_LOCK)
        shutil.copy(DVC_YAML, fresh / DVC_YAML)
        (fresh / BASE).parent.mkdir()
        (fresh / BASE).write_text(parameter_text(job), encoding="utf-8")
        (fresh / _RECORD).write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
        _swap(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def read(folder: Path) -> Result:
    """Read `result.json`.

    Raises:
        ArtifactError: if the folder holds no results.
    """
    try:
        return Result(**json.loads((folder / _RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{folder} holds no results of a sweep ({error}). Run `ups sweep`.") from None


def headline(folder: Path, protocol: str = "pdebench", metric: str = "nrmse") -> dict[str, float]:
    """Return the mean of one metric for each model that `evaluate` and `evaluate_ttc` measured in a folder of results.

    Models without it, and values that are not finite, are left out.
    """
    found: dict[str, float] = {}
    for stage in ("evaluate", "evaluate_ttc"):
        try:
            models = json.loads((folder / "artifacts" / stage / "metrics.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for model, protocols in models.items():
            entry = protocols.get(protocol) if isinstance(protocols, dict) else None
            value = collect.number((entry.get(metric) or {}).get("mean")) if isinstance(entry, dict) else None
            if value is not None:
                found[f"ttc {model}" if stage == "evaluate_ttc" else model] = value
    return found


def find(name: str) -> Path:
    """Return the folder of the results with a name such as `golden-42`.

    Raises:
        ArtifactError: naming those that exist.
    """
    known = names()
    if name not in known:
        raise ArtifactError(f"There are no results '{name}' in {FOLDER}. {nearest(name, known)}")
    return FOLDER / name


def names() -> list[str]:
    """Return the names of all results."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{_RECORD}") if not path.parent.name.startswith("."))


def _files(made: Plan, nodes: dict[str, Node]) -> Iterator[tuple[str, str]]:
    for node in nodes.values():
        for out in node.outs or []:
            yield from made.store.files(out)


def _complete(made: Plan, nodes: dict[str, Node], folder: Path) -> bool:
    return all((folder / path).is_file() for path, _ in _files(made, nodes))


def _swap(fresh: Path, folder: Path) -> None:
    """Put `fresh` in the place of `folder`; whoever comes last wins."""
    old = fresh.with_suffix(".old")
    for attempt in range(_SWAPS):
        try:
            if folder.exists():
                folder.rename(old)
            fresh.rename(folder)
            return
        except OSError:  # a simultaneous sweep did the same in between
            if attempt == _SWAPS - 1:
                raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
