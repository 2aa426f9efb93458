"""DVC's cache and run-cache on disk, as DVC 3 writes them: look up, add, check out, without starting DVC.

Starting DVC costs more than most look-ups here take, and only this module knows its formats. They are those of the
pinned version; the tests compare every one of them with what that DVC itself writes and reads.

* an object: `files/md5/<2 digits>/<30 digits>`, read-only, named by the MD5 of its content;
* a folder: the object `<md5>.dir`, a JSON list of `{md5, relpath}`;
* a run: `runs/<2 digits>/<key>/<value>`, YAML of the command, dependencies, parameters and outputs, the key being the
  hash of all but the outputs' content.
"""

from __future__ import annotations

import configparser
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import stat
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ups.errors import ArtifactError, UpsError
from ups.pipeline import atomic

DVC_VERSION = "3.67.1"
Entry = dict[str, Any]  # of a dependency or output: {path, hash: "md5", md5, size, nfiles (folders), isexec (if so)}
Record = dict[str, Any]  # of a run: {cmd, deps, params, outs}
FICLONE = 0x40049409  # Linux: share the blocks of another file, where the file system can
_NOT_IN_KEY = ("size", "nfiles")
_IGNORED = {".git", ".hg", ".dvc"}


class CorruptObject(ArtifactError):
    """An object of the cache does not hold what its name says; it has been removed."""


