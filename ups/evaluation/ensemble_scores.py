"""Score ensembles on a split: errors of the mean, and whether the spread can be believed.

The scores are those of any forecaster for the ensemble's mean, and beside them the metrics of
`ups.evaluation.ensemble`: `spread`, `skill` and `crps` per frame and as means over the horizon, `spread_skill_ratio`
over the whole forecast.

Shapes: M members, B batch, T' predicted frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ups.data.fields import Trajectories
from ups.evaluation.ensemble import crps, skill, spread, spread_skill_ratio
from ups.evaluation.protocols import Forecaster, Protocol, forecast
from ups.evaluation.reductions import over_horizon
from ups.evaluation.scores import FULL, Scores, score


def ensemble_score(
    mean: Forecaster,
    draw: Forecaster,
    data: Trajectories,
    protocol: Protocol,
    *,
    members: int,
    batch_size: int,
    horizons: Sequence[int] = (),
    correlation_threshold: float = 0.8,
    num_examples: int = 0,
    device: torch.device | str = "cpu",
) -> Scores:
    """Forecast all trajectories twice: once with `mean` for its errors and cost, once with `draw` for the spread.

    Args:
        mean: the ensemble's mean.
        draw: draws one forecast for each row of a batch; every call draws anew.
        data, protocol, horizons, correlation_threshold, num_examples, device: as in `score`.
        members: size M of the ensemble, at least 2.
        batch_size: trajectories at once; each is M rows of a batch.
    """
    scores = score(
        mean,
        data,
        protocol,
        batch_size=batch_size,
        horizons=horizons,
        correlation_threshold=correlation_threshold,
        num_examples=num_examples,
        device=device,
    )
    parts = []
    for start in range(0, len(data), batch_size):
        batch = data.select(slice(start, start + batch_size)).to(device)
        fields = batch.fields.repeat(members, *[1] * (batch.fields.dim() - 1))
        result = forecast(draw, protocol, fields, batch.coefficients.repeat(members, 1))
        parts.append(_measure(result.prediction.unflatten(0, (members, -1)), result.target[: len(batch)]))
    merged = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    ratio = {"spread_skill_ratio": {FULL: merged.pop("spread_skill_ratio")}}
    windows = {horizon: None if horizon == FULL else int(horizon) for horizon in scores.horizons["nrmse"]}
    reduced = {
        name: {horizon: over_horizon(frames, count, "mean") for horizon, count in windows.items()}
        for name, frames in merged.items()
    }
    return replace(scores, frames={**scores.frames, **merged}, horizons={**scores.horizons, **reduced, **ratio})


def _measure(ensemble: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return the metrics of one batch, (B, T') each and (B,) for the ratio, on the CPU."""
    values = {
        "spread": spread(ensemble),
        "skill": skill(ensemble, target),
        "crps": crps(ensemble, target),
        "spread_skill_ratio": spread_skill_ratio(ensemble, target),
    }
    return {name: value.cpu() for name, value in values.items()}
