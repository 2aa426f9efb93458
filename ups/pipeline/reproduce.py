"""From an MLflow run back to its results: the exact code, parameters and data in a workspace, run again and compared.

The run's snapshot is cut into `.ups/workspaces/reproduce-<run id>/`. With the shared cache, stages whose results are
there are restored and compared; with `rerun`, the workspace has a cache of its own, so that every stage runs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ups import tracking
from ups.errors import ArtifactError, DataError, UpsError
from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import flatten
from ups.pipeline import collect, executions, snapshot
from ups.pipeline.dvc_store import cache_folder, file_md5
from ups.pipeline.execute import dvc_command, environment
from ups.pipeline.lock import DVC_LOCK, read_lock
from ups.pipeline.locks import Lock
from ups.pipeline.workspace import FOLDER, configure_cache
from ups.tracking import Published

# What a machine and its load decide; shown by `ups compare`, never equal twice.
_MACHINE = re.compile(r"seconds|memory|bytes")


@dataclass(frozen=True)
class Difference:
    """A metric that is not what was published; None where it is missing."""

    metric: str
    published: float | None
    found: float | None

    @property
    def relative(self) -> float:
        """Return the difference as a share of the larger value; infinite if one is missing."""
        if self.published is None or self.found is None:
            return float("inf")
        return abs(self.published - self.found) / max(abs(self.published), abs(self.found), 1e-300)


@dataclass(frozen=True)
class Reproduction:
    """What came out.

    Attributes:
        run_id, name: of the MLflow run.
        commit: of code and parameters.
        workspace: where it was run.
        executed, restored: stages that ran, and that came from the cache.
        compared: how many metrics were compared.
        differences: the metrics that differ by more than the tolerance, the largest first.
        environment: how the packages differ from those of the run.
    """

    run_id: str
    name: str
    commit: str
    workspace: Path
    executed: list[str]
    restored: list[str]
    compared: int
    differences: list[Difference]
    environment: list[str]


def reproduce(run_id: str, rerun: bool = False, tolerance: float = 1e-6) -> Reproduction:
    """Run what an MLflow run was made from and compare every metric.

    Args:
        run_id: of the run.
        rerun: execute every stage, instead of taking from the cache what is there.
        tolerance: largest relative difference of a metric that passes.

    Raises:
        UpsError: if code or data of the run are not here, or a stage fails.
    """
    run = tracking.read_run(run_id)
    root = Path.cwd()
    commit = _commit(root, run)
    workspace = root / FOLDER / f"reproduce-{run.run_id[:12]}"
    with Lock(f"workspace-{workspace.name}", root / ".ups" / "locks").held():
        _cut(root, workspace, commit)
        _check_parameters(workspace, run)
        _bring_data(root, workspace, run)
        cache = workspace / ".ups" / "cache" if rerun else cache_folder(root)
        if rerun:
            shutil.rmtree(cache, ignore_errors=True)
            (workspace / DVC_LOCK).unlink(missing_ok=True)
        configure_cache(workspace, cache)
        began = time.time()
        code = subprocess.run(dvc_command("repro"), cwd=workspace, env=environment(), check=False).returncode
        if code:
            raise ArtifactError(f"`dvc repro` failed in {workspace}, see above. Mend the cause and run this again.")
        return _compare(run, commit, workspace, began, tolerance)


def _commit(root: Path, run: Published) -> str:
    commit = run.tags.get("snapshot", "")
    try:
        return snapshot.git(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    except UpsError:
        raise ArtifactError(
            f"The code of run {run.run_id} ({run.name}) is the commit '{commit or 'unknown'}', which this repository "
            f"does not hold. If it was made in another clone, push it there with `git push <remote> 'refs/ups/*'` and "
            f"fetch it here with `git fetch <remote> 'refs/ups/*:refs/ups/*'`."
        ) from None


def _cut(root: Path, workspace: Path, commit: str) -> None:
    with Lock("git", root / ".ups" / "locks").held():
        if workspace.exists():
            shutil.rmtree(workspace)
        snapshot.git(root, "worktree", "prune")
        snapshot.git(root, "worktree", "add", "--quiet", "--force", "--detach", str(workspace), commit)


def _check_parameters(workspace: Path, run: Published) -> None:
    for key, value in flatten(read_yaml(workspace / BASE)).items():
        text = value if isinstance(value, str) else json.dumps(value)
        if key in run.params and _plain(run.params[key]) != _plain(text):
            raise ArtifactError(
                f"The run was made with {key} = {run.params[key]}, its snapshot has {text}: it was published by hand "
                f"or altered since, and cannot be reproduced from the snapshot."
            )


def _plain(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _bring_data(root: Path, workspace: Path, run: Published) -> None:
    """Link the data file into the workspace unless a stage makes it."""
    path = run.tags.get("data_path", "")
    if path.startswith("artifacts/"):
        return
    wanted = run.tags.get("data_md5", "unknown")
    if not (root / path).is_file():
        raise DataError(f"The run was made from {path} with md5 {wanted}, which is not here. Put it there again.")
    found = file_md5(root / path)
    if found != wanted:
        raise DataError(f"{path} has md5 {found}; the run was made from a file with md5 {wanted}.")
    place = workspace / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to((root / path).resolve())


def _compare(run: Published, commit: str, workspace: Path, began: float, tolerance: float) -> Reproduction:
    names = list(read_lock(workspace / DVC_LOCK))
    artifacts = workspace / collect.ARTIFACTS
    records = {name: json.loads((artifacts / name / "provenance.json").read_text(encoding="utf-8")) for name in names}
    executed = [name for name in names if records[name]["started"] >= began]
    found = _comparable(collect.final_metrics(artifacts, names))
    published = _comparable(run.metrics)
    pairs = [Difference(key, published.get(key), found.get(key)) for key in sorted({*found, *published})]
    differing = [pair for pair in pairs if pair.relative > tolerance]
    return Reproduction(
        run.run_id,
        run.name,
        commit,
        workspace,
        executed,
        [name for name in names if name not in executed],
        len(pairs),
        sorted(differing, key=lambda pair: -pair.relative),
        _environment(run),
    )


def _comparable(metrics: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if not _MACHINE.search(key)}


def _environment(run: Published) -> list[str]:
    then = json.loads(run.tags.get("versions", "{}"))
    now = executions.environment({})
    return [f"{name} {then[name]}, now {now[name]}" for name in sorted(then) if name in now and then[name] != now[name]]
