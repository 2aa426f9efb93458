"""Processors, GPUs, and room on the disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ups.doctor.finding import Finding, ok, problem, warn
from ups.doctor.packages import built_for_cuda, installed
from ups.pipeline import executions
from ups.pipeline.dvc_store import cache_folder

# Below the second, a run on the default data may not end; a PDEBench file of 8 GB needs more than the first.
_LITTLE, _TOO_LITTLE = 10e9, 1e9


def threads(compute: Mapping[str, Any]) -> Finding:
    """Say what decides how many threads a stage gets.

    Args:
        compute: that section of the parameters; empty if they cannot be read.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted, outside = compute.get("num_threads"), os.environ.get("OMP_NUM_THREADS")
    said = f"{usable} processors usable, compute.num_threads: {wanted or 'as torch chooses'}"
    said += f", OMP_NUM_THREADS: {outside}" if outside else ""
    most = wanted or (int(outside) if outside and outside.isdigit() else None)
    if most and most > usable:
        mend = (
            f"Set compute.num_threads or OMP_NUM_THREADS to at most {usable}: more threads than processors are slower."
        )
        return warn("threads", said, mend)
    return ok("threads", said)


def torch_and_gpu(compute: Mapping[str, Any]) -> Finding:
    """Say which device the stages would run on, without importing torch."""
    version, gpus = installed("torch"), executions.gpu_count()
    if version is None:
        return problem("torch", "not installed", "`make` installs requirements.lock.")
    cuda, wanted = built_for_cuda(), str(compute.get("device", "auto"))
    build = f"torch {version}, built for {f'CUDA {cuda}' if cuda else 'CPU only'}"
    said = f"{build}; {gpus or 'no'} NVIDIA GPU{'s' if gpus > 1 else ''}; compute.device: {wanted}"
    if wanted == "cuda" and not (gpus and cuda):
        return problem("torch", said, "There is no GPU that this torch can use: set compute.device: auto, or cpu.")
    if gpus and not cuda:
        mend = f"This torch cannot use the GPU: `pip install torch=={version}` from an index with CUDA builds."
        return warn("torch", said, mend)
    return ok("torch", f"{said}, which is {executions.device_class(compute)} here")


def disks(root: Path) -> list[Finding]:
    """Check the room on the disks of the cache and of the workspaces; one line if they are the same disk."""
    places = {"DVC cache": cache_folder(root), "workspaces": root / ".ups"}
    by_device: dict[int, tuple[str, Path]] = {}
    for name, folder in places.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        device = there.stat().st_dev
        known = by_device.get(device)
        by_device[device] = (f"{known[0]} and {name}" if known else name, there)
    return [_disk(name, there) for name, there in by_device.values()]


def _disk(name: str, place: Path) -> Finding:
    free = shutil.disk_usage(place).free
    said = f"{free / 1e9:.1f} GB free for {name} ({place})"
    mend = "`ups prune` shows what sweeps left behind, `dvc gc -w` what the cache holds and nothing refers to."
    if free < _TOO_LITTLE:
        return problem("disk", said, mend)
    return warn("disk", said, mend) if free < _LITTLE else ok("disk", said)
