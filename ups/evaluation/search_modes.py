"""A search beside its controls: each of them as a forecaster that counts what it spends.

Shapes: R trajectories, T frames, C field channels, *space grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ups.data.fields import Trajectories
from ups.errors import ArtifactError
from ups.evaluation.protocols import Protocol, forecast
from ups.evaluation.scores import FULL, Scores, score
from ups.inference.choices import Choice, OracleChoice, RandomChoice, best_scored, mean_of_candidates
from ups.inference.rewards import Rewards
from ups.inference.search import BeamSearch
from ups.inference.shift_average import ShiftAverage
from ups.inference.surrogate import Surrogate
from ups.parameters.evaluate_ttc import EvaluateTTC

# truth of the frames to be predicted, (R, T', C, *space) -> how to choose among candidates
ChoiceMaker = Callable[[Tensor], Choice]
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass
class SearchForecaster:
    """A searched rollout as a forecaster. The truth of the whole split serves the oracle and the correlations only.

    Attributes:
        truth: (R, T, C, *space), all frames of the trajectories that will be forecast, in that order.
        poor_below: see `BeamSearch`.
        correlations: rank correlation of score and error per trajectory, NaN where it was never searched; this and
            the following after the call.
        evaluations_per_step: network evaluations that were made, per step and trajectory.
        searched: share of steps at which candidates were drawn.
    """

    surrogate: Surrogate
    rewards: Rewards
    settings: EvaluateTTC
    seed: int
    choose: ChoiceMaker
    truth: Tensor
    poor_below: float | None = None
    correlations: Tensor | None = None
    evaluations_per_step: float | None = None
    searched: float | None = None

    def __call__(self, given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
        truth = self.truth[:, given.shape[1] :]
        watch = OracleChoice(truth, follow=self.choose(truth))
        search = BeamSearch(self.surrogate, self.rewards, self.settings, self.seed, self.poor_below)
        result = search.rollout(given[:, -1], coefficients, num_steps, watch)
        self.evaluations_per_step = float(result.evaluations.mean()) / num_steps
        self.searched = float(result.searched.double().mean()) / num_steps
        if watch.correlations:
            self.correlations = torch.stack(watch.correlations).nanmean(dim=0)
        return result.frames


@dataclass(frozen=True)
class SearchStudy:
    """Everything that a search and its controls need on one split under one protocol.

    Attributes:
        surrogate: with a corrector.
        rewards: what candidates are scored by.
        settings: of the search.
        seed: of all noise.
        data: the split.
        protocol: name of the protocol.
        poor_below: see `BeamSearch`; None searches everywhere.
    """

    surrogate: Surrogate
    rewards: Rewards
    settings: EvaluateTTC
    seed: int
    data: Trajectories
    protocol: Protocol
    poor_below: float | None = None

    def forecaster(self, choose: ChoiceMaker = lambda truth: best_scored, **changes: Any) -> SearchForecaster:
        """Return the search with another choice, or with changed settings."""
        settings = self.settings.model_copy(update=changes)
        parts = (self.surrogate, self.rewards, settings, self.seed, choose, self.data.fields, self.poor_below)
        return SearchForecaster(*parts)

    def measure(self, forecaster: Any) -> Scores:
        """Score a forecaster; what a search costs is what it spent, which need not be a whole number per step."""
        # One batch: the oracle's truth is that of all trajectories, in order.
        device = str(self.data.fields.device)
        scores = score(forecaster, self.data, self.protocol, batch_size=len(self.data), device=device)
        spent = round(forecaster.evaluations_per_step * scores.frames_predicted)
        return replace(scores, evaluations_per_trajectory=spent)

    def modes(self) -> tuple[dict[str, Scores], SearchForecaster]:
        """Score the search and every control; returns also the search itself, with what it recorded."""
        base, search = self.surrogate.forecaster("corrected"), self.forecaster()
        results = {"base": self.measure(base), "search": self.measure(search)}
        controls: dict[str, ChoiceMaker] = {
            "random": lambda truth: RandomChoice(self.seed),
            "mean": lambda truth: mean_of_candidates,
            "oracle": lambda truth: OracleChoice(truth),
        }
        for mode, choose in controls.items():
            results[mode] = self.measure(self.forecaster(choose, horizon=1))
        assert search.evaluations_per_step is not None  # it was called
        copies = max(1, round(search.evaluations_per_step / base.evaluations_per_step))
        results["equal_compute"] = self.measure(ShiftAverage(base, copies))
        return results, search

    def quality_vs_budget(self, validation: Trajectories) -> pd.DataFrame:
        """Return the error against what is spent: by candidates for search and oracle, by threshold if adaptive."""
        everywhere = replace(self, poor_below=None)
        rows = []
        count = 1
        while count <= self.settings.candidates:
            for mode, choose in (("search", lambda truth: best_scored), ("oracle", lambda truth: OracleChoice(truth))):
                forecaster = everywhere.forecaster(choose, candidates=count, horizon=1)
                rows.append({"mode": mode, "candidates": count, **self._point(forecaster)})
            count *= 2
        if self.settings.adaptive is not None:
            for quantile in sorted({*_QUANTILES, self.settings.adaptive.quantile}):
                threshold = plain_reward_quantile(self.surrogate, self.rewards, validation, self.protocol, quantile)
                point = self._point(replace(self, poor_below=threshold).forecaster())
                rows.append({"mode": "adaptive", "candidates": self.settings.candidates, **point, "quantile": quantile})
        return pd.DataFrame(rows)

    def _point(self, forecaster: SearchForecaster) -> dict[str, Any]:
        result = self.measure(forecaster)
        values = result.horizons["nrmse"][FULL]
        return {
            "evaluations_per_step": forecaster.evaluations_per_step,
            "nrmse": float(values.mean()),
            "stderr": standard_error(values),
            "seconds_per_trajectory": result.seconds_per_trajectory,
        }


def plain_reward_quantile(
    surrogate: Surrogate, rewards: Rewards, data: Trajectories, protocol: Protocol, quantile: float
) -> float:
    """Return a quantile of the rewards of the plain steps in free-running forecasts of a split.

    Raises:
        ArtifactError: if no step has a finite reward.
    """
    predicted = forecast(surrogate.forecaster("corrected"), protocol, data.fields, data.coefficients).prediction
    given = data.num_frames - predicted.shape[1]
    previous = torch.cat([data.fields[:, given - 1 : given], predicted[:, :-1]], dim=1)
    found = [rewards(previous[:, step], predicted[:, step], data.coefficients) for step in range(predicted.shape[1])]
    values = torch.cat(found)
    values = values[values.isfinite()].double()
    if not len(values):
        raise ArtifactError(
            "evaluate_ttc.adaptive: no plain step of a validation forecast has a finite reward; every forecast "
            "diverged. Look at the operator's validation loss, or search everywhere with evaluate_ttc.adaptive = null."
        )
    return float(values.sort().values[int(quantile * (len(values) - 1))])


def standard_error(values: Tensor) -> float:
    """Return the standard error of the mean of `values`, (R,)."""
    return float(values.std() / len(values) ** 0.5)
