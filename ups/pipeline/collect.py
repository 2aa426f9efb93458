"""Gather one MLflow run from the files that the stages wrote, whether they ran now or came from DVC's cache."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ups.errors import ArtifactError, UpsError
from ups.parameters import selection
from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import differences, flatten
from ups.parameters.overlay import complete, read_variant, resolve
from ups.pipeline import description, snapshot
from ups.pipeline.lock import DVC_LOCK, Stages, file_hashes, fingerprint
from ups.pipeline.stages import DVC_YAML, stage_names
from ups.tracking import Point, Run, Weights, metric_key

if TYPE_CHECKING:
    from ups.pipeline.results import Result

ARTIFACTS = Path("artifacts")
FIGURES, TABLES, WEIGHTS = "figures/*.png", "*.csv", "model.safetensors"


@dataclass(frozen=True)
class Origin:
    """Where results lie and what they are of.

    Attributes:
        root: the folder that holds `artifacts/`, `dvc.lock` and `params/base.yaml`.
        variant, preset: what was run.
        varied: what the variant changes against its parent, by dotted key.
        commit: the git commit that the code is based on.
        snapshot: the commit of code and parameters exactly as they were, kept under `refs/ups/` if no branch has it.
        dirty: whether the code was changed against `commit`.
        sweep: name of the sweep, if any.
    """

    root: Path
    variant: str
    preset: str
    varied: Mapping[str, Any]
    commit: str
    snapshot: str
    dirty: bool
    sweep: str | None = None


EDITED = "-edited"  # after the variant's name


def working_tree() -> Origin:
    """Return where and what the results in the working tree are."""
    chosen = selection.current()
    variant = (chosen.variant if chosen else None) or "base"
    changes = varied(variant)
    edits = selection.edits()
    if edits:  # what was changed by hand is not the variant any more
        variant += EDITED
        changes |= {key: after for key, (_, after) in edits.items()}
    preset = chosen.preset if chosen else "default"
    try:
        exact = snapshot.take(Path.cwd())
    except UpsError:
        exact = "unknown"  # results in a folder without git are results too; they cannot be reproduced by their id
    commit = _git("rev-parse", "HEAD")
    return Origin(Path(), variant, preset, changes, commit, exact, dirty=exact != commit)


def of_results(folder: Path, result: Result) -> Origin:
    """Return where and what the results of a sweep are."""
    commit = _git("merge-base", result.snapshot, "HEAD")
    # Between them lies the snapshot of the working tree; dvc.lock is what runs write, not what they are made from.
    paths = ("--", ":/", ":(exclude,top)dvc.lock")
    dirty = bool(_git("diff", "--name-only", commit, f"{result.snapshot}^", *paths))
    return Origin(folder, result.variant, result.preset, result.varies, commit, result.snapshot, dirty, result.sweep)


def collect(stages: Stages, origin: Origin) -> Run:
    """Build the run of the pipeline whose `dvc.lock` content is `stages`.

    Raises:
        ArtifactError: if a stage's record is missing or unreadable.
    """
    artifacts = origin.root / ARTIFACTS
    params = complete(read_yaml(origin.root / BASE))
    names = [name for name in stage_names() if name in stages]
    records = {name: _json(artifacts / name / "provenance.json") for name in names}
    started = min(record["started"] for record in records.values())
    finished = max(record["started"] + record["seconds"] for record in records.values())
    return Run(
        experiment=params["task"]["name"],
        name=run_name(origin.variant, params["seed"], origin.preset),
        fingerprint=fingerprint(stages),
        started=started,
        finished=finished,
        params=flatten(params) | {f"varies.{key}": value for key, value in origin.varied.items()},
        tags=_tags(params, origin, records, stages) | _verdicts(artifacts),
        points=[point for name in names for point in _points(artifacts / name, records[name])],
        files=list(_files(origin.root, names)),
        documents={
            "provenance.json": records,
            "parameters.json": params,
        },
        outputs={name: _output(stages[name]) for name in names},
        weights=list(_weights(origin.root, names, file_hashes(stages))),
        about=description.of_experiment(params),
        summary=description.of_run(artifacts),
        tables=description.tables(artifacts),
    )


def _output(stage: Mapping[str, Any]) -> str:
    """Return what identifies the output of a stage: two runs have it in common if one execution made it for both."""
    return " ".join(f"{out['md5']}" for out in stage["outs"])


def _points(folder: Path, record: Mapping[str, Any]) -> Iterator[Point]:
    stage = folder.name
    curves: set[str] = set()
    history = folder / "history.csv"
    finished = record["started"] + record["seconds"]
    if history.is_file():
        with history.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for count, row in enumerate(rows, 1):
            # The history holds no clock: epochs are spread evenly over the stage's time.
            points = list(epoch_points(stage, row, record["started"] + record["seconds"] * count / len(rows)))
            curves |= {point.key for point in points}
            yield from points
    for path, value in _leaves(_json(folder / "metrics.json")):
        final = number(value)
        if final is not None:
            key = _final_key(stage, path)
            yield Point(f"{key}/final" if key in curves else key, 0, final, finished)


def final_metrics(artifacts: Path, names: Iterable[str]) -> dict[str, float]:
    """Return what MLflow shows of the stages in a folder of artifacts: every key with its last value."""
    folders = [artifacts / name for name in names]
    points = [point for folder in folders for point in _points(folder, _json(folder / "provenance.json"))]
    return {point.key: point.value for point in sorted(points, key=lambda point: point.step)}


def epoch_points(stage: str, row: Mapping[str, str], timestamp: float) -> Iterator[Point]:
    """Yield the points of one epoch's row of a `history.csv`."""
    epoch = number(row.get("epoch"))
    for column, text in row.items():
        value = number(text)
        if epoch is not None and column != "epoch" and value is not None:
            yield Point(metric_key(stage, column), int(epoch), value, timestamp)


