"""What the writers of all data layouts share: an HDF5 file that is there to be filled, and closed without surprises."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
import numpy.typing as npt

from ups.data.write_errors import check_space, plain_write_errors

Note = str | int | float | Sequence[str]  # what a root attribute may hold


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to; the file takes `path`'s place on success and vanishes on failure."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield fresh
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


class FileWriter(ABC):
    """An open data file that is being made; use it as a context manager.

    Args:
        path: the new file.
        payload_bytes: what its fields will take.

    Raises:
        OSError: if there is no space for them.
    """

    def __init__(self, path: Path, payload_bytes: int) -> None:
        self.path = path
        check_space(path, payload_bytes)
        self.file = h5py.File(path, "w")

    @abstractmethod
    def write(self, start: int, fields: npt.NDArray[np.float32]) -> None:
        """Write fields (B, T, C, *space) as the trajectories start .. start + B - 1."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with plain_write_errors(self.path):  # what HDF5 still holds is written here
            self.file.close()
