"""DVC's cache: whether it can be written, how files get out of it, and whether it holds what dvc.lock promises."""

from __future__ import annotations

import configparser
import fcntl
import json
import tempfile
from pathlib import Path
from typing import Any

import psutil

from ups.doctor.finding import Finding, ok, problem, warn
from ups.errors import UpsError
from ups.pipeline import dvc_store, lock
from ups.pipeline.dvc_store import FICLONE, Store, cache_folder


def cache(root: Path) -> list[Finding]:
    """Check the cache of the project in a folder."""
    if not (root / ".dvc").is_dir():
        return [problem("cache", "there is no .dvc folder", "Run `ups doctor` in the project's folder.")]
    try:
        dvc_store.check_version()
    except UpsError as error:
        return [problem("cache", str(error), f"`pip install dvc=={dvc_store.DVC_VERSION}`.")]
    folder = cache_folder(root)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        mend = f"Make it writable, or take another: `dvc cache dir --local FOLDER`. ({error.strerror})"
        return [problem("cache", f"{folder} cannot be written", mend)]
    return [_links(root, there, folder), *_promised(root, Store(folder)), *_locks(root)]


def _links(root: Path, there: Path, folder: Path) -> Finding:
    """Say how DVC brings files out of the cache, having tried it with files that are gone again."""
    types = _cache_types(root)
    shared = _can_reflink(there, root)
    state = "" if folder.exists() else ", not made yet"
    how = "shares blocks with the work tree (reflink)" if shared else "files are copied out of it (no reflink here)"
    said = f"{folder}{state}, writable; cache.type {','.join(types)}; {how}"
    if set(types) & {"hardlink", "symlink"}:
        mend = "`dvc config cache.type reflink,copy`: through a link, a stray write reaches the cache."
        return warn("cache", said, mend)
    return ok("cache", said)


def _cache_types(root: Path) -> list[str]:
    for name in ("config.local", "config"):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(root / ".dvc" / name, encoding="utf-8")
        if parser.has_option("cache", "type"):
            return [part.strip(" \"'") for part in parser.get("cache", "type").split(",")]
    return ["reflink", "copy"]  # DVC's own


def _can_reflink(source: Path, target: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=source) as one, tempfile.TemporaryFile(dir=target) as other:
            one.write(bytes(4096))
            one.flush()
            fcntl.ioctl(other.fileno(), FICLONE, one.fileno())
    except OSError:
        return False
    return True


def _promised(root: Path, store: Store) -> list[Finding]:
    """Compare with dvc.lock: are the outputs that it names in the cache? Their bytes are not read."""
    path = root / lock.DVC_LOCK
    if not path.is_file():
        return [ok("results", "no dvc.lock: nothing was reproduced yet")]
    stages = lock.read_lock(path)
    missing = [name for name, stage in stages.items() if not all(store.has(out) for out in stage.get("outs", []))]
    if missing:
        which = "every stage, as in a fresh clone" if len(missing) == len(stages) else ", ".join(missing)
        said = f"the cache lacks what dvc.lock says of {which}"
        return [warn("results", said, "`make repro` makes it again; `dvc pull --run-cache` where there is a remote.")]
    return [ok("results", f"all {len(stages)} stages of dvc.lock are in the cache")]


def _locks(root: Path) -> list[Finding]:
    """Look at the locks that DVC keeps in files; those of dead processes it takes over itself."""
    try:
        entries = json.loads((root / ".dvc" / "tmp" / "rwlock").read_text(encoding="utf-8"))
        held = [entry for kinds in entries.values() for value in kinds.values() for entry in _listed(value)]
        processes = {int(entry["pid"]) for entry in held}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []
    alive = sorted(pid for pid in processes if psutil.pid_exists(pid))
    if alive:
        return [ok("DVC lock", f"DVC works here: process {', '.join(map(str, alive))}")]
    if processes:
        mend = "The next `dvc` command clears them; if it says otherwise: `rm .dvc/tmp/rwlock`."
        return [warn("DVC lock", f".dvc/tmp/rwlock names dead processes ({len(processes)})", mend)]
    return []


def _listed(value: Any) -> list[dict[str, Any]]:
    return value if isinstance(value, list) else [value] if isinstance(value, dict) else []
