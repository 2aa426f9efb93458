"""Write one run to an MLflow tracking store. The only module that imports mlflow, and only when it is used.

A run is identified by the fingerprint of its pipeline: if a finished run with that fingerprint is there, it is linked
instead of repeated; one that a crash left RUNNING is closed as KILLED and made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ups.errors import UpsError

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_STORE = "sqlite:///mlflow.db"
FINGERPRINT_TAG = "pipeline_fingerprint"
# MLflow's limits on one request.
_METRICS_PER_REQUEST, _PAIRS_PER_REQUEST, _PARAM_LENGTH, _TAG_LENGTH = 1000, 100, 6000, 8000


class TrackingError(UpsError):
    """The tracking store cannot be reached or refused what was sent."""


@dataclass(frozen=True)
class Point:
    """One value of a curve at one step; `timestamp` in seconds since the epoch."""

    key: str
    step: int
    value: float
    timestamp: float


@dataclass(frozen=True)
class Run:
    """All that one MLflow run is to hold.

    Attributes:
        experiment: the experiment's name.
        name: the run's name.
        fingerprint: of the pipeline whose results these are.
        started, finished: seconds since the epoch.
        params: values by dotted key.
        tags: text by name.
        points: curves and final metrics.
        files: (path, folder among the run's artifacts).
        documents: JSON content by file name among the run's artifacts.
    """

    experiment: str
    name: str
    fingerprint: str
    started: float
    finished: float
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    points: Sequence[Point] = ()
    files: Sequence[tuple[Path, str]] = ()
    documents: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Link:
    """Where a run is: store, id, and whether it was there before."""

    store: str
    run_id: str
    experiment_id: str
    was_there: bool


def store() -> str:
    """Return the address of the tracking store in use.

    A database file is named by its absolute path: mlflow keeps stores by address, whatever the current folder becomes.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
    path = _database(address)
    return address if path is None else f"sqlite:///{path.absolute()}"


def metric_key(*parts: str) -> str:
    """Return a metric name that MLflow accepts: `nrmse@h16` becomes `nrmse_h16`."""
    return re.sub(r"[^/\w.\- ]", "_", "/".join(parts))


def is_finished(address: str, run_id: str) -> bool:
    """Return whether a run recorded earlier still counts as there; quick, without mlflow.

    A database file is asked. A server is believed: asking would make every unchanged run wait for it.
    """
    path = _database(address)
    if path is None:
        return True
    if not path.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            row = database.execute("SELECT status, lifecycle_stage FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
    except sqlite3.Error:
        return False  # MLflow itself is asked next, and reports what is wrong
    return row == ("FINISHED", "active")


def log(run: Run, address: str | None = None) -> Link:
    """Write a run, or find the finished one with the same fingerprint.

    Args:
        run: what to write.
        address: the tracking store; `MLFLOW_TRACKING_URI` or the project's database by default.

    Raises:
        TrackingError: if the store cannot be reached or refuses; a run that this call began is closed as FAILED.
    """
    address = address or store()
    with _one_writer(), _explained(address):
        client = _client(address)
        experiment_id = _experiment(client, run.experiment, address)
        found = client.search_runs(
            [experiment_id], f"tags.{FINGERPRINT_TAG} = '{run.fingerprint}'", order_by=["attributes.start_time DESC"]
        )
        for earlier in found:
            if earlier.info.status == "FINISHED":
                return Link(address, earlier.info.run_id, experiment_id, was_there=True)
        _close_abandoned(client, experiment_id, run)
        return Link(address, _write(client, experiment_id, run), experiment_id, was_there=False)


def download_bundle(uri: str, folder: Path, address: str | None = None) -> Path:
    """Download a surrogate from the store.

    Args:
        uri: `models:/<name>@<alias>`, `models:/<name>/<version>` or `runs:/<run id>/<path>`: a surrogate logged as a
            model, or a bundle among a run's artifacts.
        folder: existing; where it goes.
        address: the tracking store, as for `log`.

    Returns:
        The bundle's folder, inside `folder`. Nothing in it has been checked.

    Raises:
        TrackingError: if MLflow is not installed, the store cannot be reached, or has no surrogate there.
    """
    address = address or store()
    path = _database(address)
    if path is not None and not path.is_file():
        raise TrackingError(
            f"{uri} cannot be looked up: there is no tracking store {address}. Go to the project's folder, or set "
            "MLFLOW_TRACKING_URI."
        )
    registry = os.environ.get("MLFLOW_REGISTRY_URI") or address
    try:
        _client(address)
    except ImportError:
        raise TrackingError(
            f"{uri} is kept by MLflow, which is not installed: `pip install mlflow` or `pip install "
            "'ups-pipeline[pipeline]'`. A bundle's folder loads without it."
        ) from None
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        place = Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=str(folder), tracking_uri=address, registry_uri=registry
            )
        )
        if not (place / "MLmodel").is_file():
            return place
        flavor = mlflow.models.Model.load(str(place)).flavors.get("python_function", {})
    except (MlflowException, OSError) as error:
        reason = _without_password(" ".join(str(error).split())[:400])
        raise TrackingError(f"{uri} could not be had from {_without_password(address)}: {reason}") from error
    data = str(flavor.get("data", ""))
    bundle = place / data
    if flavor.get("loader_module") != "ups.serving" or not bundle.resolve().is_relative_to(place.resolve()):
        raise TrackingError(f"{uri} is an MLflow model, but not a surrogate of this project.")
    return bundle


