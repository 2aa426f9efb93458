"""What a reward learns from: candidates drawn as the search draws them, ranked by the truth of their trajectory.

Shapes: R trajectories, T frames, K candidates, C field channels, *space grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ups.data.fields import Trajectories
from ups.data.triplets import Triplets
from ups.errors import TrainingError
from ups.inference.candidates import CandidateSource, States
from ups.inference.choices import base_candidate, true_errors
from ups.inference.surrogate import Surrogate
from ups.parameters.evaluate_ttc import CandidateDraws


def draw_triplets(surrogate: Surrogate, data: Trajectories, draws: CandidateDraws, seed: int) -> Triplets:
    """Forecast trajectories from their first frame with the plain step, and rank the candidates of every step.

    The states are those that a search meets: free-running, with all the error that has grown until then. Steps whose
    forecast is no longer finite are left out.

    Args:
        surrogate: with a corrector.
        data: trajectories of one split, on the surrogate's device.
        draws: as the search's; at least 3 candidates.
        seed: all noise follows from it.

    Raises:
        TrainingError: if no forecast stays finite for a single step.
    """
    source = CandidateSource(surrogate, _no_reward, draws, seed)
    steps = data.num_frames - 1
    parts: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        previous = data.fields[:, 0]
        observer, z = surrogate.start(previous)
        for step in range(steps):
            states = States(z[:, None], previous[:, None], observer, step)
            drawn = source.expand(states, data.coefficients, step / steps)
            errors = true_errors(drawn, data.fields[:, step + 1])
            order = errors.argsort(dim=1)[:, [0, draws.candidates // 2, draws.candidates - 1]]
            rows = torch.arange(len(data), device=order.device)[:, None]
            finite = errors.isfinite().all(1)
            found = (previous, drawn.frames[rows, 0, order], errors.gather(1, order), data.coefficients, rows[:, 0])
            parts.append(tuple(value[finite] for value in found))
            z = base_candidate(drawn, errors, step)
            previous = drawn.frames[:, 0, 0]
            z = surrogate.reencode(z)
    triplets = Triplets(*(torch.cat(values) for values in zip(*parts, strict=True)))
    if not len(triplets):
        raise TrainingError(
            "train_reward: every forecast diverges in its first step, so there are no candidates to rank. Look at "
            "the operator's validation loss, or skip this stage with train_reward.optimization.epochs = 0."
        )
    return triplets


def _no_reward(previous: Tensor, frame: Tensor, coefficients: Tensor) -> Tensor:
    return torch.zeros(len(frame), device=frame.device)
