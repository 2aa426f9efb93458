"""Locks between the threads and processes of one machine that vanish with their holder.

They are the system's `flock`: a lock belongs to an open file, so it is gone when the last process that has the file
open is. A stage is given the files of the locks that it runs under, which keeps them locked until it is dead too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ups.errors import UpsError

FOLDER = Path(".ups/locks")
SWEEP = "sweep"  # held, shared, by every sweep that executes something
_POLL_S = 0.05


class Interrupted(UpsError):
    """Waiting was given up because the sweep is to stop."""


class Lock:
    """A lock of a name; not yet taken.

    Args:
        name: what is locked, a file name.
        folder: where the locks of this project lie, absolute if the current folder may change.
    """

    def __init__(self, name: str, folder: Path = FOLDER) -> None:
        self.path = folder / name
        self._file: int | None = None

    def try_acquire(self, shared: bool = False) -> bool:
        """Take the lock, or change how it is held, if that is possible at once; returns whether it was."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True

    def acquire(self, shared: bool = False, stopping: Callable[[], bool] = lambda: False) -> None:
        """Wait for the lock.

        Raises:
            Interrupted: as soon as `stopping` says so.
        """
        while not self.try_acquire(shared):
            if stopping():
                raise Interrupted(f"Stopped while waiting for {self.path}.")
            time.sleep(_POLL_S)

    def release(self) -> None:
        """Unlock, whoever else has the file open."""
        if self._file is not None:
            file, self._file = self._file, None
            fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)

    @property
    def file(self) -> int:
        """Return the descriptor of the held lock, to be inherited by what runs under it."""
        if self._file is None:
            raise ValueError(f"{self.path} is not held")
        return self._file

    @contextlib.contextmanager
    def held(self, shared: bool = False, stopping: Callable[[], bool] = lambda: False) -> Iterator[Lock]:
        self.acquire(shared, stopping)
        try:
            yield self
        finally:
            self.release()


def taken(name: str) -> bool:
    """Return whether anybody holds a lock of this project; makes no file."""
    if not (FOLDER / name).exists():
        return False
    lock = Lock(name)
    free = lock.try_acquire()
    if free:
        lock.release()
    return not free
