"""How a forecast is set up: which true frames are given, and which are predicted.

A `Forecaster` maps (given (B, G, C, *space), number of steps, coefficients (B, P)) to predictions
(B, steps, C, *space), all in physical units. It may carry an attribute `evaluations_per_step`: how many times its
network runs per predicted frame and trajectory.

| protocol | given | predicted | errors accumulate |
|---|---|---|---|
| `one_step` | every true frame 0..T-2 | the frame after it | no |
| `rollout_ic` | frame 0 | frames 1..T-1, free-running | yes |
| `pdebench` | frames 0..9 | frames 10..T-1, free-running | yes |

`pdebench` gives 10 frames where T >= 37 (31 predicted of 41) and ceil(T / 4) of shorter trajectories.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Forecaster = Callable[[Tensor, int, Tensor], Tensor]
Protocol = Literal["one_step", "rollout_ic", "pdebench"]
Clock = Callable[[], float]

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
PDEBENCH_FRAMES = 10


@dataclass(frozen=True)
class Forecast:
    """Predictions of one batch of trajectories and what they cost.

    Attributes:
        prediction: (B, T', C, *space).
        target: (B, T', C, *space), the true frames at the same times.
        seconds: wall time of the forecaster for the whole batch, device synchronised.
    """

    prediction: Tensor
    target: Tensor
    seconds: float


def given_frames(protocol: Protocol, num_frames: int) -> int:
    """Return how many true frames a forecast starts from, for trajectories of `num_frames` frames.

    Raises:
        ValueError: with fewer than two frames there is nothing to predict.
    """
    if num_frames < 2:
        raise ValueError(f"protocol '{protocol}' needs trajectories of at least 2 frames, not {num_frames}")
    return min(PDEBENCH_FRAMES, math.ceil(num_frames / 4)) if protocol == "pdebench" else 1


def network_evaluations(forecaster: Forecaster, protocol: Protocol, num_frames: int) -> int | None:
    """Return the network evaluations per trajectory, or None if the forecaster does not declare them.

    Where one evaluation predicts several frames, the last one counts as a whole.
    """
    per_step = getattr(forecaster, "evaluations_per_step", None)
    if per_step is None:
        return None
    return math.ceil(round(per_step * (num_frames - given_frames(protocol, num_frames)), 6))


@torch.no_grad()
def forecast(
    forecaster: Forecaster, protocol: Protocol, fields: Tensor, coefficients: Tensor, clock: Clock = time.perf_counter
) -> Forecast:
    """Run one batch of trajectories through a protocol.

    Args:
        forecaster: the model; it sees the given true frames and nothing else of `fields`.
        protocol: name of the protocol.
        fields: (B, T, C, *space), true trajectories on the device the forecaster runs on.
        coefficients: (B, P).
        clock: seconds; replaced in tests.

    Raises:
        ValueError: if the forecaster returns another shape than (B, steps, C, *space).
    """
    frames = fields.shape[1]
    given = given_frames(protocol, frames)
    synchronize(fields)
    started = clock()
    if protocol == "one_step":
        # One start frame at a time: a batch of B trajectories never becomes a batch of B T, so memory stays bounded.
        steps = [_call(forecaster, fields[:, k : k + 1], 1, coefficients) for k in range(frames - 1)]
        prediction = torch.cat(steps, dim=1)
    else:
        prediction = _call(forecaster, fields[:, :given], frames - given, coefficients)
    synchronize(fields)
    return Forecast(prediction, fields[:, given:], clock() - started)


def _call(forecaster: Forecaster, given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
    prediction = forecaster(given, num_steps, coefficients)
    expected = (given.shape[0], num_steps, *given.shape[2:])
    if tuple(prediction.shape) != expected:
        raise ValueError(f"a forecaster returned shape {tuple(prediction.shape)}; {expected} was expected")
    return prediction


def synchronize(fields: Tensor) -> None:
    """Wait until the device has done what it was asked: before the clock is read."""
    if fields.is_cuda:
        torch.cuda.synchronize(fields.device)
