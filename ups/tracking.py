"""Write one run to an MLflow tracking store. The only module that imports mlflow, and only when it is used.

A run is identified by the fingerprint of its pipeline: if a finished run with that fingerprint is there, it is linked
instead of repeated; one that a crash left RUNNING is closed as KILLED and made anew. A run may be written at once
(`log`) or while its stages still run (`LiveRun`).
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
ALIVE = Path(".ups/tracking")  # a locked file for each live run: a run without one was left by a dead writer
_MADE, _CACHED_FROM = "made.", "cached_from."
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
        documents: text, or JSON content, by file name among the run's artifacts.
        outputs: what identifies the output of each stage. The first run to hold an output holds its weights too; later
            ones say in the tag `cached_from.<stage>` which run that is.
        weights: files of weights.
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
    outputs: Mapping[str, str] = field(default_factory=dict)
    weights: Sequence[Weights] = ()


@dataclass(frozen=True)
class Weights:
    """A stage's file of weights: where it is, its place in the project, its md5 and size in bytes."""

    stage: str
    file: Path
    path: str
    md5: str
    bytes: int


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
        earlier = _finished(client, experiment_id, run.fingerprint)
        if earlier:
            return Link(address, earlier, experiment_id, was_there=True)
        _close_abandoned(client)
        run_id = _create(client, experiment_id, run.name, run.started, run.tags)
        with _failing(client, run_id):
            _send_params(client, run_id, run.params)
            _complete(client, experiment_id, run_id, run, run.points)
        return Link(address, run_id, experiment_id, was_there=False)


class LiveRun:
    """A run that is written while its stages run. Its file in `.ups/tracking` is locked as long as its writer lives.

    Args:
        experiment, name, started, params, tags: as in `Run`; whatever is known by now.
        address: the tracking store.

    Raises:
        TrackingError: if the store cannot be reached or refuses. So do all methods.
    """

    def __init__(
        self,
        experiment: str,
        name: str,
        started: float,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        address: str | None = None,
    ) -> None:
        self.address = address or store()
        self._sent: set[tuple[str, int]] = set()
        with _one_writer(), _explained(self.address):
            self._client = _client(self.address)
            self.experiment_id = _experiment(self._client, experiment, self.address)
            _close_abandoned(self._client)
            self.run_id = _create(self._client, self.experiment_id, name, started, tags)
            self._alive = _Alive(self.run_id)
            with _failing(self._client, self.run_id):
                _send_params(self._client, self.run_id, params)

    def send(self, points: Iterable[Point]) -> None:
        """Add those points whose key and step were not sent before."""
        fresh = [point for point in points if (point.key, point.step) not in self._sent]
        if fresh:
            with _explained(self.address):
                _send_points(self._client, self.run_id, fresh)
            self._sent |= {(point.key, point.step) for point in fresh}

    def finish(self, run: Run) -> Link:
        """Add what is missing and close the run; if another process published the same meanwhile, drop this one."""
        with _one_writer(), _explained(self.address):
            earlier = _finished(self._client, self.experiment_id, run.fingerprint)
            if earlier:
                self._client.set_terminated(self.run_id, "KILLED")
                self._client.delete_run(self.run_id)
                self._alive.over()
                return Link(self.address, earlier, self.experiment_id, was_there=True)
            fresh = [point for point in run.points if (point.key, point.step) not in self._sent]
            with _failing(self._client, self.run_id):
                _complete(self._client, self.experiment_id, self.run_id, run, fresh)
        self._alive.over()
        return Link(self.address, self.run_id, self.experiment_id, was_there=False)

    def abandon(self, status: str, reason: str) -> None:
        """Close the run as FAILED or KILLED and say why."""
        with _explained(self.address):
            self._client.set_tag(self.run_id, "mlflow.note.content", reason)
            self._client.set_terminated(self.run_id, status)
        self._alive.over()


@dataclass(frozen=True)
class Published:
    """A run as the store holds it; of a curve, `metrics` has the last value."""

    run_id: str
    experiment: str
    name: str
    status: str
    started: float
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def read_run(run_id: str, address: str | None = None) -> Published:
    """Read one run.

    Raises:
        TrackingError: if the store cannot be reached or has no such run.
    """
    address = address or store()
    from mlflow.exceptions import MlflowException

    try:
        client = _client(address)
        run = client.get_run(run_id)
        return _published(run, client.get_experiment(run.info.experiment_id).name)
    except (MlflowException, OSError) as error:
        reason = _without_password(" ".join(str(error).split())[:400])
        raise TrackingError(
            f"The run '{run_id}' cannot be read from {_without_password(address)}: {reason} Its id stands on its page "
            f"in MLflow and in the output of `ups publish`; MLFLOW_TRACKING_URI names another store."
        ) from error


