"""The list of contents of a surrogate bundle, and the guard at its door. Imports no torch.

A bundle is a folder: `surrogate.json` and, for each part, `<part>/config.json` and `<part>/model.safetensors`.
`surrogate.json` names every file with its size and SHA-256 and carries a checksum of itself. What does not agree is
refused before anything is built from it; the hashes find damage and edits, they do not prove who made the bundle.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ups.errors import ArtifactError

BUNDLE = "surrogate.json"
FORMAT = "ups-surrogate-3"
# Why those before it are not read any more.
_OLDER = {"ups-surrogate-1": "has no hashes", "ups-surrogate-2": "may move with another comoving frame"}
_MOST_JSON_BYTES = 2**20
# No dots, no slashes, no backslashes but the ones that are written here: such a name cannot leave the folder.
_NAME = re.compile(r"[a-z][a-z_]*/[a-z][a-z_]*\.(json|safetensors)")
_AGAIN = "Make it again (`dvc repro evaluate`) or copy it again from where it came."


@dataclass(frozen=True)
class Manifest:
    """A checked `surrogate.json`.

    Attributes:
        folder: the bundle.
        content: all that it says.
        checksum: SHA-256 of its content; as it holds the hashes of all files, it names the whole bundle.
    """

    folder: Path
    content: Mapping[str, Any]
    checksum: str

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that the bundle holds."""
        return tuple(sorted({name.split("/")[0] for name in self.content["files"]}))

    def size(self, name: str) -> int:
        """Return the size of a file in bytes, the same on disk and in `surrogate.json`.

        Raises:
            ArtifactError: if the bundle does not list the file, or it is missing, foreign, or of another size.
        """
        entry = self.content["files"].get(name)
        if entry is None:
            raise ArtifactError(f"{self.folder / BUNDLE} lists no {name}. {_AGAIN}")
        actual = _checked(self.folder, name).st_size
        if actual != entry["bytes"]:
            raise ArtifactError(
                f"{self.folder / name} has {actual:,} bytes, {BUNDLE} says {entry['bytes']:,}: it was altered or cut "
                f"off. {_AGAIN}"
            )
        return int(actual)

    def begin(self, name: str, count: int) -> bytes:
        """Return the first `count` bytes of a file, unverified."""
        self.size(name)
        with (self.folder / name).open("rb") as file:
            return file.read(count)

    def read(self, name: str) -> bytes:
        """Return the content of a file whose SHA-256 is the one that `surrogate.json` says.

        Raises:
            ArtifactError: as `size`, or if the hash differs.
        """
        data = self.begin(name, self.size(name) + 1)
        if hashlib.sha256(data).hexdigest() != self.content["files"][name]["sha256"]:
            raise ArtifactError(f"{self.folder / name} was altered: its SHA-256 is not the one in {BUNDLE}. {_AGAIN}")
        return data


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `surrogate.json` beside the parts that are in `folder` already.

    Args:
        folder: the bundle.
        content: what the bundle says about itself, besides format, files and checksum; JSON-ready.
    """
    paths = sorted(path for path in folder.glob("*/*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): _entry(path.read_bytes()) for path in paths}
    full = {"format": FORMAT, **content, "files": files}
    text = json.dumps({**full, "checksum": _checksum(full)}, indent=2) + "\n"
    (folder / BUNDLE).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read and check `surrogate.json`; the files that it names are checked when they are read.

    Raises:
        ArtifactError: if the folder is no surrogate bundle of this version, or `surrogate.json` was altered.
    """
    path = folder / BUNDLE
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder} does not exist or is no folder. A surrogate is the folder `artifacts/evaluate/surrogate` that "
            "`make repro` writes, or a copy of it."
        )
    if not path.exists():
        raise ArtifactError(f"{folder} is not a surrogate bundle: it has no {BUNDLE}.")
    if _checked(folder, BUNDLE).st_size > _MOST_JSON_BYTES:
        raise ArtifactError(f"{path} is larger than {_MOST_JSON_BYTES:,} bytes: it is no {BUNDLE} of this project.")
    content = parse_json(path.read_bytes(), path)
    found = content.get("format")
    if found in _OLDER:
        raise ArtifactError(
            f"{path} has the older format {found!r}, which {_OLDER[found]}; {FORMAT!r} is needed. Make it again: "
            "`make repro`."
        )
    if found != FORMAT:
        raise ArtifactError(
            f"{path} has format {found!r}, not {FORMAT!r}. A newer bundle needs a newer version of this project."
        )
    checksum = content.pop("checksum", None)
    if checksum != _checksum(content):
        raise ArtifactError(f"{path} was altered: its content does not have the checksum that it carries. {_AGAIN}")
    _check_files(content.get("files"), path)
    return Manifest(folder, content, str(checksum))


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ArtifactError: if it is no JSON, or no object.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not valid JSON: {error}. {_AGAIN}") from None
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} must hold an object, not {type(content).__name__}. {_AGAIN}")
    return content


def _check_files(files: Any, path: Path) -> None:
    if not isinstance(files, dict) or not files:
        raise ArtifactError(f"{path} names no files. {_AGAIN}")
    for name, entry in files.items():
        if not _NAME.fullmatch(name):
            raise ArtifactError(
                f"{path} names the file {name!r}; only <part>/<name> inside the bundle is allowed. Do not use this "
                "bundle unless you know who made it."
            )
        well_formed = isinstance(entry, dict) and isinstance(entry.get("sha256"), str)
        if not well_formed or type(entry.get("bytes")) is not int:
            raise ArtifactError(f"{path} has no size and SHA-256 for {name}. {_AGAIN}")


def _checked(folder: Path, name: str) -> Any:
    """Return the status of a regular file that lies inside the bundle.

    A link leads outside and is refused, with one exception: into a store whose file names say what is in them, which
    is how the results of sweeps refer to DVC's cache.
    """
    path = folder / name
    for place in (path.parent, path):
        if place != folder and place.is_symlink() and not _in_store(place):
            raise ArtifactError(
                f"{place} is a link to {place.readlink()}, out of the bundle; links are not followed. Copy the bundle "
                "with its files: `cp -rL`."
            )
    try:
        status = path.stat()
    except OSError as error:
        raise ArtifactError(f"{path} does not exist or cannot be read ({error.strerror}). {_AGAIN}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(f"{path} is no regular file. {_AGAIN}")
    return status


def _in_store(link: Path) -> bool:
    """Tell whether a link leads to `.../files/md5/ab/cdef...`, a file with that MD5."""
    target = link.resolve()
    expected = "".join(target.parts[-2:])
    if target.parts[-4:-2] != ("files", "md5") or not re.fullmatch(r"[0-9a-f]{32}", expected) or not target.is_file():
        return False
    with target.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == expected


def _entry(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
