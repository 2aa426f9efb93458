"""Read runs back from the tracking store."""

from __future__ import annotations

from typing import Any

from ups.tracking.records import Published
from ups.tracking.store import TrackingError, connect, explained, store, without_password


def read_run(run_id: str, address: str | None = None) -> Published:
    """Read one run.

    Raises:
        TrackingError: if the store cannot be reached or has no such run.
    """
    address = address or store()
    from mlflow.exceptions import MlflowException

    try:
        client = connect(address)
        run = client.get_run(run_id)
        return _published(run, client.get_experiment(run.info.experiment_id).name)
    except (MlflowException, OSError) as error:
        reason = without_password(" ".join(str(error).split())[:400])
        raise TrackingError(
            f"The run '{run_id}' cannot be read from {without_password(address)}: {reason.rstrip('.')}. Its id stands "
            f"on its page in MLflow and in the output of `ups publish`; MLFLOW_TRACKING_URI names another store."
        ) from error


def finished_runs(address: str | None = None) -> list[Published]:
    """Return every finished run of all experiments that holds a pipeline's results, the latest first.

    Raises:
        TrackingError: if the store cannot be reached.
    """
    address = address or store()
    with explained(address):
        client = connect(address)
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
