"""The log of executions: what really ran, how long it took, and in which environment.

`.ups/executions.jsonl` holds one line per execution of a stage, also of those that failed;
`.ups/descriptions/<fingerprint>.json` what that execution depended on, so that a plan can say what has changed since.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ups.pipeline import atomic

LOG = Path(".ups/executions.jsonl")
DESCRIPTIONS = Path(".ups/descriptions")
# What a result may depend on beside what DVC tracks; the same packages as in `provenance.json`.
PACKAGES = ("torch", "numpy", "h5py", "safetensors", "pydantic", "pandas", "scipy", "neuraloperator")
_MOST_RECENT = 5  # executions that a reason is looked for among


@dataclass(frozen=True)
class Execution:
    """One line of the log.

    Attributes:
        stage: its name.
        fingerprint: of the stage with its parameters, code, data and upstream stages.
        run_key: under which DVC's run-cache holds it.
        variant, seed: for which it was executed first; others share it.
        start, end: seconds since the epoch.
        returncode: 0, or why there is no result; negative for a signal.
        host: the machine.
        environment: versions, device class and precision, see `environment`.
        snapshot: the git commit of code and parameters.
        sweep: name of the sweep, if it has one.
    """

    stage: str
    fingerprint: str
    run_key: str
    variant: str
    seed: int
    start: float
    end: float
    returncode: int
    host: str = field(default_factory=platform.node)
    environment: Mapping[str, str] = field(default_factory=dict)
    snapshot: str = ""
    sweep: str | None = None

    @property
    def seconds(self) -> float:
        return self.end - self.start


def append(execution: Execution, description: Mapping[str, Any]) -> None:
    """Add a line to the log; lines of simultaneous writers do not mix."""
    path = DESCRIPTIONS / f"{execution.fingerprint}.json"
    if not path.exists():
        atomic.write_text(path, json.dumps(description))
    line = json.dumps(asdict(execution)).encode() + b"\n"
    with LOG.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line  # a full disk cut the last line short; it must not spoil this one
        file.write(line)


def read() -> list[Execution]:
    """Return all executions, the oldest first; a line that a full disk cut short is left out."""
    try:
        lines = LOG.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Execution(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


class History:
    """What past executions tell about a stage.

    Args:
        executions: the oldest first.
    """

    def __init__(self, executions: Iterable[Execution]) -> None:
        self._by_stage: dict[str, list[Execution]] = {}
        self._by_fingerprint: dict[str, list[Execution]] = {}
        for execution in executions:
            if execution.returncode == 0:
                self._by_stage.setdefault(execution.stage, []).append(execution)
                self._by_fingerprint.setdefault(execution.fingerprint, []).append(execution)

    def all_of(self, fingerprint: str) -> list[Execution]:
        """Return the executions of a fingerprint that succeeded, the oldest first."""
        return self._by_fingerprint.get(fingerprint, [])

    def all_at(self, stage: str) -> list[Execution]:
        """Return the executions of a stage that succeeded, the oldest first."""
        return self._by_stage.get(stage, [])

    def of(self, fingerprint: str) -> Execution | None:
        """Return the latest execution of a fingerprint."""
        return self._by_fingerprint.get(fingerprint, [None])[-1]

    def earlier(self, stage: str, variant: str, seed: int) -> list[dict[str, Any]]:
        """Return what earlier executions of a stage depended on: of this variant and seed, or of the latest ones."""
        executions = self._by_stage.get(stage, [])
        same = [e for e in executions if (e.variant, e.seed) == (variant, seed)]
        chosen = same[-1:] or executions[-_MOST_RECENT:]
        return [found for e in chosen if (found := description_of(e.fingerprint)) is not None]


@cache
def description_of(fingerprint: str) -> dict[str, Any] | None:
    """Return what a logged execution depended on, see `ups.pipeline.fingerprint.describe`; None if it is lost."""
    try:
        content = json.loads((DESCRIPTIONS / f"{fingerprint}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def environment(compute: Mapping[str, Any]) -> dict[str, str]:
    """Return what DVC does not key on: versions, device class and precision.

    Args:
        compute: the section `compute` of the parameters.
    """
    return {**_versions(), "device": device_class(compute), "precision": str(compute.get("precision", "fp32"))}


def device_class(compute: Mapping[str, Any]) -> str:
    """Return `cuda` or `cpu`, without asking torch: which of them `compute.device` leads to on this machine."""
    wanted = str(compute.get("device", "auto"))
    if wanted.startswith(("cuda", "gpu")):
        return "cuda"
    return "cuda" if wanted == "auto" and gpu_count() else "cpu"


@cache
def gpu_count() -> int:
    """Return the number of NVIDIA GPUs that processes started here can see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() and name.strip() != "-1"])
    try:
        return sum(1 for name in os.listdir("/dev") if name.removeprefix("nvidia").isdigit())
    except OSError:
        return 0


@cache
def _versions() -> dict[str, str]:
    from importlib import metadata

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found
