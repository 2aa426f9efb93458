"""What must be true after any fault: no orphan, no stuck lock, no run left RUNNING, nothing half-written."""

import contextlib
import hashlib
import os
import re
import sqlite3
from pathlib import Path

import shapes
import yaml

from ups.pipeline.locks import Lock

_TEMPORARY = re.compile(r".*\.(tmp|checkout|old|kept)|index\..*|index\.lock|HEAD\.lock")


def guards(folder: Path) -> list[int]:
    """Return the guards that are alive and run in a project."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
            cwd = os.readlink(process / "cwd")
        except OSError:
            continue
        if any(word.endswith("pipeline/guard.py") for word in words) and cwd.startswith(str(folder)):
            found.append(int(process.name))
    return found


def nothing_is_left(folder: Path, between_sweeps: bool = False) -> None:
    """Check a project after a fault.

    Args:
        folder: the project.
        between_sweeps: a sweep was killed with -9, and none has cleared up after it yet; so temporary files may lie
            about, but nothing may take them for results.
    """
    shapes.wait_for(lambda: not shapes.running(folder) and not guards(folder), 60)
    for path in (folder / ".ups/locks").glob("*"):
        lock = Lock(path.name, path.parent)
        assert lock.try_acquire(), f"{path} is stuck"
        lock.release()
    for path in (folder / ".ups/results").glob("[!.]*"):
        assert (path / "result.json").is_file(), f"{path} is half there"
        for link in path.rglob("*"):
            assert link.exists(), f"{link} leads nowhere"
    _cache(folder / ".dvc/cache", between_sweeps)
    _runs_are_over(folder / "mlflow.db")
    if not between_sweeps:
        places = [*(folder / ".ups").rglob("*"), *(folder / ".dvc").rglob("*"), *(folder / ".git").rglob("*")]
        assert [str(path) for path in places if _TEMPORARY.fullmatch(path.name)] == []
        with contextlib.suppress(FileNotFoundError):
            log = (folder / ".ups/executions.jsonl").read_text()
            assert log.endswith("\n")


def _cache(cache: Path, between_sweeps: bool) -> None:
    """Check that every object holds what its name says, and that every run can be read."""
    for path in (cache / "files/md5").glob("*/*"):
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        assert md5 == path.parent.name + path.name.removesuffix(".dir"), f"{path} is corrupt"
    for path in (cache / "runs").glob("*/*/*"):
        if between_sweeps and path.name.endswith(".tmp"):
            continue
        for out in yaml.safe_load(path.read_text())["outs"]:
            assert re.fullmatch(r"[0-9a-f]{32}(\.dir)?", out["md5"])  # an object that was corrupt is gone


def _runs_are_over(database: Path) -> None:
    if database.is_file():
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            running = connection.execute("SELECT run_uuid FROM runs WHERE status = 'RUNNING'").fetchall()
        assert running == [], "a run is left RUNNING"
