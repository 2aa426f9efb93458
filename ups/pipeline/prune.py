"""Remove what sweeps leave under `.ups/` and `refs/ups/` and nobody asks for any more.

Everything here can be made again: workspaces are cut from snapshots, results are links into DVC's cache. The cache is
left alone (`dvc gc` is for that), and so is the log of executions, the record of what ran.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ups.errors import ArtifactError, UpsError
from ups.parameters.files import nearest
from ups.pipeline import executions, results, snapshot, workspace
from ups.pipeline.locks import SWEEP, Lock, taken

LOGS = Path(".ups/logs")
_LEFT_BEHIND = re.compile(r"(?:index\.(\d+)\..*|\..*\.(\d+)\.\w+\.(?:tmp|old)|\..*\.(\d+)\.tmp)")


@dataclass(frozen=True)
class Item:
    """One thing that can go.

    Attributes:
        kind: `workspace`, `results`, `log`, `description`, `snapshot` or `leftover`.
        name: the variant and seed, the stage execution's fingerprint, or the git reference.
        paths: files and folders; empty for a git reference.
        bytes: what they take on the disk; git frees the objects of a snapshot by itself later.
        commit: that a git reference points to.
        in_use: whether a stage still runs in it, so that it stays.
    """

    kind: str
    name: str
    paths: tuple[Path, ...]
    bytes: int = 0
    commit: str = ""
    in_use: bool = False


@dataclass(frozen=True)
class _Kept:
    """What the variants and seeds that stay need: their names, stage fingerprints and snapshots."""

    names: frozenset[str]
    fingerprints: frozenset[str]
    commits: frozenset[str]


def survey(keep: Sequence[str]) -> list[Item]:
    """Return what can go.

    Args:
        keep: variants, or names of workspaces and results such as `golden-42`, whose things stay.

    Raises:
        UpsError: if there is nothing of a name to be kept; it may be a slip, so nothing is offered for removal.
    """
    kept = _kept(keep)
    found = [
        Item("workspace", name, paths, _bytes(paths), in_use=taken(workspace.lock_name(name)))
        for name, paths in _workspaces()
    ]
    for kind, folder in (("results", results.FOLDER), ("log", LOGS)):
        found += [Item(kind, path.name, (path,), _bytes([path])) for path in _visible(folder)]
    found = [item for item in found if item.name not in kept.names]
    running = {item.name for item in found if item.in_use}
    found = [item for item in found if item.kind != "log" or item.name not in running]
    for path in sorted(executions.DESCRIPTIONS.glob("[!.]*.json")):
        if path.stem not in kept.fingerprints:
            found.append(Item("description", path.stem, (path,), _bytes([path])))
    found += [Item("leftover", path.name, (path,), _bytes([path])) for path in leftovers()]
    return found + _snapshots(kept)


def remove(items: Sequence[Item]) -> list[Item]:
    """Remove what `survey` found; returns what is gone. Whatever is in use stays.

    Raises:
        UpsError: while a sweep runs in this project.
    """
    running = Lock(SWEEP)
    if not running.try_acquire():
        raise UpsError("A sweep is running in this project. Wait for its end, or stop it, and run `ups prune` again.")
    try:
        gone = [item for item in items if item.kind != "workspace" and _remove_paths(item)]
        gone += [item for item in items if item.kind == "workspace" and _remove_workspace(item)]
        refs = [item for item in items if item.kind == "snapshot"]
        if refs:
            orders = "".join(f"delete {item.name} {item.commit}\n" for item in refs)
            snapshot.git(Path.cwd(), "update-ref", "--stdin", stdin=orders)
    finally:
        running.release()
    return gone + refs


def _kept(keep: Sequence[str]) -> _Kept:
    names = {name for name, _ in _workspaces()} | {path.name for path in _visible(results.FOLDER)}
    variants = {name: _variant(name) for name in names}
    for wanted in keep:
        if wanted not in names and wanted not in variants.values():
            known = sorted({*names, *variants.values()})
            raise UpsError(f"--keep {wanted}: there is no such variant or result here. {nearest(wanted, known)}")
    stay = {name for name, variant in variants.items() if name in keep or variant in keep}
    fingerprints: set[str] = set()
    commits: set[str] = set()
    for name in stay:
        with contextlib.suppress(ArtifactError):  # a workspace without results: its sweep was stopped
            result = results.read(results.FOLDER / name)
            fingerprints |= set(result.fingerprints.values())
            commits.add(result.snapshot)
        commits.add(workspace.stamped_commit(name))
    log = executions.read()
    commits |= {line.snapshot for line in log if line.fingerprint in fingerprints}
    fingerprints |= {line.fingerprint for line in log if line.snapshot in commits}
    return _Kept(frozenset(stay), frozenset(fingerprints), frozenset(commits - {""}))


def _variant(name: str) -> str:
    """Return the variant of a name such as `golden-42.tiny`."""
    match = re.fullmatch(r"(.+)-\d+(?:\..*)?", name)
    return match.group(1) if match else name


def _workspaces() -> list[tuple[str, tuple[Path, ...]]]:
    """Return every workspace with all that belongs to it, also of one that is only half there."""
    found: dict[str, list[Path]] = {}
    for path in sorted(workspace.FOLDER.glob("*")):
        kept = re.fullmatch(r"\.(.+)\.kept", path.name)
        name = kept.group(1) if kept else path.name.removesuffix(".json") if path.is_file() else path.name
        if kept or not path.name.startswith("."):
            found.setdefault(name, []).append(path)
    return [(name, tuple(paths)) for name, paths in found.items()]


def _snapshots(kept: _Kept) -> list[Item]:
    try:
        lines = snapshot.git(
            Path.cwd(), "for-each-ref", "--format=%(refname) %(objectname) %(parent)", snapshot.REFS
        ).splitlines()
    except UpsError:
        return []  # no git repository, so no snapshots
    refs = [line.split(" ", 2) for line in lines]
    # The parent of a kept snapshot lives on as long as that does.
    parents = {parent for _, commit, above in refs if commit in kept.commits for parent in above.split()}
    return [Item("snapshot", ref, (), commit=commit) for ref, commit, _ in refs if commit not in kept.commits | parents]


def leftovers() -> Iterator[Path]:
    """Yield what processes that are dead by now were writing."""
    for folder in (Path(".ups"), results.FOLDER, workspace.FOLDER, executions.DESCRIPTIONS):
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            match = _LEFT_BEHIND.fullmatch(path.name)
            process = next((number for number in match.groups() if number), "") if match else ""
            if process and not Path("/proc", process).exists():
                yield path


def _remove_paths(item: Item) -> bool:
    for path in item.paths:
        if path.is_dir() and not path.is_symlink():
            # Nobody is to find half of it.
            going = path.with_name(f".{path.name}.{os.getpid()}.prune.old")
            path.rename(going)
            shutil.rmtree(going)
        else:
            path.unlink(missing_ok=True)
    return item.kind != "snapshot"


def _remove_workspace(item: Item) -> bool:
    lock = Lock(workspace.lock_name(item.name))
    if not lock.try_acquire():
        return False
    try:
        with Lock("git").held():
            for path in item.paths:
                if (path / ".git").exists():
                    with contextlib.suppress(UpsError):  # git does not know it any more; its folder goes all the same
                        snapshot.git(Path.cwd(), "worktree", "remove", "--force", "--force", str(path))
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            snapshot.git(Path.cwd(), "worktree", "prune")
    finally:
        lock.release()
    return True


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir()) if folder.is_dir() else []


def _bytes(paths: Sequence[Path]) -> int:
    """Return the size of files, links counted as links."""
    total = 0
    for path in paths:
        inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
        total += sum(entry.lstat().st_size for entry in (path, *inside) if entry.is_symlink() or entry.is_file())
    return total
