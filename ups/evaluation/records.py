"""The evaluation on disk: values per trajectory, errors against time, and the nested metrics.

* `per_trajectory.parquet`, long: model, protocol, regime, trajectory, horizon, metric, value. `trajectory` is the
  index in the source file, so two runs can be compared pair by pair; `horizon` is "1", "4", "16" or "full"; a value of
  a diverged forecast is null.
* `error_vs_time.csv`, long: model, protocol, frame, time, metric, mean, stderr. `frame` counts stored frames, `time` is
  physical; where any trajectory has diverged both numbers are empty.
* `metrics.json`: model -> protocol -> metric -> {mean, stderr}. A metric over a horizon is `nrmse@h16` (first 16
  predicted frames); the full length carries no suffix. With several regimes also `regimes`, the main metrics of each,
  and `regime_kinds`. Beside the metrics stand plain numbers: `diverged`,
  `frames_given`, `frames_predicted`, `seconds_per_trajectory`, `evaluations_per_trajectory`, `peak_memory_bytes`.
* `summary.json`: of these only the mean nRMSE, model -> protocol -> nrmse: what `dvc metrics` shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ups.data.fields import Trajectories
from ups.data.regime_kind import kind, label, nearest, trained_regimes
from ups.evaluation.reductions import estimate, paired_difference, pdebench_nrmse
from ups.evaluation.scores import FULL, Scores

# model -> protocol -> scores
AllScores = Mapping[str, Mapping[str, Scores]]

PER_TRAJECTORY = "per_trajectory.parquet"
ERROR_VS_TIME = "error_vs_time.csv"
SUMMARY = "summary.json"
BY_REGIME = ("nrmse", "rmse", "max_error", "relative_l2")


def regimes(data: Trajectories) -> list[str]:
    """Return the regime of each trajectory, its coefficients by name, e.g. "viscosity=0.01"."""
    names = data.metadata.coefficients
    return [label(names, row) for row in data.coefficients.tolist()]


def regime_kinds(data: Trajectories) -> dict[str, dict[str, Any]]:
    """Return regime -> {kind, trajectories, nearest_trained}, rising; empty with a single regime.

    `kind` says how it relates to the regimes trained on (`ups.data.regime_kind`), `nearest_trained` which of them is
    the nearest.
    """
    names, trained = data.metadata.coefficients, trained_regimes(data.metadata.training)
    found: dict[str, dict[str, Any]] = {}
    for row in data.coefficients.double().unique(dim=0).tolist():
        rows = (data.coefficients.double() == torch.tensor(row, dtype=torch.float64)).all(1)
        entry: dict[str, Any] = {"trajectories": int(rows.sum())}
        if trained:
            entry |= {"kind": kind(row, trained), "nearest_trained": label(names, nearest(row, trained))}
        found[label(names, row)] = entry
    return found if len(found) > 1 else {}


def per_trajectory(scores: AllScores, data: Trajectories) -> pd.DataFrame:
    """Return all values per trajectory in long format; see the module's header."""
    trajectory, regime = data.index.numpy(), np.array(regimes(data), dtype=object)
    parts = []
    for model, protocol, result in _walk(scores):
        for metric, by_horizon in result.horizons.items():
            for horizon, values in by_horizon.items():
                column = values.numpy().astype(float)
                parts.append(
                    pd.DataFrame(
                        {
                            "model": model,
                            "protocol": protocol,
                            "regime": regime,
                            "trajectory": trajectory,
                            "horizon": horizon,
                            "metric": metric,
                            "value": np.where(np.isfinite(column), column, np.nan),
                        }
                    )
                )
    return pd.concat(parts, ignore_index=True)


def error_vs_time(scores: AllScores, dt: float) -> pd.DataFrame:
    """Return the mean of each frame metric and its standard error at each predicted frame; see the module's header."""
    rows = []
    for model, protocol, result in _walk(scores):
        for metric, values in result.frames.items():
            for column in range(values.shape[1]):
                frame = result.frames_given + column
                row = {"model": model, "protocol": protocol, "frame": frame, "time": frame * dt, "metric": metric}
                rows.append({**row, **estimate(values[:, column])})
    return pd.DataFrame(rows).astype({"mean": float, "stderr": float})


