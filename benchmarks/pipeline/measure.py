"""What is measured and how it is written: the stages' own log, times with their spread, a process's end."""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Start:
    """One line of the log that the stage commands themselves write when they start."""

    stage: str
    pid: int
    time: float

    @property
    def alive(self) -> bool:
        """Return whether the process is there and not just waiting to be buried."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state != "Z"


def starts(log: Path) -> list[Start]:
    """Return what was started, by the stages' own account; a line that is just being written is left out."""
    if not log.exists():
        return []
    lines = log.read_text().split("\n")[:-1]
    return [Start(stage, int(pid), float(when)) for stage, pid, when in map(str.split, lines)]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the median and, of several values, the smallest and the largest."""
    low, middle, high = (f"{one:.{digits}f}" for one in (min(values), statistics.median(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low}–{high})"


def counts(values: Sequence[int]) -> str:
    """Return a count, or the range of counts that differ between repetitions."""
    return str(values[0]) if min(values) == max(values) else f"{min(values)}–{max(values)}"


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds; returns whether it did in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def priority() -> list[str]:
    """Return the words before a command that give it more of a machine that others use too, where that is allowed."""
    wanted = ["nice", "-n", "-10"]
    said = subprocess.run([*wanted, "true"], capture_output=True, text=True, check=False)
    return [] if said.returncode or said.stderr else wanted


def end(process: subprocess.Popen[str]) -> str:
    """Kill a process and its group, and return what it had said."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]


def error_line(output: str) -> str:
    """Return the sentence in which a tool says what is wrong, without the names of temporary folders."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = (place for place, line in enumerate(lines) if "error" in line.lower() or "exception" in line.lower())
    place = next(telling, len(lines) - 1)
    words = " ".join(lines[place : place + 2]) or "nothing said"
    return re.sub(r"/[^ ']*/", "", words)[:150]
