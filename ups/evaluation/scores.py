"""Score a forecaster on a split: every metric per trajectory, the cost, and nothing larger kept in memory.

Divergence. A trajectory has diverged when any predicted value is NaN or infinite. The evaluation goes on; the
trajectory's metrics are what the formulas give (NaN or infinite from that frame on), `diverged` counts such
trajectories, and a mean over trajectories that includes one does not exist (None). No stand-in value is invented and no
trajectory is left out, so a model that blows up on one trajectory of 128 cannot look better than one that does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ups.data.fields import Trajectories
from ups.evaluation.metrics import correlation_time, frame_metrics, relative_l2
from ups.evaluation.protocols import Clock, Forecaster, Protocol, forecast, given_frames, network_evaluations
from ups.evaluation.reductions import over_horizon
from ups.evaluation.spectra import power_spectrum

FULL = "full"


@dataclass(frozen=True)
class Scores:
    """One forecaster under one protocol on one split.

    Attributes:
        protocol: name of the protocol; "steady" where there is no time (`ups.evaluation.steady`).
        frames_given, frames_predicted: what it started from and how far it went.
        frames: metric -> (B, T'), per trajectory and predicted frame, float64.
        horizons: metric -> horizon ("1", "4", ..., "full") -> (B,), over the first so many predicted frames.
        diverged: (B,), whether any predicted value is not finite.
        seconds_per_trajectory: wall time of the forecaster, batched as evaluated, without its first (warm-up) call.
        evaluations_per_trajectory: network evaluations, None for a forecaster without a network.
        peak_memory_bytes: peak of the CUDA allocator during the forecasts, None on a CPU.
        examples: (K, T', C, *space), predictions of the first K trajectories, for figures.
        spectra: "prediction", "target", "error" -> (B, wavenumbers), mean square by wavenumber at the last frame,
            summed over channels.
    """

    protocol: Protocol | Literal["steady"]
    frames_given: int
    frames_predicted: int
    frames: dict[str, Tensor]
    horizons: dict[str, dict[str, Tensor]]
    diverged: Tensor
    seconds_per_trajectory: float
    evaluations_per_trajectory: int | None
    peak_memory_bytes: int | None
    examples: Tensor
    spectra: dict[str, Tensor]


def score(
    forecaster: Forecaster,
    data: Trajectories,
    protocol: Protocol,
    *,
    batch_size: int,
    horizons: Sequence[int] = (),
    correlation_threshold: float = 0.8,
    num_examples: int = 0,
    device: torch.device | str = "cpu",
    clock: Clock = time.perf_counter,
) -> Scores:
    """Forecast all trajectories of `data` in batches and compute every metric.

    Args:
        forecaster: maps given frames, steps and coefficients to predictions, in physical units, on `device`.
        data: the split, on any device.
        protocol: name of the protocol.
        batch_size: trajectories at once.
        horizons: numbers of predicted frames; those longer than the forecast are left out, as are all of them under
            `one_step`, whose frames are independent forecasts.
        correlation_threshold: see `correlation_time`.
        num_examples: predictions to keep, from the first trajectories.
        device: where the forecaster runs.
        clock: seconds; replaced in tests.
    """
    # The first call pays for compilation, allocation and thread start; it is made once, untimed.
    first = data.select(slice(0, batch_size)).to(device)
    forecast(forecaster, protocol, first.fields[:, :2], first.coefficients)
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds, batches, examples = 0.0, [], []
    steps = data.num_frames - given_frames(protocol, data.num_frames)
    windows = _windows(protocol, horizons, steps)
    for start in range(0, len(data), batch_size):
        batch = data.select(slice(start, start + batch_size)).to(device)
        result = forecast(forecaster, protocol, batch.fields, batch.coefficients, clock)
        seconds += result.seconds
        batches.append(measure(result.prediction, result.target, batch, windows, correlation_threshold))
        if start < num_examples:
            examples.append(result.prediction[: num_examples - start].cpu())
    return Scores(
        protocol=protocol,
        frames_given=data.num_frames - steps,
        frames_predicted=steps,
        **collected(batches),
        seconds_per_trajectory=seconds / len(data),
        evaluations_per_trajectory=network_evaluations(forecaster, protocol, data.num_frames),
        peak_memory_bytes=torch.cuda.max_memory_allocated(device) if torch.device(device).type == "cuda" else None,
        examples=torch.cat(examples) if examples else data.fields.new_zeros(0, steps, *data.fields.shape[2:]),
    )


def collected(batches: Sequence[dict[str, Tensor]]) -> dict[str, Any]:
    """Return the fields of `Scores` that hold what `measure` found in each batch."""
    merged = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
    return {
        "frames": {key.removeprefix("frames/"): value for key, value in merged.items() if key.startswith("frames/")},
        "horizons": _nest(merged),
        "diverged": merged["diverged"],
        "spectra": {name: merged[f"spectra/{name}"] for name in ("prediction", "target", "error")},
    }


def reconstruction_scores(
    reconstruct: Callable[[Tensor], Tensor], data: Trajectories, batch_size: int, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Score a codec: every true frame encoded and decoded.

    Args:
        reconstruct: (B, T, C, *space) -> the same shape, physical units.
        data: the split.
        batch_size: trajectories at once.
        device: where the codec runs.

    Returns:
        metric -> (B,), over all T frames (mean, for max_error the largest).
    """
    parts = []
    for start in range(0, len(data), batch_size):
        batch = data.select(slice(start, start + batch_size)).to(device)
        parts.append(measure(reconstruct(batch.fields), batch.fields, batch, {FULL: None}, threshold=0.5))
    names = (*frame_metrics(data.metadata, data.coefficients), "relative_l2")
    return {name: torch.cat([part[f"horizons/{name}/{FULL}"] for part in parts]) for name in names}


def _windows(protocol: Protocol, horizons: Sequence[int], steps: int) -> dict[str, int | None]:
    inside = {} if protocol == "one_step" else {str(h): h for h in horizons if h <= steps}
    return {**inside, FULL: None}


def measure(
    prediction: Tensor, target: Tensor, batch: Trajectories, windows: dict[str, int | None], threshold: float
) -> dict[str, Tensor]:
    """Return all values of a batch under flat keys, on the CPU; `collected` puts those of all batches together."""
    dt = batch.metadata.dt
    values: dict[str, Tensor] = {"diverged": ~prediction.isfinite().flatten(1).all(1)}
    for name, metric in frame_metrics(batch.metadata, batch.coefficients).items():
        frames = metric.compute(prediction, target)
        values[f"frames/{name}"] = frames
        for label, frames_in in windows.items():
            values[f"horizons/{name}/{label}"] = over_horizon(frames, frames_in, metric.over_time)
    for label, frames_in in windows.items():
        values[f"horizons/relative_l2/{label}"] = relative_l2(prediction[:, :frames_in], target[:, :frames_in])
    values[f"horizons/correlation_time/{FULL}"] = correlation_time(prediction, target, dt, threshold)
    last = {"prediction": prediction[:, -1:], "target": target[:, -1:], "error": (prediction - target)[:, -1:]}
    for name, field in last.items():
        values[f"spectra/{name}"] = power_spectrum(field.to(torch.float64)).sum(2)[:, 0]
    return {key: value.cpu() for key, value in values.items()}


def _nest(values: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    nested: dict[str, dict[str, Tensor]] = {}
    for key, value in values.items():
        if key.startswith("horizons/"):
            _, metric, horizon = key.split("/")
            nested.setdefault(metric, {})[horizon] = value
    return nested