class Store:
    """The cache of a project.

    Args:
        folder: DVC's cache folder, absolute.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._trees: dict[str, list[Entry]] = {}

    # -- looking up ------------------------------------------------------------------------------------------------

    def find(self, record: Mapping[str, Any]) -> list[Entry] | None:
        """Return the outputs of the newest run with this command, dependencies, parameters and paths of outputs.

        Args:
            record: of the run; its outputs need only their paths.

        Returns: None if there is none, or if any of its objects is gone. Runs that cannot be read are removed.
        """
        folder = self._run_folder(run_key(record))
        try:
            with os.scandir(folder) as entries:
                runs = [(entry.stat().st_mtime_ns, entry.path) for entry in entries if not entry.name.endswith(".tmp")]
        except FileNotFoundError:
            return None
        for _, path in sorted(runs, reverse=True):
            outs = _read_outs(Path(path))
            if outs:
                return outs if all(self.has(out) for out in outs) else None
            with contextlib.suppress(OSError):  # as DVC does; on a read-only disk it is passed over
                os.unlink(path)
        return None

    def has(self, entry: Mapping[str, Any]) -> bool:
        """Return whether the content of an output is here; its bytes are not read."""
        if not self.object_path(entry["md5"]).is_file():
            return False
        if not entry["md5"].endswith(".dir"):
            return True
        try:
            return all(self.object_path(item["md5"]).is_file() for item in self.tree(entry["md5"]))
        except CorruptObject:
            return False

    def object_path(self, md5: str) -> Path:
        return self.folder / "files" / "md5" / md5[:2] / md5[2:]

    def tree(self, md5: str) -> list[Entry]:
        """Return the files of a folder: `{md5, relpath}` each, sorted by path."""
        if md5 not in self._trees:
            raw = self.object_path(md5).read_bytes()
            if hashlib.md5(raw, usedforsecurity=False).hexdigest() + ".dir" != md5:
                self.evict(md5)
            self._trees[md5] = json.loads(raw)
        return self._trees[md5]

    def files(self, out: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield path and MD5 of every file of an output."""
        if out["md5"].endswith(".dir"):
            for item in self.tree(out["md5"]):
                yield f"{out['path']}/{item['relpath']}", item["md5"]
        else:
            yield out["path"], out["md5"]

    def entry_in(self, out: Mapping[str, Any], path: str) -> Entry:
        """Return the entry of a dependency on an output, or on a file or folder inside it.

        Raises:
            ArtifactError: if the output does not hold the path.
        """
        if path == out["path"]:
            return dict(out)
        prefix = path[len(out["path"]) + 1 :]
        items = self.tree(out["md5"]) if out["md5"].endswith(".dir") else []
        for item in items:
            if item["relpath"] == prefix:
                size = self.object_path(item["md5"]).stat().st_size
                return {"path": path, "hash": "md5", "md5": item["md5"], "size": size}
        inside = [item for item in items if item["relpath"].startswith(f"{prefix}/")]
        if not inside:
            raise ArtifactError(f"{path} does not exist: the stage that writes {out['path']} did not write it.")
        cut = [{"md5": item["md5"], "relpath": item["relpath"][len(prefix) + 1 :]} for item in inside]
        size = sum(self.object_path(item["md5"]).stat().st_size for item in cut)
        return {"path": path, "hash": "md5", "md5": _tree_md5(cut)[0], "size": size, "nfiles": len(cut)}

    # -- adding ----------------------------------------------------------------------------------------------------

    def add(self, path: str, root: Path) -> Entry:
        """Copy a file or folder into the cache and return its entry.

        Raises:
            ArtifactError: if it does not exist or holds anything but files and folders.
        """
        target = root / path
        if target.is_dir() and not target.is_symlink():
            items, size = [], 0
            for file in walk(target):
                md5 = self._add_file(file)
                size += file.stat().st_size
                items.append({"md5": md5, "relpath": file.relative_to(target).as_posix()})
            md5, text = _tree_md5(items)
            self._add_bytes(md5, text)
            return {"path": path, "hash": "md5", "md5": md5, "size": size, "nfiles": len(items)}
        if not target.is_file():
            raise ArtifactError(f"{path} does not exist, although the stage that writes it has ended without an error.")
        return _with_flags({"path": path, "hash": "md5", "md5": self._add_file(target)}, target)

    def save(self, record: Mapping[str, Any]) -> None:
        """Add a run to the run-cache; where it was known already, it becomes the newest of its key."""
        path = self._run_folder(run_key(record)) / _hash(record)
        atomic.write_text(path, dump_yaml(record))

    def _add_file(self, file: Path) -> str:
        temporary = self._temporary()
        try:
            copy(file, temporary)
            md5 = file_md5(temporary)
            self._publish(temporary, md5)
        finally:
            temporary.unlink(missing_ok=True)
        return md5

    def _add_bytes(self, md5: str, content: bytes) -> None:
        temporary = self._temporary()
        try:
            temporary.write_bytes(content)
            self._publish(temporary, md5)
        finally:
            temporary.unlink(missing_ok=True)

    def _publish(self, temporary: Path, md5: str) -> None:
        path = self.object_path(md5)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.chmod(temporary, 0o444)
        os.replace(temporary, path)

    def _temporary(self) -> Path:
        folder = self.folder / "files" / "md5"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{platform.node()}.{os.getpid()}.{uuid.uuid4().hex}.tmp"

    def clear_leftovers(self) -> None:
        """Remove what processes of this machine were writing into the cache when they were killed."""
        for path in (self.folder / "files" / "md5").glob(f"{platform.node()}.*.tmp"):
            process = path.name.split(".")[-3]
            if process.isdigit() and not Path("/proc", process).exists():
                path.unlink(missing_ok=True)

    # -- checking out ----------------------------------------------------------------------------------------------

    def check_out(self, out: Mapping[str, Any], root: Path) -> int:
        """Put a copy of an output under `root`, complete or not at all; returns its bytes.

        Raises:
            CorruptObject: if the cache holds something else than it should.
        """
        target = root / out["path"]
        fresh = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.checkout")
        _remove(fresh)
        fresh.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        try:
            for path, md5 in self.files(out):
                place = fresh / path[len(out["path"]) + 1 :] if path != out["path"] else fresh
                place.parent.mkdir(parents=True, exist_ok=True)
                copy(self.object_path(md5), place)
                if file_md5(place) != md5:
                    self.evict(md5)
                os.chmod(place, 0o755 if out.get("isexec") else 0o644)
                size += place.stat().st_size
            if out["md5"].endswith(".dir"):
                fresh.mkdir(exist_ok=True)
            _remove(target)
            os.replace(fresh, target)
        finally:
            _remove(fresh)
        return size

    def evict(self, md5: str) -> None:
        """Remove an object that does not hold what its name says.

        Raises:
            CorruptObject: always.
        """
        self.object_path(md5).unlink(missing_ok=True)
        self._trees.pop(md5, None)
        raise CorruptObject(
            f"The cache's object {md5} was corrupt (another MD5) and has been removed; the stage that makes it has to "
            f"run again. Check the disk that holds {self.folder}."
        )

    def _run_folder(self, key: str) -> Path:
        # DVC keeps its run-cache in the cache's folder of version 2.
        return self.folder / "runs" / key[:2] / key


