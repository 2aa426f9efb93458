"""Failed writes of HDF5 files as ordinary operating-system errors.

HDF5 reports a full disk as a paragraph of its own, in which the reason is a number among others and which has neither
`errno` nor `filename`. Callers want the usual `OSError` that says "No space left on device" and names the file. Where
not even a header can be written, HDF5 crashes when the process ends: so space is asked for before writing.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_METADATA_BYTES = 2**20


@contextlib.contextmanager
def plain_write_errors(path: Path) -> Iterator[None]:
    """Raise what HDF5 reports inside the block as `OSError(errno, reason, path)`; other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        number = re.search(r"errno = (\d+)", str(error))
        if error.errno is not None or number is None:
            raise
        code = int(number.group(1))
        raise OSError(code, os.strerror(code), str(path)) from error


def check_space(path: Path, needed: int) -> None:
    """Raise `OSError(ENOSPC)` naming `path` if fewer than `needed` bytes (and a little for metadata) are free there."""
    if shutil.disk_usage(path.parent).free < needed + _METADATA_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
