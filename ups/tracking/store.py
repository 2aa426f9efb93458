"""The tracking store: its address, a client, one writer at a time, and errors that say what to do."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ups.errors import UpsError
from ups.tracking.descriptions import DESCRIPTION, of_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_STORE = "sqlite:///mlflow.db"
# Without it MLflow's pages take a new experiment for one of language models, and show no runs and no curves at first.
_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}


class TrackingError(UpsError):
    """The tracking store cannot be reached or refused what was sent."""


def store() -> str:
    """Return the address of the tracking store in use.

    A database file is named by its absolute path: mlflow keeps stores by address, whatever the current folder becomes.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
    path = database_file(address)
    return address if path is None else f"sqlite:///{path.absolute()}"


def registry(address: str) -> str:
    """Return the address of the model registry that belongs to a tracking store."""
    return os.environ.get("MLFLOW_REGISTRY_URI") or address


def metric_key(*parts: str) -> str:
    """Return a metric name that MLflow accepts: `nrmse@h16` becomes `nrmse_h16`."""
    return re.sub(r"[^/\w.\- ]", "_", "/".join(parts))


def is_finished(address: str, run_id: str) -> bool:
    """Return whether a run recorded earlier still counts as there; quick, without mlflow.

    A database file is asked. A server is believed: asking would make every unchanged run wait for it.
    """
    path = database_file(address)
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


def connect(address: str) -> MlflowClient:
    # Seconds instead of minutes until an absent server is reported; what is set outside wins.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    # A new database announces each of its migrations otherwise.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Named outright: what an earlier call set for the whole process may be another store's.
    return mlflow.MlflowClient(tracking_uri=address, registry_uri=registry(address))


def find_experiment(client: MlflowClient, name: str, address: str, about: str = "") -> str:
    """Return the id of an experiment, made if need be, and describe it if nobody has done so.

    Args:
        client: of the store.
        name: the experiment's.
        address: the store's.
        about: Markdown of what its runs have in common; "" describes nothing.
    """
    experiment_id, described = _find_experiment(client, name, address)
    if about and not described:
        client.set_experiment_tag(experiment_id, DESCRIPTION, of_experiment(about, experiment_id))
    return experiment_id


def _find_experiment(client: MlflowClient, name: str, address: str) -> tuple[str, bool]:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        path = database_file(address)  # files lie beside a database file; a server knows its own place
        place = str(path.parent / "mlruns" / name) if path else None
        return str(client.create_experiment(name, place, tags=_MODEL_TRAINING)), False
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id), DESCRIPTION in experiment.tags


def writer() -> dict[str, str]:
    return {"writer_host": os.uname().nodename, "writer_project": str(Path.cwd())}


@contextlib.contextmanager
def one_writer() -> Iterator[None]:
    """Let one process of this project write at a time: two first users of a new database crash in its migrations."""
    folder = Path(".ups") if os.access(".", os.W_OK) else Path(tempfile.gettempdir())
    folder.mkdir(exist_ok=True)
    with (folder / "tracking.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def explained(address: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:  # requests' errors are OSErrors
        reason = without_password(" ".join(str(error).split())[:400])
        raise TrackingError(
            f"The tracking store {without_password(address)} could not be written: {reason} Nothing is lost, the "
            f"results are in artifacts/. Mend it, or set MLFLOW_TRACKING_URI to another one, and run `ups publish`."
        ) from error


def database_file(address: str) -> Path | None:
    return Path(address.removeprefix("sqlite:///")) if address.startswith("sqlite:///") else None


def without_password(address: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//***@", address)
