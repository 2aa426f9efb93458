"""Whether one set of paired errors is smaller than another.

The unit is the trajectory, so these verdicts hold for the trained models at hand. Whether a *method* is better is a
question over training seeds and is answered elsewhere.
"""

from typing import Any

from scipy import stats
from torch import Tensor

from ups.evaluation.reductions import paired_difference

LEVEL = 0.05


def paired_test(values: Tensor, reference: Tensor, level: float = LEVEL) -> dict[str, Any]:
    """Compare two methods on the same trajectories by a two-sided paired t-test of mean difference zero.

    Args:
        values, reference: errors, each (B,), B >= 2, in the same order.
        level: significance level.

    Returns:
        `mean` and `stderr` of the difference, `low` and `high` of its interval, which holds it with probability
        1 - level, `p_value`, and `better`: the mean is below zero and p < level. Where a forecast diverged there is no
        mean, no interval, no p-value and nothing better.
    """
    difference = paired_difference(values, reference)
    mean, error = difference["mean"], difference["stderr"]
    if mean is None or error is None:
        return {**difference, "low": None, "high": None, "p_value": None, "better": False}
    freedom = len(values) - 1
    half = float(stats.t.ppf(1 - level / 2, df=freedom)) * error
    # Identical up to a constant: the t statistic is not defined.
    constant = 1.0 if mean == 0.0 else 0.0
    p_value = constant if error == 0.0 else float(2 * stats.t.sf(abs(mean) / error, df=freedom))
    interval = {"low": mean - half, "high": mean + half}
    return {**difference, **interval, "p_value": p_value, "better": mean < 0 and p_value < level}
