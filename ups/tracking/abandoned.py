"""Runs whose writer died: how they are known, and closing them."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TYPE_CHECKING

from ups.tracking.descriptions import DESCRIPTION
from ups.tracking.store import connect, explained, one_writer, store, writer

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIVE = Path(".ups/tracking")  # a locked file for each live run: a run without one was left by a dead writer


def close_abandoned(address: str | None = None) -> int:
    """Close the runs that a dead writer of this project on this machine left RUNNING; returns how many.

    Raises:
        TrackingError: if the store cannot be reached; the runs are closed by the next call that reaches it.
    """
    address = address or store()
    with one_writer(), explained(address):
        return close_those_left(connect(address))


def live_runs() -> list[str]:
    """Return the ids of the live runs of this project on this machine, abandoned ones included."""
    return [path.name for path in ALIVE.glob("*")]


def left_behind() -> bool:
    """Return whether a writer died with a live run; quick, without mlflow."""
    return any(not is_locked(path) for path in ALIVE.glob("*"))


def close_those_left(client: MlflowClient) -> int:
    """Close RUNNING runs of this project on this machine whose writer is dead. The caller holds the writers' lock."""
    mine = " and ".join(f"tags.`{key}` = '{value}'" for key, value in writer().items())
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    count = 0
    for left in client.search_runs(experiments, f"attributes.status = 'RUNNING' and {mine}") if experiments else ():
        sign = ALIVE / left.info.run_id
        if is_locked(sign):
            continue
        client.set_tag(left.info.run_id, DESCRIPTION, "Left unfinished by a crash; closed afterwards.")
        client.set_terminated(left.info.run_id, "KILLED")
        count += 1
    for sign in ALIVE.glob("*"):
        if not is_locked(sign):
            sign.unlink(missing_ok=True)
    return count


class Alive:
    """The sign that a live run has a writer: a file that is locked until the process ends."""

    def __init__(self, run_id: str) -> None:
        ALIVE.mkdir(parents=True, exist_ok=True)
        self._path = (ALIVE / run_id).absolute()
        self._file = self._path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def over(self) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()


def is_locked(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