def finished_runs(address: str | None = None) -> list[Published]:
    """Return every finished run of all experiments that holds a pipeline's results, the latest first.

    Raises:
        TrackingError: if the store cannot be reached.
    """
    address = address or store()
    with _explained(address):
        client = _client(address)
        names = {each.experiment_id: each.name for each in client.search_experiments()}
        found, token = [], None
        while names:
            page = client.search_runs(
                list(names),
                "attributes.status = 'FINISHED' and tags.variant != ''",
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            found += [_published(run, names[run.info.experiment_id]) for run in page]
            token = page.token
            if not token:
                break
    return found


def _published(run: Any, experiment: str) -> Published:
    info, data = run.info, run.data
    return Published(
        info.run_id,
        experiment,
        info.run_name,
        info.status,
        info.start_time / 1000,
        dict(data.tags),
        dict(data.params),
        dict(data.metrics),
    )


def close_abandoned(address: str | None = None) -> int:
    """Close the runs that a dead writer of this project on this machine left RUNNING; returns how many.

    Raises:
        TrackingError: if the store cannot be reached; the runs are closed by the next call that reaches it.
    """
    address = address or store()
    with _one_writer(), _explained(address):
        return _close_abandoned(_client(address))


def live_runs() -> list[str]:
    """Return the ids of the live runs of this project on this machine, abandoned ones included."""
    return [path.name for path in ALIVE.glob("*")]


def left_behind() -> bool:
    """Return whether a writer died with a live run; quick, without mlflow."""
    return any(not _is_locked(path) for path in ALIVE.glob("*"))


def _finished(client: MlflowClient, experiment_id: str, fingerprint: str) -> str | None:
    found = client.search_runs(
        [experiment_id],
        f"tags.{FINGERPRINT_TAG} = '{fingerprint}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return str(found[0].info.run_id) if found else None


def _create(client: MlflowClient, experiment_id: str, name: str, started: float, tags: Mapping[str, str]) -> str:
    all_tags = _cut({**tags, **_writer()})
    created = client.create_run(experiment_id, start_time=int(started * 1000), run_name=name, tags=all_tags)
    return str(created.info.run_id)


@contextlib.contextmanager
def _failing(client: MlflowClient, run_id: str) -> Iterator[None]:
    """Close the run as FAILED if writing it fails."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):  # the first failure is the one to report
            client.set_terminated(run_id, "FAILED")
        raise


def _send_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    pairs = [Param(key, _text(value)[:_PARAM_LENGTH]) for key, value in params.items()]
    for some in _chunks(pairs, _PAIRS_PER_REQUEST):
        client.log_batch(run_id, params=some)


def _send_points(client: MlflowClient, run_id: str, points: Sequence[Point]) -> None:
    from mlflow.entities import Metric

    metrics = [Metric(p.key, p.value, int(p.timestamp * 1000), p.step) for p in points]
    for some in _chunks(metrics, _METRICS_PER_REQUEST):
        client.log_batch(run_id, metrics=some)


def _complete(client: MlflowClient, experiment_id: str, run_id: str, run: Run, points: Sequence[Point]) -> None:
    """Add points, files and tags, and close the run."""
    from mlflow.entities import RunTag

    _send_points(client, run_id, points)
    makers = _makers(client, experiment_id, run.outputs)
    for weights in run.weights:
        if weights.stage not in makers:
            client.log_artifact(run_id, str(weights.file), f"weights/{weights.stage}")
    references = [_reference(weights, makers.get(weights.stage, run_id)) for weights in run.weights]
    for path, folder in run.files:
        client.log_artifact(run_id, str(path), folder or None)
    documents = {**run.documents, **({"checkpoints.json": references} if references else {})}
    for name, content in documents.items():
        if isinstance(content, str):
            client.log_text(run_id, content, name)
        else:
            client.log_dict(run_id, content, name)
    origin = {
        f"{_CACHED_FROM}{stage}" if stage in makers else f"{_MADE}{stage}": makers.get(stage, output)
        for stage, output in run.outputs.items()
    }
    tags = _cut({**run.tags, **origin, FINGERPRINT_TAG: run.fingerprint})
    for some in _chunks([RunTag(key, value) for key, value in tags.items()], _PAIRS_PER_REQUEST):
        client.log_batch(run_id, tags=some)
    client.set_terminated(run_id, "FINISHED", end_time=int(run.finished * 1000))


def _makers(client: MlflowClient, experiment_id: str, outputs: Mapping[str, str]) -> dict[str, str]:
    """Return by stage the finished run that was the first to hold its output."""
    makers = {}
    for stage, output in outputs.items():
        wanted = f"tags.`{_MADE}{stage}` = '{output}' and attributes.status = 'FINISHED'"
        found = client.search_runs([experiment_id], wanted, max_results=1)
        if found:
            makers[stage] = str(found[0].info.run_id)
    return makers


def _reference(weights: Weights, run_id: str) -> dict[str, Any]:
    """Return where the bytes are: in an MLflow run, and under their md5 in DVC's cache."""
    place = {"run_id": run_id, "artifact": f"weights/{weights.stage}/{weights.file.name}"}
    return {"stage": weights.stage, "path": weights.path, "md5": weights.md5, "bytes": weights.bytes, **place}


class _Alive:
    """The sign that a live run has a writer: a file that is locked until the process ends."""

    def __init__(self, run_id: str) -> None:
        ALIVE.mkdir(parents=True, exist_ok=True)
        self._path = (ALIVE / run_id).absolute()
        self._file = self._path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def over(self) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()


def _is_locked(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _close_abandoned(client: MlflowClient) -> int:
    """Close RUNNING runs of this project on this machine whose writer is dead. The caller holds the writers' lock."""
    mine = " and ".join(f"tags.`{key}` = '{value}'" for key, value in _writer().items())
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    count = 0
    for left in client.search_runs(experiments, f"attributes.status = 'RUNNING' and {mine}") if experiments else ():
        sign = ALIVE / left.info.run_id
        if _is_locked(sign):
            continue
        client.set_tag(left.info.run_id, "mlflow.note.content", "Left unfinished by a crash; closed afterwards.")
        client.set_terminated(left.info.run_id, "KILLED")
        count += 1
    for sign in ALIVE.glob("*"):
        if not _is_locked(sign):
            sign.unlink(missing_ok=True)
    return count


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
