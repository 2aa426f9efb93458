"""What `make up` noted about the processes that it started; `flows.services` starts and stops them."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import psutil

FOLDER = Path(".ups/services")
RECORD = FOLDER / "services.json"
SETTINGS = Path("prefect.toml")  # where `prefect` finds the server's address in the project's folder


@dataclass(frozen=True)
class Service:
    """A running process of ours.

    Attributes:
        name: what it is.
        pid: its process, which leads a process group of its own.
        created: the process's creation time, which tells it from a later process with the same number.
        address: where to look at it, empty for the worker.
    """

    name: str
    pid: int
    created: float
    address: str

    def process(self) -> psutil.Process | None:
        """Return the process if it is still the one that was started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) < 1 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


def read() -> list[Service]:
    """Return what was started last, alive or not."""
    try:
        return [Service(**entry) for entry in json.loads(RECORD.read_text(encoding="utf-8"))]
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return []
