"""Write runs to the tracking store: at once, or while their stages still run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ups.tracking.abandoned import Alive, close_those_left
from ups.tracking.descriptions import DESCRIPTION, of_run
from ups.tracking.records import Link, Point, Run, Weights
from ups.tracking.store import connect, explained, find_experiment, one_writer, store, writer

if TYPE_CHECKING:
    from mlflow import MlflowClient

FINGERPRINT_TAG = "pipeline_fingerprint"
_MADE, _CACHED_FROM = "made.", "cached_from."
# MLflow's limits on one request.
_METRICS_PER_REQUEST, _PAIRS_PER_REQUEST, _PARAM_LENGTH, _TAG_LENGTH = 1000, 100, 6000, 8000


def log(run: Run, address: str | None = None) -> Link:
    """Write a run, or find the finished one with the same fingerprint.

    Args:
        run: what to write.
        address: the tracking store; `MLFLOW_TRACKING_URI` or the project's database by default.

    Raises:
        TrackingError: if the store cannot be reached or refuses; a run that this call began is closed as FAILED.
    """
    address = address or store()
    with one_writer(), explained(address):
        client = connect(address)
        experiment_id = find_experiment(client, run.experiment, address, run.about)
        earlier = _finished(client, experiment_id, run.fingerprint)
        if earlier:
            return Link(address, earlier, experiment_id, was_there=True)
        close_those_left(client)
        run_id = _create(client, experiment_id, run.name, run.started, run.tags)
        with _failing(client, run_id):
            _send_params(client, run_id, run.params)
            _complete(client, experiment_id, run_id, run, run.points)
        return Link(address, run_id, experiment_id, was_there=False)


def rename(link: Link, name: str, before: Mapping[str, str], tags: Mapping[str, str]) -> bool:
    """Give a run another name and tags if it still has the tags `before`; returns whether it had.

    Raises:
        TrackingError: if the store cannot be reached or refuses.
    """
    with one_writer(), explained(link.store):
        client = connect(link.store)
        have = client.get_run(link.run_id).data.tags
        if any(have.get(key) != value for key, value in before.items()):
            return False
        for key, value in {**tags, "mlflow.runName": name}.items():
            client.set_tag(link.run_id, key, value)
        return True


class LiveRun:
    """A run that is written while its stages run. Its file in `.ups/tracking` is locked as long as its writer lives.

    Args:
        experiment, name, started, params, tags, about: as in `Run`; whatever is known by now.
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
        about: str = "",
    ) -> None:
        self.address = address or store()
        self._sent: set[tuple[str, int]] = set()
        with one_writer(), explained(self.address):
            self._client = connect(self.address)
            self.experiment_id = find_experiment(self._client, experiment, self.address, about)
            close_those_left(self._client)
            self.run_id = _create(self._client, self.experiment_id, name, started, tags)
            self._alive = Alive(self.run_id)
            with _failing(self._client, self.run_id):
                _send_params(self._client, self.run_id, params)

    def send(self, points: Iterable[Point]) -> None:
        """Add those points whose key and step were not sent before."""
        fresh = [point for point in points if (point.key, point.step) not in self._sent]
        if fresh:
            with explained(self.address):
                _send_points(self._client, self.run_id, fresh)
            self._sent |= {(point.key, point.step) for point in fresh}

    def finish(self, run: Run) -> Link:
        """Add what is missing and close the run; if another process published the same meanwhile, drop this one."""
        with one_writer(), explained(self.address):
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
        with explained(self.address):
            self._client.set_tag(self.run_id, DESCRIPTION, reason)
            self._client.set_terminated(self.run_id, status)
        self._alive.over()


def _finished(client: MlflowClient, experiment_id: str, fingerprint: str) -> str | None:
    found = client.search_runs(
        [experiment_id],
        f"tags.{FINGERPRINT_TAG} = '{fingerprint}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return str(found[0].info.run_id) if found else None


def _create(client: MlflowClient, experiment_id: str, name: str, started: float, tags: Mapping[str, str]) -> str:
    all_tags = _cut({**tags, **writer()})
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
    """Add points, files, tables and tags, and close the run."""
    from mlflow.entities import RunTag

    _send_points(client, run_id, points)
    makers = _makers(client, experiment_id, run.outputs)
    for weights in run.weights:
        if weights.stage not in makers:
            client.log_artifact(run_id, str(weights.file), f"weights/{weights.stage}")
    references = [_reference(weights, makers.get(weights.stage, (run_id, ""))[0]) for weights in run.weights]
    for path, folder in run.files:
        client.log_artifact(run_id, str(path), folder or None)
    documents = {**run.documents, **({"checkpoints.json": references} if references else {})}
    for name, content in documents.items():
        if isinstance(content, str):
            client.log_text(run_id, content, name)
        else:
            client.log_dict(run_id, content, name)
    for name, table in run.tables.items():
        client.log_table(run_id, {column: list(values) for column, values in table.items()}, name)
    origin = {
        f"{_CACHED_FROM}{stage}" if stage in makers else f"{_MADE}{stage}": makers.get(stage, (output, ""))[0]
        for stage, output in run.outputs.items()
    }
    described = {DESCRIPTION: of_run(run.summary, experiment_id, makers, bool(run.tables))} if run.summary else {}
    tags = _cut({**run.tags, **origin, **described, FINGERPRINT_TAG: run.fingerprint})
    for some in _chunks([RunTag(key, value) for key, value in tags.items()], _PAIRS_PER_REQUEST):
        client.log_batch(run_id, tags=some)
    client.set_terminated(run_id, "FINISHED", end_time=int(run.finished * 1000))


def _makers(client: MlflowClient, experiment_id: str, outputs: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return by stage the id and name of the finished run that was the first to hold its output."""
    makers = {}
    for stage, output in outputs.items():
        wanted = f"tags.`{_MADE}{stage}` = '{output}' and attributes.status = 'FINISHED'"
        found = client.search_runs([experiment_id], wanted, max_results=1)
        if found:
            makers[stage] = str(found[0].info.run_id), str(found[0].info.run_name)
    return makers


def _reference(weights: Weights, run_id: str) -> dict[str, Any]:
    """Return where the bytes are: in an MLflow run, and under their md5 in DVC's cache."""
    place = {"run_id": run_id, "artifact": f"weights/{weights.stage}/{weights.file.name}"}
    return {"stage": weights.stage, "path": weights.path, "md5": weights.md5, "bytes": weights.bytes, **place}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cut(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value[:_TAG_LENGTH] for key, value in tags.items()}


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
