"""Search at test time, beside the controls that tell whether searching was worth it.

dvc repro evaluate_ttc
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ups.data.dataset import read_split
from ups.evaluation.figures.quality_vs_budget import draw_quality_vs_budget
from ups.evaluation.protocols import Protocol
from ups.evaluation.records import nested_metrics, write_records, write_summary
from ups.evaluation.scores import FULL, Scores
from ups.evaluation.search_modes import SearchForecaster, SearchStudy, plain_reward_quantile, standard_error
from ups.evaluation.significance import paired_test
from ups.inference.rewards import weighted_rewards
from ups.inference.surrogate import load_surrogate
from ups.models.reward import RewardNetwork
from ups.models.weights import is_skipped, load_model
from ups.parameters.evaluate_ttc import EvaluateTTC
from ups.parameters.section import Section
from ups.stages.machine import project_machine
from ups.stages.runner import Inputs, main
from ups.stages.skipping import STEADY, is_for_steady

NAME = "evaluate_ttc"
INPUTS = {
    "dataset": "artifacts/prepare_data/dataset.h5",
    "codec": "artifacts/train_codec/model.safetensors",
    "codec_config": "artifacts/train_codec/config.json",
    "operator": "artifacts/train_operator/model.safetensors",
    "operator_config": "artifacts/train_operator/config.json",
    "corrector": "artifacts/train_diffusion/model.safetensors",
    "corrector_config": "artifacts/train_diffusion/config.json",
    "reward": "artifacts/train_reward/model.safetensors",
    "reward_config": "artifacts/train_reward/config.json",
    "reward_metrics": "artifacts/train_reward/metrics.json",
}


class Params(Section):
    """What this stage reads of params/base.yaml."""

    seed: int
    evaluate_ttc: EvaluateTTC


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    """Run the search and its controls on the test split."""
    if is_for_steady(inputs["operator"].parent):
        return _skip(outputs, STEADY)
    machine = project_machine()
    settings = params.evaluate_ttc
    data, validation = (read_split(inputs["dataset"], name).to(machine.device) for name in ("test", "validation"))
    codec, operator, corrector, reward = (inputs[part].parent for part in ("codec", "operator", "corrector", "reward"))
    surrogate = load_surrogate(codec, operator, corrector, None, data.metadata).to(machine.device)
    if surrogate.corrector is None:
        return _skip(outputs, "train_diffusion was skipped, and the search draws its candidates from the corrector")
    learned: RewardNetwork | str = "train_reward was skipped"
    if not is_skipped(reward):
        learned = load_model(reward, RewardNetwork).to(machine.device)
    rewards = weighted_rewards(settings.rewards.model_dump(), data.metadata, learned)
    for name, reason in rewards.not_applicable.items():
        print(f"{NAME}: the reward {name} is left out: {reason}")
    if not rewards.terms:
        return _skip(
            outputs, f"no reward in evaluate_ttc.rewards applies: {'; '.join(rewards.not_applicable.values())}"
        )
    scores: dict[str, dict[str, Scores]] = {}
    correlations: dict[str, Any] = {}
    adaptive: dict[str, Any] = {}
    studies: list[SearchStudy] = []
    for protocol in settings.protocols:
        poor_below = None
        if settings.adaptive is not None:
            quantile = settings.adaptive.quantile
            poor_below = plain_reward_quantile(surrogate, rewards, validation, protocol, quantile)
        studies.append(SearchStudy(surrogate, rewards, settings, params.seed, data, protocol, poor_below))
        by_mode, search = studies[-1].modes()
        correlations[protocol] = _correlation(search)
        adaptive[protocol] = {"poor_below": poor_below, "searched_share": search.searched}
        for mode, result in by_mode.items():
            scores.setdefault(mode, {})[protocol] = result
    metrics = nested_metrics(scores)
    metrics["reward_error_rank_correlation"] = correlations
    metrics["rewards"] = {"used": list(rewards.terms), "not_applicable": dict(rewards.not_applicable)}
    if settings.adaptive is not None:
        metrics["adaptive"] = adaptive
    blind = "learned" in rewards.terms and not _beats_chance(inputs["reward_metrics"])
    metrics["verdict"] = _verdict(scores, settings.protocols[0], blind)
    write_records(outputs, scores, data)
    budget = studies[0].quality_vs_budget(validation)
    budget.to_csv(outputs / "quality_vs_budget.csv", index=False)
    draw_quality_vs_budget(outputs / "figures" / "quality_vs_budget.png", budget, settings.protocols[0])
    verdict = metrics["verdict"]
    print(f"{NAME}: {'recommended' if verdict['recommended'] else 'not recommended'}: {verdict['reason']}")
    return metrics


def _correlation(search: SearchForecaster) -> dict[str, float]:
    """Return mean and standard error over the trajectories that were searched; empty if none was."""
    watched = search.correlations
    if watched is None or not len(watched := watched[watched.isfinite()]):
        return {}
    return {"mean": float(watched.mean()), "stderr": standard_error(watched) if len(watched) > 1 else 0.0}


def _beats_chance(path: Path) -> bool:
    """Read the gate's verdict of `train_reward`."""
    return bool(json.loads(path.read_text())["beats_chance"])


def _verdict(scores: dict[str, dict[str, Scores]], protocol: Protocol, blind: bool) -> dict[str, Any]:
    """Recommend the search only where it beats the base and the deterministic control of equal compute.

    Args:
        scores: mode -> protocol -> scores.
        protocol: that the verdict is about.
        blind: whether a learned reward takes part that ranks no better than chance.
    """
    results = {mode: by_protocol[protocol] for mode, by_protocol in scores.items()}
    nrmse = {mode: result.horizons["nrmse"][FULL] for mode, result in results.items()}
    tests = {control: paired_test(nrmse["search"], nrmse[control]) for control in ("base", "equal_compute", "random")}
    recommended = all(tests[control]["better"] for control in ("base", "equal_compute"))
    words = [_difference(control, test) for control, test in tests.items()]
    if blind:
        words.append("the learned reward ranks no better than chance on validation")
    evaluations = {mode: results[mode].evaluations_per_trajectory or 0 for mode in ("search", "base")}
    return {
        "recommended": recommended,
        "reason": "; ".join(words) + "; paired over test trajectories of one training seed",
        "against": tests,
        "times_base_seconds": results["search"].seconds_per_trajectory / results["base"].seconds_per_trajectory,
        "times_base_evaluations": evaluations["search"] / evaluations["base"],
    }


def _difference(control: str, test: dict[str, Any]) -> str:
    if test["mean"] is None:
        return f"no difference from {control}: a forecast diverged"
    return f"{test['mean']:+.2e} nRMSE against {control} (p = {test['p_value']:.2g})"


def _skip(outputs: Path, reason: str) -> dict[str, Any]:
    write_summary(outputs, {})
    print(f"{NAME}: skipped, {reason}")
    return {"status": "skipped", "reason": reason}


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
