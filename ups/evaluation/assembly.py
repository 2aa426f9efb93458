"""What the assembled surrogate consists of: only the parts that pay on decoded rollouts of the validation split.

A corrector is trained to explain the operator's residual one step ahead, on latents. What a user gets are decoded,
free-running forecasts, and a correction that helps one step can harm forty. So a part that costs network evaluations
is kept only if forecasts of the validation split show what they buy; equal is not enough. The test split decides
nothing. The tests are paired over trajectories of one training: they choose between models, not between methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ups.data.fields import Trajectories
from ups.evaluation.names import model_label
from ups.evaluation.protocols import Forecaster, Protocol
from ups.evaluation.reductions import estimate
from ups.evaluation.scores import FULL, Scores, score
from ups.evaluation.significance import paired_test
from ups.inference.surrogate import Choice

DECIDES: Protocol = "pdebench"  # has to become better, with an interval that leaves out zero
GUARD: Protocol = "rollout_ic"  # must not become worse: its mean difference is at most zero
# A student replaces its teacher if the interval of what it loses stays below this share of the teacher's error.
KEPT_ACCURACY = 0.05


@dataclass(frozen=True)
class _Measured:
    """Validation forecasts of one model: nRMSE by protocol, (B,) each, and its network evaluations per protocol."""

    errors: Mapping[Protocol, Tensor]
    evaluations: Mapping[Protocol, int | None]

    @classmethod
    def from_scores(cls, scores: Mapping[Protocol, Scores]) -> _Measured:
        return cls(
            {protocol: found.horizons["nrmse"][FULL] for protocol, found in scores.items()},
            {protocol: found.evaluations_per_trajectory for protocol, found in scores.items()},
        )


def decide(
    forecasters: Mapping[Choice, Forecaster],
    validation: Trajectories,
    batch_size: int,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Choose between the operator alone, the operator with its corrector, and the student.

    The corrector pays if with it the nRMSE of `pdebench` is lower (paired over trajectories, 95 % interval below zero)
    and that of `rollout_ic` not higher. The student takes the place of a corrector that pays if it pays against the
    operator by the same rule, needs fewer network evaluations than the corrector, and in both protocols the interval
    of what it loses against it stays below 5 % of the corrector's error.

    Args:
        forecasters: the models that there are, `operator` among them.
        validation: the split.
        batch_size: trajectories at once.
        device: where the models run.

    Returns:
        For `metrics.json`: `assembled`, the chosen model; `reason` in words; `corrector_pays` and
        `student_pays`, None for a model that is not there; `trajectories`; `nrmse` and `evaluations`, model -> protocol
        -> number; `comparisons`, e.g. `corrected_against_operator` -> protocol -> `paired_test`, in nRMSE.
    """
    measured = {name: _measure(forecaster, validation, batch_size, device) for name, forecaster in forecasters.items()}
    return choose(measured, len(validation))


def _measure(forecaster: Forecaster, data: Trajectories, batch_size: int, device: torch.device | str) -> _Measured:
    scores = {name: score(forecaster, data, name, batch_size=batch_size, device=device) for name in (DECIDES, GUARD)}
    return _Measured.from_scores(scores)


def choose(measured: Mapping[Choice, _Measured], trajectories: int) -> dict[str, Any]:
    """Return the decision from measured errors; see `decide`."""
    comparisons: dict[str, dict[str, Any]] = {}
    said = []
    pays: dict[Choice, bool | None] = {"corrected": None, "student": None}
    chosen: Choice = "operator"
    if "corrected" in measured:
        found = _add(comparisons, measured, "corrected", "operator")
        pays["corrected"] = _pays(found)
        verdict = "the corrector pays" if pays["corrected"] else "the corrector does not pay"
        said.append(_sentence(measured, "corrected", "operator", found, verdict))
        chosen = "corrected" if pays["corrected"] else "operator"
    if "student" in measured and "corrected" in measured:
        against_teacher = _add(comparisons, measured, "student", "corrected")
        keeps = _keeps(against_teacher, measured)
        pays["student"] = (
            bool(pays["corrected"]) and keeps and _pays(_add(comparisons, measured, "student", "operator"))
        )
        chosen = "student" if pays["student"] else chosen
        verdict = "the student takes the corrector's place" if pays["student"] else "the student does not"
        if not pays["corrected"]:
            verdict = "there is no corrector that pays for it to replace"
        said.append(_sentence(measured, "student", "corrected", against_teacher, verdict))
    alone = "the operator alone" if chosen == "operator" else model_label(chosen)
    reason = " ".join(said) if said else "There is no corrector."
    return {
        "assembled": chosen,
        "reason": f"{reason} The assembled surrogate is {alone}.",
        "corrector_pays": pays["corrected"],
        "student_pays": pays["student"],
        "trajectories": trajectories,
        "nrmse": {
            name: {protocol: estimate(values)["mean"] for protocol, values in model.errors.items()}
            for name, model in measured.items()
        },
        "evaluations": {name: dict(model.evaluations) for name, model in measured.items()},
        "comparisons": comparisons,
    }


def _add(
    comparisons: dict[str, dict[str, Any]], measured: Mapping[Choice, _Measured], model: Choice, reference: Choice
) -> dict[str, Any]:
    found: dict[str, Any] = {
        protocol: paired_test(values, measured[reference].errors[protocol])
        for protocol, values in measured[model].errors.items()
    }
    comparisons[f"{model}_against_{reference}"] = found
    return found


def _pays(found: Mapping[str, Any]) -> bool:
    guard = found[GUARD]["mean"]
    return bool(found[DECIDES]["better"]) and guard is not None and guard <= 0.0


def _keeps(found: Mapping[str, Any], measured: Mapping[Choice, _Measured]) -> bool:
    """Tell whether the student is cheaper than the corrector and loses at most 5 % of its accuracy."""
    teacher, student = measured["corrected"], measured["student"]
    costs = student.evaluations[DECIDES], teacher.evaluations[DECIDES]
    if costs[0] is None or costs[1] is None or costs[0] >= costs[1]:
        return False
    return all(
        (loss := found[protocol]["high"]) is not None and loss <= KEPT_ACCURACY * float(errors.mean())
        for protocol, errors in teacher.errors.items()
    )


def _sentence(
    measured: Mapping[Choice, _Measured], model: Choice, reference: Choice, found: Mapping[str, Any], verdict: str
) -> str:
    costs = [measured[name].evaluations[DECIDES] for name in (model, reference)]
    numbers = ", ".join(_difference(protocol, test) for protocol, test in found.items())
    label = model_label(model)
    return (
        f"{label[0].upper()}{label[1:]} against {model_label(reference)} in rollouts of validation: {numbers}, at "
        f"{_count(costs[0])} instead of {_count(costs[1])} network evaluations: {verdict}."
    )


def _difference(protocol: str, test: Mapping[str, Any]) -> str:
    if test["mean"] is None or test["low"] is None:
        return f"nRMSE {protocol} without a difference (a forecast diverged, or there is one trajectory)"
    return f"nRMSE {protocol} {test['mean']:+.2e} (95 % interval {test['low']:+.2e} to {test['high']:+.2e})"


def _count(evaluations: int | None) -> str:
    return "an unknown number of" if evaluations is None else str(evaluations)