def cache_folder(root: Path) -> Path:
    """Return the absolute folder of a project's DVC cache."""
    for name in ("config.local", "config"):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(root / ".dvc" / name, encoding="utf-8")
        if parser.has_option("cache", "dir"):
            return (root / ".dvc" / parser.get("cache", "dir")).resolve()
    return (root / ".dvc" / "cache").resolve()


def run_key(record: Mapping[str, Any]) -> str:
    """Return the key under which DVC's run-cache holds a run."""
    return _hash({**record, "outs": [out["path"] for out in record["outs"]]})


def source_entry(path: str, root: Path, md5: str) -> Entry:
    """Return the entry of a file that no stage writes."""
    return _with_flags({"path": path, "hash": "md5", "md5": md5}, root / path)


def folder_entry(path: str, items: Sequence[Mapping[str, str]], size: int) -> Entry:
    """Return the entry of a folder from the `{md5, relpath}` of its files."""
    return {"path": path, "hash": "md5", "md5": _tree_md5(items)[0], "size": size, "nfiles": len(items)}


def write_lock(records: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write a `dvc.lock` that says the stages are as in `records`."""
    atomic.write_text(
        path, dump_yaml({"schema": "2.0", "stages": {name: dict(record) for name, record in records.items()}})
    )


def dump_yaml(content: Mapping[str, Any]) -> str:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(content, Dumper=dumper, sort_keys=False, allow_unicode=True))


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that DVC would track.

    Raises:
        ArtifactError: for anything that is neither file nor folder, such as a dangling link.
    """
    for path in sorted(folder.iterdir()):
        if path.name in _IGNORED:
            continue
        if path.is_dir():
            yield from walk(path)
        elif path.is_file():
            yield path
        else:
            raise ArtifactError(f"{path} is neither a file nor a folder; a stage may write only these.")


def file_md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def copy(source: Path, target: Path) -> None:
    """Copy a file's content, sharing its blocks where the file system can."""
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), FICLONE, reader.fileno())
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS):
                raise
            shutil.copyfileobj(reader, writer, 1 << 20)


def _read_outs(path: Path) -> list[Entry]:
    """Return the outputs of a run; none if it cannot be read.

    They stand last in its file; parsing all of it would take ten times longer.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        start = text.rfind("\nouts:\n")
        content = yaml.load(text[start:], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        outs = [dict(out) for out in content["outs"]] if start >= 0 else []
    except (yaml.YAMLError, TypeError, KeyError, ValueError):
        return []
    return outs if all(isinstance(out.get(key), str) for out in outs for key in ("path", "md5")) else []


def _with_flags(entry: Entry, path: Path) -> Entry:
    info = path.stat()
    executable = {"isexec": True} if info.st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH) else {}
    return {**entry, "size": info.st_size, **executable}


def _tree_md5(items: Sequence[Mapping[str, str]]) -> tuple[str, bytes]:
    ordered = sorted(items, key=lambda item: item["relpath"])
    text = json.dumps(ordered, sort_keys=True).encode()
    return hashlib.md5(text, usedforsecurity=False).hexdigest() + ".dir", text


def _hash(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(_without_sizes(record), sort_keys=True).encode()).hexdigest()


def _without_sizes(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_sizes(item) for key, item in value.items() if key not in _NOT_IN_KEY}
    return [_without_sizes(item) for item in value] if isinstance(value, list) else value


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_version() -> None:
    """Refuse another DVC than the one whose formats these are.

    Raises:
        UpsError: if it is installed.
    """
    from importlib import metadata

    try:
        installed = metadata.version("dvc")
    except metadata.PackageNotFoundError:
        return  # planning and restoring need no DVC
    if installed.split(".")[0] != DVC_VERSION.split(".")[0]:
        raise UpsError(f"DVC {installed} is installed; its cache is read and written in the format of {DVC_VERSION}.")
