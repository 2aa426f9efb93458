"""Publish what the working tree's pipeline produced to MLflow: once per pipeline fingerprint and store."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ups import tracking
from ups.pipeline import lock

if TYPE_CHECKING:
    from ups.pipeline.results import Result

RECORD = Path(".ups/published.json")
SURROGATE = Path("artifacts/evaluate/surrogate")


def publish() -> tracking.Link:
    """Publish the pipeline in `dvc.lock`, or find the run that already holds it.

    Raises:
        ArtifactError: if `dvc.lock` does not describe the working tree.
        TrackingError: if the tracking store cannot be reached; repeat later.
    """
    stages = lock.read_lock()
    lock.check_current(stages)
    fingerprint = lock.fingerprint(stages)
    known = _known(fingerprint)
    if known is not None:
        return known

    from ups.pipeline import collect

    origin = collect.working_tree()
    run = collect.collect(stages, origin)
    link = tracking.log(run, tracking.store())
    _register(link, Path(), run.experiment)
    _remember(link, fingerprint, origin.variant)
    return link


def publish_results(folder: Path, live: tracking.LiveRun | None = None) -> tracking.Link:
    """Publish the results of one variant and seed of a sweep, or find the run that already holds them.

    Args:
        folder: a folder in `.ups/results/`.
        live: the run that was opened when its stages began, if any; it is completed and closed.

    Raises:
        ArtifactError: if the folder holds no results.
        TrackingError: if the tracking store cannot be reached; repeat later.
    """
    from ups.pipeline import collect, results

    result = results.read(folder)
    link = None if live else _known(result.key)
    if link is None:
        stages = lock.read_lock(folder / lock.DVC_LOCK)
        run = collect.collect(stages, collect.of_results(folder, result))
        link = live.finish(run) if live else tracking.log(run, tracking.store())
        _register(link, folder, run.experiment)
    if _published_as(link, result.key) != result.variant:
        _name_after(link, result)
        _remember(link, result.key, result.variant)
    return link


def _name_after(link: tracking.Link, result: Result) -> None:
    """Call a run by the variant's name if it goes by `base`: who compares variants looks for theirs."""
    from ups.pipeline import collect

    if link.was_there and result.variant != "base":
        name = collect.run_name(result.variant, result.seed, result.preset)
        tracking.rename(link, name, {"variant": "base"}, {"variant": result.variant, "also": "base"})


def describe(link: tracking.Link) -> str:
    """Return a sentence on where the run is and how to look at it."""
    verb = "Already published" if link.was_there else "Published"
    if link.store.startswith("http"):
        place = page(link, link.store)
    else:
        place = f"look at it with `mlflow ui --backend-store-uri {link.store}`"
    return f"{verb} as MLflow run {link.run_id}: {place}"


def page(link: tracking.Link, server: str) -> str:
    """Return the address of a run's page on an MLflow server."""
    return f"{server}/{tracking.run_page(link.experiment_id, link.run_id)}"


def _register(link: tracking.Link, root: Path, name: str) -> None:
    """Register the surrogate of a run, if it made one, under the task's name."""
    bundle = root / SURROGATE
    if bundle.is_dir():
        tracking.register(link.run_id, bundle, name, link.store)


def _known(fingerprint: str) -> tracking.Link | None:
    """Return the run that holds a pipeline according to our own record, if it still counts as there."""
    store = tracking.store()
    known = _read().get(store, {}).get(fingerprint)
    if known and tracking.is_finished(store, known["run_id"]):
        return tracking.Link(store, known["run_id"], known["experiment_id"], was_there=True)
    return None


def _read() -> dict[str, dict[str, dict[str, str]]]:
    try:
        content = json.loads(RECORD.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}  # only a shortcut: MLflow itself is asked
    return content if isinstance(content, dict) else {}


def _published_as(link: tracking.Link, fingerprint: str) -> str | None:
    """Return the variant that a run was last published for, according to our own record."""
    known = _read().get(link.store, {}).get(fingerprint, {})
    return known.get("variant") if known.get("run_id") == link.run_id else None


def _remember(link: tracking.Link, fingerprint: str, variant: str) -> None:
    content = _read()
    record = {"run_id": link.run_id, "experiment_id": link.experiment_id, "variant": variant}
    content.setdefault(link.store, {})[fingerprint] = record
    RECORD.parent.mkdir(exist_ok=True)
    fresh = RECORD.with_name(f".{RECORD.name}.{os.getpid()}.tmp")
    fresh.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(fresh, RECORD)
