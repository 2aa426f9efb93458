"""Git commits of the working tree as it is, uncommitted and new files included, made without touching index or branch.

A snapshot is kept under `refs/ups/`. Equal trees on the same commit give the same snapshot. Ignored files are left out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from ups.errors import UpsError

REFS = "refs/ups"
_IDENTITY = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in {"NAME": "ups", "EMAIL": "ups@localhost"}.items()
}


def take(root: Path) -> str:
    """Return the commit of the working tree: HEAD itself if nothing is changed.

    Raises:
        UpsError: if the project is not a git repository with a commit.
    """
    try:
        head, top, date = git(root, "log", "-1", "--format=%H %cI"), git(root, "rev-parse", "--show-toplevel"), ""
        head, date = head.split()
    except UpsError as error:
        raise UpsError(f"{root} must be a git repository with at least one commit: {error}") from None
    if Path(top).resolve() != root.resolve():
        raise UpsError(f"{root} is a folder of the git repository {top}; run the command in the repository's root.")
    with _index(root, git(root, "rev-parse", "--git-path", "index")) as index:
        git(root, "add", "--all", index=index)
        tree = git(root, "write-tree", index=index)
    if tree == git(root, "rev-parse", "HEAD^{tree}"):
        return head
    commit = _commit(root, tree, head, date, "The working tree as it was when a sweep began")
    git(root, "update-ref", f"{REFS}/snapshots/{commit[:12]}", commit)
    return commit


def with_file(root: Path, snapshot: str, path: str, content: str, remove: str, name: str, message: str) -> str:
    """Return the commit of a snapshot with one file replaced and another removed; kept under `refs/ups/<name>/`."""
    date = git(root, "log", "-1", "--format=%cI", snapshot)
    blob = git(root, "hash-object", "-w", "--no-filters", "--stdin", stdin=content)
    with _index(root, None) as index:
        git(root, "read-tree", snapshot, index=index)
        entry = f"100644,{blob},{path}"
        git(root, "update-index", "--add", "--cacheinfo", entry, "--force-remove", remove, index=index)
        tree = git(root, "write-tree", index=index)
    commit = _commit(root, tree, snapshot, date, message)
    git(root, "update-ref", f"{REFS}/{name}/{commit[:12]}", commit)
    return commit


def git(
    root: Path,
    *arguments: str,
    index: Path | None = None,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run git and return what it prints.

    Raises:
        UpsError: with git's own words.
    """
    more = {"GIT_INDEX_FILE": str(index)} if index else {}
    kept = {
        key: value for key, value in os.environ.items() if key not in ("GIT_INDEX_FILE", "GIT_DIR", "GIT_WORK_TREE")
    }
    try:
        result = subprocess.run(
            ["git", "-c", "core.hooksPath=/dev/null", *arguments],  # a hook is for what the user does
            cwd=root,
            input=stdin,
            capture_output=True,
            text=True,
            env={**kept, **(environment or {}), **more},
            check=False,
        )
    except OSError as error:
        raise UpsError(f"git cannot be run: {error}.") from None
    if result.returncode:
        raise UpsError(f"`git {' '.join(arguments)}` failed: {' '.join(result.stderr.split())}")
    return result.stdout.strip()


def _commit(root: Path, tree: str, parent: str, date: str, message: str) -> str:
    # With fixed dates, the same content is the same commit.
    dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    return git(root, "commit-tree", tree, "-p", parent, "-m", message, environment={**_IDENTITY, **dates})


@contextlib.contextmanager
def _index(root: Path, source: str | None) -> Iterator[Path]:
    """Yield the path of a temporary index, a copy of the user's: it knows which files need no reading."""
    folder = root / ".ups"
    folder.mkdir(exist_ok=True)
    if not (folder / ".gitignore").exists():  # whatever the project's own .gitignore says
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    path = folder / f"index.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    try:
        if source and (root / source).is_file():
            shutil.copy2(root / source, path)
        yield path
    finally:
        path.unlink(missing_ok=True)
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
