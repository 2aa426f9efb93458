"""Search at test time, beside the controls that tell whether searching was worth it.

dvc repro evaluate_ttc
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ups.data.dataset import read_split
from ups.data.fields import Trajectories
from ups.evaluation.figures.quality_vs_budget import draw_quality_vs_budget
from ups.evaluation.protocols import Protocol
from ups.evaluation.records import nested_metrics, write_records
from ups.evaluation.scores import FULL, Scores, score
from ups.evaluation.significance import paired_test
from ups.inference.rewards import Rewards, weighted_rewards
from ups.inference.search import (
    BeamSearch,
    Choice,
    OracleChoice,
    RandomChoice,
    best_scored,
    mean_of_candidates,
)
from ups.inference.shift_average import ShiftAverage
from ups.inference.surrogate import Surrogate, load_surrogate
from ups.parameters.evaluate_ttc import EvaluateTTC
from ups.parameters.section import Section
from ups.stages.machine import project_machine
from ups.stages.runner import Inputs, main

NAME = "evaluate_ttc"
INPUTS = {
    "dataset": "artifacts/prepare_data/dataset.h5",
    "codec": "artifacts/train_codec/model.safetensors",
    "codec_config": "artifacts/train_codec/config.json",
    "operator": "artifacts/train_operator/model.safetensors",
    "operator_config": "artifacts/train_operator/config.json",
    "corrector": "artifacts/train_diffusion/model.safetensors",
    "corrector_config": "artifacts/train_diffusion/config.json",
    "corrector_metrics": "artifacts/train_diffusion/metrics.json",
}


class Params(Section):
    """What this stage reads of params/base.yaml."""

    seed: int
    evaluate_ttc: EvaluateTTC


@dataclass
class SearchForecaster:
    """A searched rollout as a forecaster. The truth of the whole split serves the oracle and the correlations only.

    Attributes:
        truth: (R, T, C, X), all frames of the trajectories that will be forecast, in that order.
        correlations: rank correlation of score and error per trajectory, after the call.
        evaluations: network evaluations per step and trajectory, after the call.
    """

    surrogate: Surrogate
    rewards: Rewards
    settings: EvaluateTTC
    seed: int
    choose: Callable[[Tensor], Choice]
    truth: Tensor
    correlations: Tensor | None = None
    evaluations_per_step: float | None = None

    def __call__(self, given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
        watch = OracleChoice(self.truth[:, given.shape[1] :], follow=self.choose(self.truth[:, given.shape[1] :]))
        search = BeamSearch(self.surrogate, self.rewards, self.settings, self.seed)
        result = search.rollout(given[:, -1], coefficients, num_steps, watch)
        self.evaluations_per_step = float(result.evaluations.mean()) / num_steps
        if watch.correlations:
            self.correlations = torch.stack(watch.correlations).mean(dim=0)
        return result.frames


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    """Run the search and its controls on the test split."""
    machine = project_machine()
    settings = params.evaluate_ttc
    data = read_split(inputs["dataset"], "test").to(machine.device)
    codec, operator, corrector = (inputs[part].parent for part in ("codec", "operator", "corrector"))
    surrogate = load_surrogate(codec, operator, corrector, None, data.metadata).to(machine.device)
    if surrogate.corrector is None:
        return _skip("train_diffusion was skipped, and the search draws its candidates from the corrector")
    rewards = weighted_rewards(settings.rewards.model_dump(), data.metadata)
    for name, reason in rewards.not_applicable.items():
        print(f"{NAME}: the reward {name} is left out: {reason}")
    if not rewards.terms:
        return _skip(f"no reward in evaluate_ttc.rewards applies: {'; '.join(rewards.not_applicable.values())}")
    scores: dict[str, dict[str, Scores]] = {}
    correlations: dict[str, Any] = {}
    for protocol in settings.protocols:
        by_mode, correlations[protocol] = _modes(surrogate, rewards, settings, params.seed, data, protocol)
        for mode, result in by_mode.items():
            scores.setdefault(mode, {})[protocol] = result
    metrics = nested_metrics(scores)
    main_protocol = settings.protocols[0]
    metrics["reward_error_rank_correlation"] = correlations
    metrics["rewards"] = {"used": list(rewards.terms), "not_applicable": dict(rewards.not_applicable)}
    metrics["verdict"] = _verdict(scores, main_protocol)
    write_records(outputs, scores, data)
    budget = _quality_vs_budget(surrogate, rewards, settings, params.seed, data, main_protocol)
    budget.to_csv(outputs / "quality_vs_budget.csv", index=False)
    draw_quality_vs_budget(outputs / "figures" / "quality_vs_budget.png", budget, main_protocol)
    verdict = metrics["verdict"]
    print(f"{NAME}: {'recommended' if verdict['recommended'] else 'not recommended'}: {verdict['reason']}")
    return metrics


def _modes(
    surrogate: Surrogate, rewards: Rewards, settings: EvaluateTTC, seed: int, data: Trajectories, protocol: Protocol
) -> tuple[dict[str, Scores], dict[str, float]]:
    """Score the search and every control under one protocol."""

    def search(choose: Callable[[Tensor], Choice], **changes: Any) -> SearchForecaster:
        return SearchForecaster(surrogate, rewards, settings.model_copy(update=changes), seed, choose, data.fields)

    base = surrogate.forecaster("corrected")
    per_step = settings.evaluations_per_step(int(base.evaluations_per_step) - 1)
    copies = max(1, round(per_step / base.evaluations_per_step))
    forecasters: dict[str, Any] = {
        "base": base,
        "search": search(lambda truth: best_scored),
        "random": search(lambda truth: RandomChoice(seed), horizon=1),
        "mean": search(lambda truth: mean_of_candidates, horizon=1),
        "oracle": search(lambda truth: OracleChoice(truth), horizon=1),
        "equal_compute": ShiftAverage(base, copies),
    }
    results = {mode: _score(forecaster, data, protocol) for mode, forecaster in forecasters.items()}
    watched = forecasters["search"].correlations
    return results, {} if watched is None else {"mean": float(watched.mean()), "stderr": _stderr(watched)}


def _quality_vs_budget(
    surrogate: Surrogate, rewards: Rewards, settings: EvaluateTTC, seed: int, data: Trajectories, protocol: Protocol
) -> pd.DataFrame:
    """Return the error against the number of candidates, for the search and the oracle."""
    rows = []
    count = 1
    while count <= settings.candidates:
        for mode, choose in (("search", lambda truth: best_scored), ("oracle", lambda truth: OracleChoice(truth))):
            changed = settings.model_copy(update={"candidates": count, "horizon": 1})
            forecaster = SearchForecaster(surrogate, rewards, changed, seed, choose, data.fields)
            result = _score(forecaster, data, protocol)
            values = result.horizons["nrmse"][FULL]
            rows.append(
                {
                    "mode": mode,
                    "candidates": count,
                    "evaluations_per_step": forecaster.evaluations_per_step,
                    "nrmse": float(values.mean()),
                    "stderr": _stderr(values),
                    "seconds_per_trajectory": result.seconds_per_trajectory,
                }
            )
        count *= 2
    return pd.DataFrame(rows)


def _score(forecaster: Any, data: Trajectories, protocol: Protocol) -> Scores:
    # One batch: the oracle's truth is that of all trajectories, in order.
    return score(forecaster, data, protocol, batch_size=len(data), device=str(data.fields.device))


def _verdict(scores: dict[str, dict[str, Scores]], protocol: Protocol) -> dict[str, Any]:
    """Recommend the search only where it beats the base and the deterministic control of equal compute."""
    nrmse = {mode: by_protocol[protocol].horizons["nrmse"][FULL] for mode, by_protocol in scores.items()}
    tests = {control: paired_test(nrmse["search"], nrmse[control]) for control in ("base", "equal_compute", "random")}
    recommended = all(tests[control]["better"] for control in ("base", "equal_compute"))
    words = [
        f"{test['mean']:+.2e} nRMSE against {control} (p = {test['p_value']:.2g})" for control, test in tests.items()
    ]
    cost = {mode: scores[mode][protocol].seconds_per_trajectory for mode in ("search", "base")}
    return {
        "recommended": recommended,
        "reason": "; ".join(words) + "; paired over test trajectories of one training seed",
        "against": tests,
        "times_base_seconds": cost["search"] / cost["base"],
    }


def _stderr(values: Tensor) -> float:
    return float(values.std() / len(values) ** 0.5)


def _skip(reason: str) -> dict[str, Any]:
    print(f"{NAME}: skipped, {reason}")
    return {"status": "skipped", "reason": reason}


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