def _write(client: MlflowClient, experiment_id: str, run: Run) -> str:
    from mlflow.entities import Metric, Param, RunTag

    tags = {**run.tags, FINGERPRINT_TAG: run.fingerprint, **_writer()}
    created = client.create_run(experiment_id, start_time=int(run.started * 1000), run_name=run.name, tags=_cut(tags))
    run_id = created.info.run_id
    try:
        params = [Param(key, _text(value)[:_PARAM_LENGTH]) for key, value in run.params.items()]
        for some in _chunks(params, _PAIRS_PER_REQUEST):
            client.log_batch(run_id, params=some)
        metrics = [Metric(p.key, p.value, int(p.timestamp * 1000), p.step) for p in run.points]
        for points in _chunks(metrics, _METRICS_PER_REQUEST):
            client.log_batch(run_id, metrics=points)
        for path, folder in run.files:
            client.log_artifact(run_id, str(path), folder or None)
        for name, content in run.documents.items():
            client.log_dict(run_id, content, name)
        client.log_batch(run_id, tags=[RunTag("complete", "true")])
        client.set_terminated(run_id, "FINISHED", end_time=int(run.finished * 1000))
    except BaseException:
        with contextlib.suppress(Exception):  # the first failure is the one to report
            client.set_terminated(run_id, "FAILED")
        raise
    return run_id


def _close_abandoned(client: MlflowClient, experiment_id: str, run: Run) -> None:
    """Close runs that a writer of this project on this machine left RUNNING: one writes at a time, so it is dead."""
    mine = " and ".join(f"tags.`{key}` = '{value}'" for key, value in _writer().items())
    for left in client.search_runs([experiment_id], f"attributes.status = 'RUNNING' and {mine}"):
        note = f"Left unfinished by a crash; closed when '{run.name}' was published."
        client.set_tag(left.info.run_id, "mlflow.note.content", note)
        client.set_terminated(left.info.run_id, "KILLED")


def _writer() -> dict[str, str]:
    return {"writer_host": os.uname().nodename, "writer_project": str(Path.cwd())}


def _client(address: str) -> MlflowClient:
    # Seconds instead of minutes until an absent server is reported; what is set outside wins.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    import mlflow

    # A new database announces each of its migrations otherwise.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow.MlflowClient(tracking_uri=address)


def _experiment(client: MlflowClient, name: str, address: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        path = _database(address)  # files lie beside a database file; a server knows its own place
        return str(client.create_experiment(name, str(path.parent / "mlruns" / name) if path else None))
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


@contextlib.contextmanager
def _one_writer() -> Iterator[None]:
    """Let one process of this project write at a time: two first users of a new database crash in its migrations."""
    folder = Path(".ups") if os.access(".", os.W_OK) else Path(tempfile.gettempdir())
    folder.mkdir(exist_ok=True)
    with (folder / "tracking.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _explained(address: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:  # requests' errors are OSErrors
        reason = _without_password(" ".join(str(error).split())[:400])
        raise TrackingError(
            f"The tracking store {_without_password(address)} could not be written: {reason} Nothing is lost, the "
            f"results are in artifacts/. Mend it, or set MLFLOW_TRACKING_URI to another one, and run `ups publish`."
        ) from error


def _database(address: str) -> Path | None:
    return Path(address.removeprefix("sqlite:///")) if address.startswith("sqlite:///") else None


def _without_password(address: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//***@", address)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cut(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value[:_TAG_LENGTH] for key, value in tags.items()}


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