def run_name(variant: str, seed: int, preset: str) -> str:
    """Return the name of an MLflow run; the default preset is not mentioned."""
    return f"{variant}-seed{seed}" + (f"-{preset}" if preset != selection.DEFAULT_PRESET else "")


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


def number(value: Any) -> float | None:
    """Return a finite number; None for text that is none, for verdicts and for lists."""
    if isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _files(root: Path, names: list[str]) -> Iterator[tuple[Path, str]]:
    seen: dict[str, str] = {}
    for name in names:
        # MLflow shows files of several runs beside each other if they lie in no folder and have the same name.
        for path in sorted((root / ARTIFACTS / name).glob(FIGURES)):
            if seen.setdefault(path.name, name) != name:
                raise ArtifactError(
                    f"{path} has the name of a figure of '{seen[path.name]}': in MLflow one would replace the other. "
                    "Rename one of them in its stage."
                )
            yield path, ""
        for path in sorted((root / ARTIFACTS / name).glob(TABLES)):
            yield path, f"tables/{name}"
    for path in (DVC_LOCK, DVC_YAML):
        yield root / path, "pipeline"


def _weights(root: Path, names: list[str], hashes: Mapping[str, str]) -> Iterator[Weights]:
    """Name the weights of each stage that trained a model; a skipped stage's are empty."""
    for name in names:
        file = root / ARTIFACTS / name / WEIGHTS
        if file.is_file() and (size := file.stat().st_size):
            path = file.relative_to(root).as_posix()
            md5 = hashes.get(path) or hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
            yield Weights(name, file, path, md5, size)


def varied(variant: str) -> dict[str, Any]:
    """Return what the variant's own file changes against its parent, by dotted key."""
    if variant == "base":
        return {}
    base, parent = selection.original_base(), read_variant(variant).extends
    before, after = (resolve(base, variant=name, preset=None) for name in (parent, variant))
    return {key: new for key, (_, new) in differences(before, after).items()}


def _tags(params: Mapping[str, Any], origin: Origin, records: Mapping[str, Any], stages: Stages) -> dict[str, str]:
    versions: dict[str, set[str]] = {}
    for record in records.values():
        for package, version in {"python": record.get("python"), **record.get("versions", {})}.items():
            versions.setdefault(package, set()).add(str(version))
    return {
        **({"sweep": origin.sweep} if origin.sweep else {}),
        "task": params["task"]["name"],
        "variant": origin.variant,
        "preset": origin.preset,
        "seed": str(params["seed"]),
        "git_commit": origin.commit,
        "git_dirty": str(origin.dirty).lower(),
        "snapshot": origin.snapshot,
        "mlflow.source.git.commit": origin.commit,
        "data_path": params["data"]["path"],
        "data_md5": file_hashes(stages).get(params["data"]["path"], "unknown"),
        "host": _joined(record.get("host") for record in records.values()),
        "device": _joined(record.get("device") for record in records.values()),
        "versions": json.dumps({package: " | ".join(sorted(found)) for package, found in versions.items()}),
    }


def _verdicts(artifacts: Path) -> dict[str, str]:
    """Return what was decided in words: MLflow's metrics are numbers, its runs are filtered by tags."""
    assembly, alarms = description.assembly(artifacts), description.alarms(artifacts)
    found = {"assembled": str(assembly["assembled"])} if "assembled" in assembly else {}
    return found | ({"alarms": " ".join(alarms)} if alarms else {})


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
