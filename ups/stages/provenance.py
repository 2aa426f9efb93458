"""Where a result came from: versions, machine, commit, times. Never an input of another stage."""

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from typing import Any

PACKAGES = ("torch", "numpy", "h5py", "safetensors", "pydantic", "pandas", "scipy", "neuraloperator")


def provenance(stage: str, started: float) -> dict[str, Any]:
    """Return the record of one stage execution that began at `started` (seconds since the epoch)."""
    finished = time.time()
    return {
        "stage": stage,
        "started": started,
        "seconds": round(finished - started, 3),
        "git_commit": _git("rev-parse", "HEAD"),
        # dvc.lock is what a run writes, not what it was made from.
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)dvc.lock")),
        "host": platform.node(),
        "device": _device(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _device() -> str:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return str(torch.cuda.get_device_name())
    return f"cpu ({platform.machine()}, {os.cpu_count()} cores)"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
