"""What the readers of all data layouts share: an open HDF5 file that is closed when it has been read."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import h5py


class FileSource:
    """An open data file; use it as a context manager. `ups.data.readers.Source` says what its layouts offer."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.path, self._file = path, file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
