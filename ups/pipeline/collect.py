"""Gather one MLflow run from the files that the stages wrote, whether they ran now or came from DVC's cache."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ups.errors import ArtifactError
from ups.parameters import selection
from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import differences, flatten
from ups.parameters.overlay import complete, read_variant, resolve
from ups.pipeline.lock import DVC_LOCK, Stages, file_hashes, fingerprint
from ups.pipeline.stages import DVC_YAML, stage_names
from ups.tracking import Point, Run, metric_key

ARTIFACTS = Path("artifacts")
FIGURES, TABLES, WEIGHTS = "figures/*.png", "*.csv", "*.safetensors"


def collect(stages: Stages) -> Run:
    """Build the run of the pipeline whose `dvc.lock` content is `stages`.

    Raises:
        ArtifactError: if a stage's record is missing or unreadable.
    """
    params = complete(read_yaml(BASE))
    names = [name for name in stage_names() if name in stages]
    records = {name: _json(ARTIFACTS / name / "provenance.json") for name in names}
    variant = _variant()
    started = min(record["started"] for record in records.values())
    finished = max(record["started"] + record["seconds"] for record in records.values())
    return Run(
        experiment=params["task"]["name"],
        name=f"{variant}-seed{params['seed']}",
        fingerprint=fingerprint(stages),
        started=started,
        finished=finished,
        params=flatten(params) | {f"varies.{key}": value for key, value in _varied(variant).items()},
        tags=_tags(params, variant, records, stages),
        points=[point for name in names for point in _points(name, records[name])],
        files=list(_files(names)),
        documents={
            "checkpoints.json": list(_checkpoints(names, file_hashes(stages))),
            "provenance.json": records,
            "parameters.json": params,
        },
    )


def _points(stage: str, record: Mapping[str, Any]) -> Iterator[Point]:
    curves: set[str] = set()
    history = ARTIFACTS / stage / "history.csv"
    finished = record["started"] + record["seconds"]
    if history.is_file():
        with history.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for count, row in enumerate(rows, 1):
            # The history holds no clock: epochs are spread evenly over the stage's time.
            timestamp = record["started"] + record["seconds"] * count / len(rows)
            for column, text in row.items():
                value = _number(text)
                if column != "epoch" and value is not None:
                    key = metric_key(stage, column)
                    curves.add(key)
                    yield Point(key, int(float(row["epoch"])), value, timestamp)
    for path, value in _leaves(_json(ARTIFACTS / stage / "metrics.json")):
        number = _number(value)
        if number is not None:
            key = _final_key(stage, path)
            yield Point(f"{key}/final" if key in curves else key, 0, number, finished)


def _leaves(nested: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _final_key(stage: str, path: tuple[str, ...]) -> str:
    """Return the key of a final metric: `{mean, stderr}` becomes `<metric>` and `<metric>_stderr`."""
    if len(path) > 1 and path[-1] == "mean":
        path = path[:-1]
    elif len(path) > 1 and path[-1] == "stderr":
        path = (*path[:-2], f"{path[-2]}_stderr")
    return metric_key(stage, *path)


def _number(value: Any) -> float | None:
    """Return a finite number; None for text that is none, for verdicts and for lists."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _files(names: list[str]) -> Iterator[tuple[Path, str]]:
    for name in names:
        for pattern, folder in ((FIGURES, f"figures/{name}"), (TABLES, f"tables/{name}")):
            for path in sorted((ARTIFACTS / name).glob(pattern)):
                yield path, folder
    for path in (DVC_LOCK, DVC_YAML):
        yield path, "pipeline"


def _checkpoints(names: list[str], hashes: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Name every file of weights by path, md5 and size; the bytes stay in DVC's cache."""
    for name in names:
        for path in sorted((ARTIFACTS / name).rglob(WEIGHTS)):
            md5 = hashes.get(path.as_posix()) or hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            yield {"stage": name, "path": path.as_posix(), "md5": md5, "bytes": path.stat().st_size}


def _variant() -> str:
    chosen = selection.current()
    return (chosen.variant if chosen else None) or "base"


def _varied(variant: str) -> dict[str, Any]:
    """Return what the variant's own file changes against its parent, by dotted key."""
    if variant == "base":
        return {}
    base, parent = selection.original_base(), read_variant(variant).extends
    before, after = (resolve(base, variant=name, preset=None) for name in (parent, variant))
    return {key: new for key, (_, new) in differences(before, after).items()}


def _tags(params: Mapping[str, Any], variant: str, records: Mapping[str, Any], stages: Stages) -> dict[str, str]:
    chosen = selection.current()
    versions: dict[str, set[str]] = {}
    for record in records.values():
        for package, version in {"python": record.get("python"), **record.get("versions", {})}.items():
            versions.setdefault(package, set()).add(str(version))
    commit = _git("rev-parse", "HEAD")
    return {
        "task": params["task"]["name"],
        "variant": variant,
        "preset": chosen.preset if chosen else "default",
        "seed": str(params["seed"]),
        "git_commit": commit,
        "git_dirty": str(bool(_git("status", "--porcelain"))).lower(),
        "mlflow.source.git.commit": commit,
        "data_path": params["data"]["path"],
        "data_md5": file_hashes(stages).get(params["data"]["path"], "unknown"),
        "host": _joined(record.get("host") for record in records.values()),
        "device": _joined(record.get("device") for record in records.values()),
        "versions": json.dumps({package: " | ".join(sorted(found)) for package, found in versions.items()}),
    }


def _joined(values: Iterator[Any]) -> str:
    return " | ".join(sorted({str(value) for value in values}))


def _git(*arguments: str) -> str:
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return result.stdout.strip() if result.returncode == 0 else "unknown"


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; the stage that writes it has to run: `make repro`.") from None
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path} is not valid JSON ({error}). Delete its folder and run `make repro`.") from None
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} must hold an object, not {type(content).__name__}.")
    return content
