"""Run the pipeline through DVC: all of it, or stage by stage, and put back what a failed stage's start removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

from ups.errors import UpsError
from ups.pipeline import guard
from ups.pipeline.lock import DVC_LOCK, read_lock
from ups.pipeline.snapshot import git


class Outcome(StrEnum):
    """What DVC did with a stage."""

    RAN = "ran"
    RESTORED = "restored from the cache"
    UNCHANGED = "unchanged"


class StageFailed(UpsError):
    """A stage ended with an error, which it printed itself."""


def reproduce(targets: Sequence[str] = ()) -> None:
    """Run `dvc repro` in the terminal that is there.

    Raises:
        StageFailed: if it fails; the outputs that DVC removed before it ran the failing stage are back.
        UpsError: if this is no git repository, without which DVC runs nothing.
    """
    git(Path.cwd(), "rev-parse", "--git-dir")
    code = _wait(subprocess.Popen(dvc_command("repro", *targets), env=environment()))
    if code:
        restored = restore_missing()
        kept = f"Earlier results are back: {', '.join(restored)}." if restored else "Earlier results are as they were."
        raise StageFailed(f"`dvc repro` failed, see above. {kept} Mend the cause and run the same command again.")


def run_stage(name: str, echo: Callable[[str], None] = print) -> Outcome:
    """Run one stage, its upstream stages being up to date, and say whether it had to run.

    Args:
        name: the stage.
        echo: called with every line of output.

    Raises:
        StageFailed: with the last lines of its output; earlier outputs of the stage are back.
    """
    process = subprocess.Popen(
        dvc_command("repro", "--single-item", name),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    outcome = None
    lines = []
    for line in process.stdout or ():
        lines.append(line.rstrip())
        echo(line.rstrip())
        outcome = outcome or _outcome(line, name)
    if _wait(process):
        restore_missing()
        tail = " ".join(line for line in lines[-6:] if line)
        raise StageFailed(f"The stage {name} failed: {tail}")
    if outcome is None:
        said = " ".join(lines[-3:])
        raise UpsError(
            f"DVC said '{said}', which tells nothing about the stage {name}. Is another DVC version installed?"
        )
    return outcome


def restore_missing() -> list[str]:
    """Check out the outputs in `dvc.lock` that are missing; returns the folders that are back.

    DVC removes a stage's outputs before it starts the stage, so a stage that fails at once would cost earlier results.
    """
    if not DVC_LOCK.is_file():
        return []
    outs = [entry["path"] for stage in read_lock().values() for entry in stage.get("outs", [])]
    missing = [path for path in outs if not Path(path).exists()]
    if missing:
        _wait(subprocess.Popen(dvc_command("checkout", "--quiet", *missing), env=environment()))
    return [path for path in missing if Path(path).exists()]


def _outcome(line: str, name: str) -> Outcome | None:
    if line.startswith(f"Running stage '{name}'"):
        return Outcome.RAN
    if line.startswith(f"Stage '{name}' is cached"):
        return Outcome.RESTORED
    if line.startswith(f"Stage '{name}' didn't change"):
        return Outcome.UNCHANGED
    return None


def dvc_command(*arguments: str) -> list[str]:
    """Return the command that runs this environment's DVC, ending with this process."""
    return guard.guarded([sys.executable, "-m", "dvc", *arguments])


def environment() -> dict[str, str]:
    """Return the environment in which the stages' `python` is this one and nothing reports home."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "true", "DO_NOT_TRACK": "1"}


def _wait(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> int:
    """Wait for a guarded process: Ctrl-C reaches its guard too, and what it leaves is put in order after it."""
    try:
        before = signal.signal(signal.SIGINT, lambda *_: None)
    except ValueError:  # not the main thread, which alone receives signals
        return process.wait()
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