def nested_metrics(scores: AllScores) -> dict[str, Any]:
    """Return model -> protocol -> metric -> {mean, stderr}; see the module's header."""
    nested: dict[str, Any] = {}
    for model, protocol, result in _walk(scores):
        nested.setdefault(model, {})[protocol] = _summary(result)
    return nested


def metrics_by_regime(scores: AllScores, data: Trajectories) -> dict[str, Any]:
    """Return regime -> model -> protocol -> metric -> {mean, stderr}; empty with a single regime.

    Only the metrics of `BY_REGIME`, for full length, regimes rising: all others are in the values per trajectory.
    """
    labels = regimes(data)
    rising = [labels[int(row)] for row in np.lexsort(data.coefficients.numpy().T[::-1])]
    kinds = list(dict.fromkeys(rising))
    if len(kinds) < 2:
        return {}
    nested: dict[str, Any] = {}
    for regime in kinds:
        rows = torch.tensor([found == regime for found in labels])
        for model, protocol, result in _walk(scores):
            values = {metric: estimate(result.horizons[metric][FULL][rows]) for metric in BY_REGIME}
            nested.setdefault(regime, {}).setdefault(model, {})[protocol] = values
    return nested


def paired_comparisons(scores: AllScores, reference: str, metric: str = "nrmse") -> dict[str, Any]:
    """Return model -> protocol -> {mean, stderr} of the difference to `reference`, over the same trajectories."""
    if reference not in scores:
        return {}
    nested: dict[str, Any] = {}
    for model, protocol, result in _walk(scores):
        base = scores[reference].get(protocol)
        if model != reference and base is not None:
            difference = paired_difference(result.horizons[metric][FULL], base.horizons[metric][FULL])
            nested.setdefault(model, {})[protocol] = {metric: difference}
    return nested


def estimates(values: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return metric -> {mean, stderr} of per-trajectory values, each (B,)."""
    return {metric: estimate(value) for metric, value in values.items()}


def write_records(folder: Path, scores: AllScores, data: Trajectories) -> None:
    """Write `per_trajectory.parquet`, `error_vs_time.csv` and `summary.json` into `folder`."""
    write_summary(folder, scores)
    per_trajectory(scores, data).to_parquet(folder / PER_TRAJECTORY, index=False)
    # 9 digits: enough to plot and compare, and the file stays small.
    error_vs_time(scores, data.metadata.dt).to_csv(folder / ERROR_VS_TIME, index=False, float_format="%.9g")


def write_summary(folder: Path, scores: AllScores) -> None:
    """Write `summary.json`; without scores for a stage that was skipped, because DVC looks for the file."""
    found: dict[str, Any] = {}
    for model, protocol, result in _walk(scores):
        mean = estimate(result.horizons["nrmse"][FULL])["mean"]
        found.setdefault(model, {})[protocol] = {"nrmse": mean}
    (folder / SUMMARY).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _summary(result: Scores) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for metric, by_horizon in result.horizons.items():
        for horizon, values in by_horizon.items():
            metrics[metric if horizon == FULL else f"{metric}@h{horizon}"] = estimate(values)
    metrics["pdebench_nrmse"] = {"mean": pdebench_nrmse(result.frames["nrmse"]), "stderr": None}
    metrics["diverged"] = int(result.diverged.sum())
    for name in (
        "frames_given",
        "frames_predicted",
        "seconds_per_trajectory",
        "evaluations_per_trajectory",
        "peak_memory_bytes",
    ):
        metrics[name] = getattr(result, name)
    return metrics


def _walk(scores: AllScores) -> Iterator[tuple[str, str, Scores]]:
    for model, by_protocol in scores.items():
        for protocol, result in by_protocol.items():
            yield model, protocol, result
