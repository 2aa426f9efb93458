"""What sweeps and killed processes left under .ups, and the state of git."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ups.doctor.finding import Finding, ok, problem, warn
from ups.errors import UpsError
from ups.pipeline import locks, prune, results, snapshot, workspace


def sweeps() -> list[Finding]:
    """Say whether a sweep runs, and what earlier ones left."""
    if locks.taken(locks.SWEEP):
        return [ok("sweeps", "a sweep is running in this project")]
    found = []
    torn = [path.name for path in workspace.FOLDER.glob("[!.]*") if path.is_dir() and not (path / ".git").exists()]
    half = [path.name for path in prune.leftovers()]
    if torn or half:
        mend = (
            "`ups prune --keep NAME` shows what would go, `--yes` removes it; the next sweep mends its own workspaces."
        )
        found.append(warn("sweeps", f"left by killed processes: {', '.join(torn + half)}", mend))
    workspaces = sum(path.is_dir() for path in workspace.FOLDER.glob("[!.]*"))
    kept = sum(path.is_dir() for path in results.FOLDER.glob("[!.]*"))
    if workspaces or kept:
        found.append(ok("sweeps", f"{workspaces} workspaces, {kept} results; `ups prune` shows what could go"))
    return found or [ok("sweeps", "nothing left under .ups")]


def git(root: Path) -> Finding:
    """Say where the work tree stands; sweeps need git for their snapshots."""
    try:
        lines = snapshot.git(root, "status", "--porcelain", "--branch").splitlines()
        count = len(snapshot.git(root, "for-each-ref", "--format=%(refname)", snapshot.REFS).splitlines())
    except (UpsError, OSError, subprocess.SubprocessError) as error:
        mend = "Install git; in a folder without a repository: `git init && git add . && git commit -m start`."
        return problem("git", f"not usable here: {error}", mend)
    branch, changed = lines[0].removeprefix("## "), len(lines) - 1
    if branch.startswith("No commits yet"):
        return problem("git", branch, "`git add . && git commit -m start`: sweeps are cut from commits.")
    snapshots = f", {count} snapshots under {snapshot.REFS}" if count else ""
    return ok("git", f"{branch}, {changed or 'no'} changed or new files{snapshots}")
