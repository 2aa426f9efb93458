"""A line through epochs that resemble each other: scipy's where they do not, wider where they do."""

import numpy as np
import pytest
from scipy import stats

from ups.evaluation.trend import fit


def alternating(points=12):
    """Residuals whose neighbours are anti-correlated: every point counts."""
    x = np.arange(points)
    return x, 1.0 + 0.5 * x + 0.3 * (-1.0) ** x


def test_where_neighbours_do_not_resemble_each_other_the_intervals_are_scipys():
    x, y = alternating()
    line, expected = fit(x, y), stats.linregress(x, y)
    half = stats.t.ppf(0.975, 10) * expected.stderr
    assert line.counted == 12
    assert (line.slope, line.low, line.high) == pytest.approx(
        (expected.slope, expected.slope - half, expected.slope + half)
    )
    pearson = stats.pearsonr(x, y)
    interval = pearson.confidence_interval(0.95)
    assert (line.r, line.r_low, line.r_high) == pytest.approx((pearson.statistic, interval.low, interval.high))


def test_epochs_that_resemble_each_other_count_for_less():
    x = np.arange(24)
    slow = fit(x, 0.5 * x + np.sin(2 * np.pi * x / 12))
    quick = fit(x, 0.5 * x + np.sin(2 * np.pi * 5 * x / 12))
    assert quick.counted == 24
    assert slow.counted == pytest.approx(24 * (1 - 0.83) / (1 + 0.83), rel=0.2)  # cos(30 degrees) = .87
    assert slow.low is None or slow.high - slow.low > 3 * (quick.high - quick.low)


def test_lines_without_scatter_and_without_slope():
    exact = fit([0, 1, 2, 3], [1.0, 3.0, 5.0, 7.0])
    assert (exact.slope, exact.low, exact.high, exact.r) == pytest.approx((2.0, 2.0, 2.0, 1.0))
    level = fit(range(5), [0.3] * 5)
    assert (level.slope, level.low, level.high, level.r) == (0.0, 0.0, 0.0, None)


@pytest.mark.parametrize(
    ("x", "y"), [([], []), ([1.0], [2.0]), ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]), ([0, 1], [1, np.nan])]
)
def test_without_a_line_there_are_no_numbers(x, y):
    line = fit(x, y)
    assert (line.slope, line.low, line.r, line.r_low) == (None, None, None, None)


def test_unpaired_numbers_are_refused():
    with pytest.raises(ValueError, match="do not pair"):
        fit([1.0], [1.0, 2.0])


@pytest.mark.parametrize(("memory", "most"), [(0.0, 0.04), (0.6, 0.07), (1.0, 0.11)])
def test_unrelated_series_are_seldom_correlated(memory, most):
    """One side of a 95 % interval: 2.5 %, and a few more for random walks, which fool a plain interval in a third."""
    generator = np.random.default_rng(0)
    trials, rung, plain = 600, 0, 0
    for _ in range(trials):
        series = np.zeros((2, 25))
        series[:, 0] = generator.standard_normal(2)
        for step in range(1, 25):
            series[:, step] = memory * series[:, step - 1] + generator.standard_normal(2)
        line = fit(*series)
        rung += line.high is not None and line.high < 0
        plain += stats.pearsonr(*series).confidence_interval(0.95).high < 0
    assert rung <= most * trials
    if memory == 1.0:
        assert plain > 0.25 * trials
