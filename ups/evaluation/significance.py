"""Whether one set of paired errors is smaller than another.

The unit is the test trajectory, so these verdicts hold for the trained models at hand. Whether a *method* is better is
a question over training seeds and is answered elsewhere.
"""

from typing import Any

from scipy import stats
from torch import Tensor

LEVEL = 0.05


def paired_test(values: Tensor, reference: Tensor, level: float = LEVEL) -> dict[str, Any]:
    """Compare two methods on the same trajectories by a two-sided paired t-test of mean difference zero.

    Args:
        values, reference: errors, each (B,), B >= 2, in the same order.
        level: significance level.

    Returns:
        `mean` and `stderr` of the difference, `p_value`, and `better`: the mean is below zero and p < level.
    """
    difference = (values - reference).double()
    mean, spread = float(difference.mean()), float(difference.std())
    if spread == 0.0:  # identical methods: the t statistic is 0/0, and there is nothing to be shown
        return {"mean": mean, "stderr": 0.0, "p_value": 1.0 if mean == 0 else 0.0, "better": mean < 0}
    p_value = float(stats.ttest_rel(values.double().numpy(), reference.double().numpy()).pvalue)
    return {
        "mean": mean,
        "stderr": spread / len(difference) ** 0.5,
        "p_value": p_value,
        "better": mean < 0 and p_value < level,
    }
