"""Start a stage's command under its guard, wait for it, stop it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ups.pipeline import guard
from ups.pipeline.execute import environment

_SHELL_SIGNS = set(";&|<>()$`\n\\\"'*?~#=%!{}[]")
_TAIL_BYTES = 4000


class Command:
    """A running command.

    Args:
        command: for the shell, as DVC runs it.
        folder: where it runs.
        stage: for DVC's environment variable of that name.
        log: file that its output is appended to.
        locks: descriptors of locks that are to be held as long as it lives.
    """

    def __init__(self, command: str, folder: Path, stage: str, log: Path, locks: Sequence[int]) -> None:
        # Without `exec` some shells stay between guard and stage, and a stage killed by the guard's death would not be.
        script = command if _SHELL_SIGNS & set(command) else f"exec {command}"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                guard.guarded(["/bin/sh", "-c", script]),
                cwd=folder,
                env={**environment(), "DVC_ROOT": str(folder), "DVC_STAGE": stage, "UPS_PROJECT_ROOT": os.getcwd()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=locks,
                start_new_session=True,
            )

    def wait(self) -> int:
        """Return the exit code; negative for a signal."""
        code = self._process.wait()
        return code if code <= 128 else 128 - code

    def stop(self) -> None:
        """Ask it to end; the guard kills what does not."""
        if self._process.poll() is None:
            self._process.terminate()


def tail(log: Path, lines: int = 6) -> str:
    """Return the last lines that a command wrote."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return " ".join([line.strip() for line in text.splitlines() if line.strip()][-lines:])
