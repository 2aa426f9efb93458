"""The fingerprint of a stage: known before anything runs, equal exactly when the stage would do the same again.

It is the hash of the command, the parameters as DVC tracks them, the content of code and data, the paths of the
outputs, and the fingerprints of the stages upstream. Where the upstream outputs exist, DVC's run-cache has the last
word (`ups.pipeline.plan`): a changed stage that wrote the same bytes as before makes nothing downstream run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ups.errors import ArtifactError
from ups.pipeline import atomic, dvc_store
from ups.pipeline.dvc_store import Entry
from ups.pipeline.graph import Step

HASHES = Path(".ups/hashes.json")
_REMEMBERED_BYTES = 1 << 20  # smaller files are hashed faster than looked up


@dataclass
class Sources:
    """The content of the files that no stage writes.

    Args:
        root: the project's folder.

    Hashes of large files are remembered in `.ups/hashes.json` as long as inode, size and modification time stay.
    """

    root: Path = Path(".")
    _entries: dict[str, Entry] = field(default_factory=dict)
    _known: dict[str, list[Any]] | None = None

    def entry(self, path: str) -> Entry:
        """Return the entry of a file or folder, as in `dvc.lock`.

        Raises:
            ArtifactError: if it does not exist.
        """
        if path not in self._entries:
            self._entries[path] = self._read(path)
        return self._entries[path]

    def _read(self, path: str) -> Entry:
        place = self.root / path
        if place.is_dir():
            files = list(dvc_store.walk(place))
            items = [{"md5": self._md5(file), "relpath": file.relative_to(place).as_posix()} for file in files]
            return dvc_store.folder_entry(path, items, sum(file.stat().st_size for file in files))
        if not place.is_file():
            raise ArtifactError(f"{path} does not exist, and no stage makes it. `dvc.yaml` lists it as a dependency.")
        return dvc_store.source_entry(path, self.root, self._md5(place))

    def _md5(self, path: Path) -> str:
        info = path.stat()
        if info.st_size < _REMEMBERED_BYTES:
            return dvc_store.file_md5(path)
        if self._known is None:
            try:
                self._known = json.loads(HASHES.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                self._known = {}
        state = [info.st_ino, info.st_size, info.st_mtime_ns]
        name = str(path.resolve())
        if self._known.get(name, [])[:3] != state:
            self._known[name] = [*state, dvc_store.file_md5(path)]
            self._remember()
        return str(self._known[name][3])

    def _remember(self) -> None:
        with contextlib.suppress(OSError):  # a read-only project is hashed again next time
            atomic.write_text(HASHES, json.dumps(self._known))


def describe(step: Step, sources: Sources, upstream: Mapping[str, str]) -> dict[str, Any]:
    """Return all that a stage's result depends on.

    Args:
        step: the stage.
        sources: content of files.
        upstream: the fingerprints of the stages that it reads from, by name.

    Raises:
        ArtifactError: if a file that it reads does not exist.
    """
    return {
        "command": step.command,
        "params": {file: dict(values) for file, values in step.params.items()},
        "sources": {path: _content(sources.entry(path)) for path in sorted(step.sources)},
        "products": {path: upstream[producer] for path, producer in sorted(step.products)},
        "outs": sorted(step.outs),
    }


def fingerprint(description: Mapping[str, Any]) -> str:
    """Return the hash of a description, 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:32]


def _content(entry: Entry) -> str:
    return f"{entry['md5']} executable" if entry.get("isexec") else str(entry["md5"])
