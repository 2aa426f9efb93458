"""The alarms on overfitting: training loss against forecast error across runs and epochs, the gap over epochs."""

import numpy as np
import pytest
from scipy import stats

from ups.evaluation.overfitting_alarm import (
    correlation_in_words,
    epoch_correlation,
    gap_in_words,
    loss_correlation,
    overfitting,
)


def correlated(runs, r, generator):
    first, noise = generator.standard_normal((2, runs))
    return first, r * first + np.sqrt(1 - r**2) * noise


def test_the_interval_is_scipys():
    losses, errors = correlated(12, -0.5, np.random.default_rng(0))
    found = loss_correlation(losses, errors)
    expected = stats.pearsonr(losses, errors)
    interval = expected.confidence_interval(0.95)
    assert (found.r, found.low, found.high) == pytest.approx((expected.statistic, interval.low, interval.high))


def test_it_rings_for_many_runs_and_not_for_few():
    losses, errors = correlated(400, -0.5, np.random.default_rng(1))
    assert loss_correlation(losses, errors).alarm
    few = loss_correlation([1, 2, 3, 4, 5], [5, 2, 4, 1, 3])
    assert few.r == pytest.approx(-0.5)  # the estimate alone would ring
    assert not few.alarm
    assert not loss_correlation(losses, -errors).alarm


def test_a_weak_correlation_does_not_ring_however_sure_it_is():
    losses, errors = correlated(4_000, -0.1, np.random.default_rng(2))
    found = loss_correlation(losses, errors)
    assert found.high < 0.0
    assert not found.alarm


def test_differences_between_variants_do_not_count():
    generator = np.random.default_rng(3)
    groups = ["a"] * 20 + ["b"] * 20
    shift = np.repeat([0.0, 10.0], 20)
    losses, errors = generator.standard_normal((2, 40))
    pooled = loss_correlation(losses + shift, errors - shift)
    within = loss_correlation(losses + shift, errors - shift, groups)
    assert pooled.alarm
    assert not within.alarm
    assert (within.runs, within.groups) == (40, 2)


@pytest.mark.parametrize(
    ("losses", "errors"),
    [([], []), ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]), ([0.1] * 8, list(range(8))), (list(range(8)), [0.3] * 8)],
)
def test_where_there_is_no_correlation_there_is_no_alarm(losses, errors):
    found = loss_correlation(losses, errors)
    assert (found.r, found.low, found.high, found.alarm) == (None, None, None, False)


def test_unrelated_runs_seldom_ring():
    """Twelve runs of two variants with skewed losses and errors, 2,000 times: half of 5 % lie on the alarm's side."""
    generator = np.random.default_rng(4)
    groups = ["a"] * 6 + ["b"] * 6
    rung = sum(loss_correlation(*np.exp(0.3 * generator.standard_normal((2, 12))), groups).alarm for _ in range(2_000))
    assert 0 < rung <= 0.04 * 2_000  # .025 and four standard errors of .0035


def test_unpaired_numbers_are_refused():
    with pytest.raises(ValueError, match="do not pair"):
        loss_correlation([1.0], [1.0, 2.0])


def test_the_gap_rings_where_it_is_large_and_surely_rises():
    level = overfitting([1.0] * 8, [1.5] * 8)
    assert level["gap"] == 1.5
    assert not level["overfits"]
    rising = overfitting([1.0, 0.9, 0.8, 0.7, 0.6, 0.5], [1.0] * 6)
    assert rising["overfits"]
    assert 0 < rising["gap_slope_low"] < rising["gap_slope"] < rising["gap_slope_high"]
    assert "validation loss 2.00 times the training loss and rising by" in gap_in_words(rising)
    assert not overfitting([1.0] * 6, [1.0, 1.02, 1.04, 1.06, 1.08, 1.1])["overfits"]  # rises, and is small
    assert gap_in_words(level) is None


def test_a_gap_that_only_happens_to_rise_is_silent():
    """Planted: a slope above zero among scatter, and a slope of two epochs."""
    scattered = overfitting([1.0] * 12, [1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.6, 1.3, 1.7, 1.4, 1.6, 1.7])
    assert scattered["gap_slope"] > 0
    assert scattered["gap_slope_low"] < 0
    assert not scattered["overfits"]
    short = overfitting([1.0, 0.5], [1.5, 1.5])
    assert (short["gap_slope"], short["gap_slope_low"], short["overfits"]) == (1.5, None, False)
    assert overfitting([], []) == {
        "gap": 1.0,
        "gap_slope": 0.0,
        "gap_slope_low": None,
        "gap_slope_high": None,
        "overfits": False,
    }


def test_rollouts_that_become_worse_as_the_training_loss_falls_ring():
    generator = np.random.default_rng(5)
    losses = 1.0 / np.arange(1, 26) + 0.01 * generator.standard_normal(25)
    errors = 0.1 + 0.05 * (1 - losses) + 0.001 * generator.standard_normal(25)
    worse = epoch_correlation(losses, errors)
    assert worse["alarm"]
    assert worse["high"] < 0
    assert "across 25 epochs rollouts become worse as the training loss falls" in correlation_in_words(worse)
    better = epoch_correlation(losses, 1 - errors)
    assert better["low"] > 0
    assert not better["alarm"]
    assert correlation_in_words(better) is None


def test_few_epochs_of_a_corrector_do_not_ring():
    found = epoch_correlation([0.9, 0.8, 0.7], [0.1, 0.12, 0.11])
    assert found["r"] < 0
    assert not found["alarm"]
