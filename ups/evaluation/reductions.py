"""From values per trajectory to reported numbers: the one place where trajectories are averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

# PDEBench evaluates its 1-D models in batches of 50 (pdebench/models/config/args/config_*.yaml).
PDEBENCH_BATCH = 50


class Estimate(TypedDict):
    """A mean over trajectories and its standard error; None where there is no finite one."""

    mean: float | None
    stderr: float | None


def estimate(values: Tensor) -> Estimate:
    """Mean over trajectories and its standard error, s / sqrt(B) with s the sample deviation (division by B - 1).

    If any trajectory's value is not finite (the forecast diverged, or the metric is not defined for it) there is no
    mean: leaving such trajectories out would flatter the model that lost them. Both numbers are then None.

    Args:
        values: (B,), one value per trajectory.

    Returns:
        `mean` and `stderr`; `stderr` is None for a single trajectory too.
    """
    values = values.to(torch.float64)
    if values.numel() == 0 or not bool(values.isfinite().all()):
        return {"mean": None, "stderr": None}
    count = values.numel()
    error = float(values.std(correction=1)) / math.sqrt(count) if count > 1 else None
    return {"mean": float(values.mean()), "stderr": error}


def paired_difference(values: Tensor, reference: Tensor) -> Estimate:
    """Mean and standard error of values - reference over the same trajectories (negative: better, for an error)."""
    return estimate(values.to(torch.float64) - reference.to(torch.float64))


def over_horizon(frames: Tensor, horizon: int | None, how: str) -> Tensor:
    """Reduce a frame metric (B, T) over its first `horizon` frames (None: all) to (B,); `how` is "mean" or "max"."""
    window = frames[:, :horizon]
    return window.mean(1) if how == "mean" else window.amax(1)


def pdebench_nrmse(frames: Tensor, batch_size: int = PDEBENCH_BATCH) -> float | None:
    """The nRMSE that PDEBench's own evaluation code prints for these trajectories.

    Its loop adds up the mean nRMSE of every batch and divides by the index of the last batch, that is by n_batches - 1
    instead of n_batches (pdebench/models/metrics.py, `metrics`: `itot` comes from `enumerate`). Published numbers from
    that code are therefore too large by n/(n-1): 20/19 for 1,000 samples in batches of 50. A last, smaller batch
    weighs as much as a full one.

    Args:
        frames: (B, T), values of `ups.evaluation.metrics.nrmse` in the data's order.
        batch_size: PDEBench's evaluation batch.

    Returns:
        The number, or None with fewer than two batches (PDEBench divides by zero there) or non-finite values.
    """
    batches: Sequence[Tensor] = frames.to(torch.float64).split(batch_size)
    if len(batches) < 2 or not bool(frames.isfinite().all()):
        return None
    return float(sum(batch.mean() for batch in batches)) / (len(batches) - 1)
