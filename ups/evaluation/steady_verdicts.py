"""What the scores of a steady prior say: does it look at the problem, beat one answer to all, and gain by iterating?

Each verdict is a paired test over test problems of one trained model, not over training seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from torch import Tensor

from ups.data.fields import Trajectories
from ups.data.steady import given_channels
from ups.evaluation.names import STEADY_PRIOR
from ups.evaluation.reductions import estimate
from ups.evaluation.scores import FULL, Scores
from ups.evaluation.significance import paired_test
from ups.evaluation.steady import STEADY

MEAN_SOLUTION = "mean_solution"


def iteration_counts(trained: int) -> list[int]:
    """Return the numbers of iterations that a prior is judged at: 1, 2, 4, ... up to twice what it was trained for."""
    doubled, counts = 1, {trained}
    while doubled <= 2 * trained:
        counts.add(doubled)
        doubled *= 2
    return sorted(counts)


def prior_name(iterations: int, trained: int) -> str:
    """Return the name of the prior stopped or prolonged to a number of iterations."""
    return STEADY_PRIOR if iterations == trained else f"{STEADY_PRIOR}_{iterations}"


def misled(data: Trajectories) -> Trajectories:
    """Return samples that pose the problem of another sample: who finds their solutions as well looks at no problem."""
    fields, known = data.fields.clone(), given_channels(data.metadata)
    fields[:, :, known] = fields[:, :, known].roll(1, 0)
    return replace(data, fields=fields)


def errors(scores: Mapping[str, Mapping[str, Scores]], name: str) -> Tensor:
    """Return the nRMSE of each test problem, (B,)."""
    return scores[name][STEADY].horizons["nrmse"][FULL]


def looks_at_problem(own: Tensor, another: Tensor) -> dict[str, Any]:
    """Compare the errors (B,) on the own problem and on that of another sample."""
    test = paired_test(own, another)
    return {"looks": test["better"], "another_problem": estimate(another), "test": test}


def gate(scores: Mapping[str, Mapping[str, Scores]]) -> dict[str, Any]:
    """Say whether the prior beats the same answer to every problem."""
    test = paired_test(errors(scores, STEADY_PRIOR), errors(scores, MEAN_SOLUTION))
    return {"beats_mean_solution": test["better"], "test": test}


def iterating(scores: Mapping[str, Mapping[str, Scores]], trained: int) -> dict[str, Any]:
    """Say whether iterating pays: the trained number of iterations against one with the same weights.

    Iterations cost in proportion, and training for several makes the first one worse than it could be: the variant
    `steady-prior-one-step` is the control for that.
    """
    if trained == 1:
        return {"pays": False, "iterations": 1, "reason": "the prior was trained for one iteration"}
    last = errors(scores, STEADY_PRIOR)
    test = paired_test(last, errors(scores, prior_name(1, trained)))
    beyond = paired_test(errors(scores, prior_name(max(iteration_counts(trained)), trained)), last)
    found = "no finite errors" if test["mean"] is None else f"{test['mean']:+.2e} nRMSE (p = {test['p_value']:.2g})"
    verb = "pays" if test["better"] else "does not pay"
    return {
        "pays": test["better"],
        "iterations": trained,
        "reason": f"iterating {verb}: {trained} iterations against 1, {found}, paired over test problems",
        "against_one": test,
        "beyond_trained": beyond,
    }


def by_iterations(scores: Mapping[str, Mapping[str, Scores]], trained: int) -> pd.DataFrame:
    """Return error and cost: `iterations`, `trained`, `nrmse`, `stderr`, `seconds_per_trajectory`."""
    rows = []
    for count in iteration_counts(trained):
        name = prior_name(count, trained)
        found = estimate(errors(scores, name))
        seconds = scores[name][STEADY].seconds_per_trajectory
        row = {"iterations": count, "trained": count == trained, "nrmse": found["mean"], "stderr": found["stderr"]}
        rows.append({**row, "seconds_per_trajectory": seconds})
    return pd.DataFrame(rows)
