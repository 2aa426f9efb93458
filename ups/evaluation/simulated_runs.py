"""Made-up sweeps with a known truth: how often a comparison is wrong, and what it can see, before anything is trained.

    error(method, seed, trajectory) = mean * effect(method) * S(method, seed) * T(method, seed, trajectory)

S is how well a training went, T how hard a trajectory is; both have mean 1 and are shared between the methods in part,
S because two variants of one seed share the stages above the one that differs, T because they see the same test set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Shape = Literal["lognormal", "normal", "outliers"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """How errors scatter around a method's mean; deviations as shares of the mean.

    Attributes:
        seed_sd: standard deviation between seeds (scouting: .10 to .15).
        seed_correlation: of the two methods' seeds, on the scale of the logarithm; 0 if they share no trained stage.
        trajectory_sd: standard deviation between trajectories.
        trajectory_correlation: of the two methods' values over trajectories, on the scale of the logarithm.
        trajectories: in the test split.
        shape: of the scatter between seeds: "lognormal"; "normal"; "outliers": lognormal, but one seed in ten went
            wrong by a factor of 1.5.
        method_seed_sd: standard deviation between the seeds of the method, if not that of the reference.
    """

    seed_sd: float = 0.125
    seed_correlation: float = 0.0
    trajectory_sd: float = 0.6
    trajectory_correlation: float = 0.9
    trajectories: int = 128
    shape: Shape = "lognormal"
    method_seed_sd: float | None = None


def simulate(
    spread: Spread, seeds: int, generator: np.random.Generator, effect: float = 0.0, mean: float = 1.0
) -> Array:
    """Return one made-up comparison, errors (2, seeds, trajectories): the method first, its reference second.

    Args:
        spread: how errors scatter.
        seeds: number of pairs.
        generator: where the chance comes from.
        effect: true relative difference of the method: -0.1 makes its expected error 10 % lower.
        mean: expected error of the reference.
    """
    deviations = (spread.seed_sd if spread.method_seed_sd is None else spread.method_seed_sd, spread.seed_sd)
    shared, own = generator.standard_normal(seeds), generator.standard_normal((2, seeds))
    scores = _mixed(shared, own, spread.seed_correlation)
    training = np.stack([_factor(row, sd, spread.shape) for row, sd in zip(scores, deviations, strict=True)])
    if spread.shape == "outliers":
        went_wrong = generator.random((2, seeds)) < 0.1
        training *= np.where(went_wrong, 1.5, 1.0) / 1.05
    hardness = generator.standard_normal(spread.trajectories)
    noise = generator.standard_normal((2, seeds, spread.trajectories))
    trajectory = _factor(_mixed(hardness, noise, spread.trajectory_correlation), spread.trajectory_sd, "lognormal")
    methods = np.array([1.0 + effect, 1.0])
    return np.asarray(mean * methods[:, None, None] * training[:, :, None] * trajectory)


def measured_spread(method: Mapping[int, pd.Series], reference: Mapping[int, pd.Series]) -> Spread:
    """Return the spread of real runs, as `ups.evaluation.comparison.read_values` returns them, by moments.

    The scatter between seeds holds that of the trajectories too, which is small beside it: they are averaged.
    """
    values = np.stack([[runs[seed].to_numpy(float) for seed in sorted(reference)] for runs in (method, reference)])
    means = values.mean(2)
    logs = np.log(values)
    # What is left of a trajectory's logarithm after the seed's and the trajectory's own level is noise.
    centred = logs - logs.mean(2, keepdims=True)
    shared = centred.mean((0, 1))
    count = values.shape[0] * values.shape[1]
    noise = float(((centred - shared) ** 2).sum(axis=(0, 1)).mean() / (count - 1))
    common = max(0.0, float(shared.var(ddof=1)) - noise / count)
    correlation = float(np.corrcoef(np.log(means))[0, 1]) if means.shape[1] > 2 else 0.0
    return Spread(
        seed_sd=float(means[1].std(ddof=1) / means[1].mean()),
        seed_correlation=max(0.0, correlation),
        trajectory_sd=float((values.std(axis=2, ddof=1) / values.mean(2)).mean()),
        trajectory_correlation=common / (common + noise) if common + noise > 0 else 0.0,
        trajectories=values.shape[2],
        method_seed_sd=float(means[0].std(ddof=1) / means[0].mean()),
    )


def as_runs(errors: Array) -> dict[int, pd.Series]:
    """Return errors (seeds, trajectories) of one method in the form that `compare` takes."""
    return {seed: pd.Series(row, index=pd.RangeIndex(len(row), name="trajectory")) for seed, row in enumerate(errors)}


def _mixed(shared: Array, own: Array, correlation: float) -> Array:
    return np.asarray(np.sqrt(correlation) * shared + np.sqrt(1.0 - correlation) * own)


def _factor(scores: Array, deviation: float, shape: Shape) -> Array:
    """Return factors of mean 1 and the given standard deviation from standard normal scores."""
    if shape == "normal":
        return 1.0 + deviation * scores
    scale = np.sqrt(np.log1p(deviation**2))
    return np.asarray(np.exp(scale * scores - scale**2 / 2))
