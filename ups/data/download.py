"""Download of large published files: resumed where it stopped, checked by MD5, named only when it is right.

A download lives in `NAME.part` until its checksum agrees, then it is renamed. Whatever stops it
(Ctrl-C, network, a full disk) leaves the part, and the next call goes on from there with an HTTP range request.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ups.data.catalogue import CATALOGUE, PublishedFile, md5_of
from ups.data.progress import Progress
from ups.errors import DataError

_BLOCK = 2**20
_TIMEOUT = 60.0  # seconds without a byte
_ATTEMPTS = 5  # broken connections in a row without progress
_TRY_AGAIN = (http.client.REQUEST_TIMEOUT, http.client.TOO_MANY_REQUESTS)
_PAUSE = 2.0  # seconds before the second attempt, doubled each time


class _BrokenConnection(Exception):
    """The connection ended early; what has arrived is kept."""


def fetch(name: str, folder: Path, pause: float = _PAUSE) -> Path:
    """Download a file of the catalogue.

    Args:
        name: a key of `CATALOGUE`.
        folder: where it goes.
        pause: seconds before a broken connection is tried again, doubled each time.

    Returns:
        Path of the complete file, whose MD5 is the publisher's. A complete file that is already there is only checked.

    Raises:
        DataError: for an unknown name, no network, a wrong checksum, or a disk that is too small.
    """
    if name not in CATALOGUE:
        import difflib

        near = difflib.get_close_matches(name, CATALOGUE, n=1, cutoff=0.4)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise DataError(f"'{name}' is not in the catalogue.{hint} `ups data list` shows all names.")
    return download(CATALOGUE[name], folder, pause)


def download(file: PublishedFile, folder: Path, pause: float = _PAUSE) -> Path:
    """Download one file; see `fetch`."""
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.exists():
        found = md5_of(target)
        if found == file.md5:
            return target
        raise DataError(
            f"{target} exists, but its MD5 is {found}, not the published {file.md5}. It is another file or a damaged "
            "one: delete or rename it and fetch again."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as stream, _alone(stream, part):
        try:
            found = _receive(file, stream, part, pause)
            if found == file.md5:
                os.replace(part, target)
                return target
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DataError(
                    f"the disk is full: {part} has {part.stat().st_size:,} bytes of about {file.payload_bytes:,}. Free "
                    "some space and run the same command; it goes on where it stopped."
                ) from error
            raise
        part.unlink()
    raise DataError(
        f"{file.name} arrived with MD5 {found}; the publisher states {file.md5}. The damaged download was deleted: "
        f"fetch again. If it happens twice, the file at {file.url} has changed; do not use it under this name."
    )


def _receive(file: PublishedFile, stream: IO[bytes], part: Path, pause: float) -> str:
    """Append to the part until it is complete and return its MD5."""
    attempts = 0
    while True:
        before = part.stat().st_size
        try:
            _receive_once(file, stream, part)
            return md5_of(part)
        except (_BrokenConnection, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in _TRY_AGAIN:
                raise DataError(
                    f"{file.url} answers {error.code} {error.reason}. The publisher has moved or withdrawn "
                    f"{file.name}; look for it at doi:10.18419/darus-2986."
                ) from error
            stream.flush()
            attempts = attempts + 1 if part.stat().st_size == before else 1
            if attempts >= _ATTEMPTS:
                reason = getattr(error, "reason", None) or error
                raise DataError(
                    f"{file.url} cannot be reached ({reason}); {part.stat().st_size:,} bytes have arrived and are kept "
                    f"in {part}. Check the network, then run the same command: it goes on where it stopped."
                ) from error
            time.sleep(pause * 2 ** (attempts - 1))


def _receive_once(file: PublishedFile, stream: IO[bytes], part: Path) -> None:
    have = part.stat().st_size
    request = urllib.request.Request(file.url, headers={"User-Agent": "ups-pipeline"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        # 416: nothing is left to send, so the part is complete, or longer than the file, which the checksum tells.
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return
        raise
    with response:
        if have and response.status != http.client.PARTIAL_CONTENT:
            print(f"{file.name}: the server does not resume downloads; starting again from the first byte.", flush=True)
            stream.truncate(0)
            have = 0
        elif have and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            answer = response.headers.get("Content-Range")
            raise DataError(
                f"{file.url} was asked for the bytes from {have} on and answered with '{answer}'. Delete {part} and "
                "fetch again."
            )
        length = response.headers.get("Content-Length")
        rest = int(length) if length is not None else None
        _check_space(part, rest, file)
        received = 0
        with Progress(file.name, None if rest is None else have + rest, "B", initial=have) as progress:
            for block in _blocks(response):
                stream.write(block)
                received += len(block)
                progress.update(len(block))
        stream.flush()
    if rest is not None and received < rest:
        raise _BrokenConnection(f"the connection ended after {received:,} of {rest:,} bytes")


def _blocks(response: Any) -> Iterator[bytes]:
    try:
        while block := response.read(_BLOCK):
            yield block
    except http.client.IncompleteRead as error:
        yield error.partial
        raise _BrokenConnection(str(error)) from error


def _check_space(part: Path, rest: int | None, file: PublishedFile) -> None:
    free = shutil.disk_usage(part.parent).free
    if rest is not None and rest > free:
        raise DataError(
            f"{file.name} needs {rest:,} more bytes, but only {free:,} are free at {part.parent.resolve()}. Free some "
            "space or fetch into another folder with `--folder`."
        )


@contextlib.contextmanager
def _alone(stream: IO[bytes], part: Path) -> Iterator[None]:
    """Hold a lock on the part: two downloads into one file would mix their bytes."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(f"{part} is being written by another process. Wait for it, or end it and run again.") from None
    yield
