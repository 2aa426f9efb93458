"""Tests over seeds: against scipy, by hand, and against simulated truth."""

import itertools

import numpy as np
import pytest
from scipy import stats

from ups.evaluation.seed_tests import (
    LEVEL,
    MIN_PAIRS,
    POWER,
    PROMISE,
    detectable_effect,
    holm,
    paired_t,
    sign_flip,
    t_power,
)
from ups.evaluation.simulated_runs import Spread, as_runs, measured_spread, simulate


@pytest.mark.parametrize("count", [2, 6, 11, 20])
def test_t_is_scipys(count):
    values = np.random.default_rng(count).normal(0.4, 1.0, count)
    expected = stats.ttest_1samp(values, 0.0)
    found = paired_t(values, level=0.05)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-12)


def test_t_by_hand():
    # 1, 2, 3: mean 2, s = 1, stderr 1/sqrt(3), t = 2 sqrt(3) with 2 degrees of freedom, for which
    # P(|t| > x) = 1 - x / sqrt(2 + x^2).
    found = paired_t([1.0, 2.0, 3.0])
    assert found.stderr == pytest.approx(3**-0.5)
    assert found.p_value == pytest.approx(1 - 12**0.5 / 14**0.5)


def test_equal_differences_have_a_verdict_and_zeros_have_none():
    assert paired_t([0.0] * 6).p_value == 1.0
    assert paired_t([0.5] * 6).p_value == 0.0
    assert sign_flip([0.0] * 6) == 1.0
    assert sign_flip([0.5] * 6) == 2 / 64


def test_sign_flip_by_hand():
    # Sums of +-1 +-2 +-4: every odd number from -7 to 7 once. At least 5 in size: +-5, +-7.
    assert sign_flip([4.0, 2.0, -1.0]) == 4 / 8
    assert sign_flip([1.0, 2.0, 4.0]) == 2 / 8


@pytest.mark.parametrize("count", [2, 5, 6, 9, 12])
def test_sign_flip_is_the_enumeration_and_scipys(count):
    values = np.random.default_rng(count).normal(0.5, 1.0, count).round(1)  # rounded: ties occur
    signs = np.array(list(itertools.product((-1, 1), repeat=count)))
    counted = np.mean(np.abs(signs @ values) >= abs(values.sum()) - 1e-9)
    assert sign_flip(values) == pytest.approx(counted, abs=1e-15)
    if count <= 9:
        result = stats.permutation_test(
            (values, np.zeros(count)),
            lambda a, b: np.mean(a - b),
            permutation_type="samples",
            n_resamples=np.inf,
            alternative="two-sided",
        )
        assert sign_flip(values) == pytest.approx(result.pvalue, abs=1e-12)


def test_sign_flip_of_many_pairs_agrees_with_the_normal_limit():
    values = np.random.default_rng(0).normal(0.2, 1.0, 60)
    limit = 2 * stats.norm.sf(abs(values.sum()) / np.sqrt((values**2).sum()))
    # 100,000 draws: standard error .0013 at p = .2; the limit itself is off by less than .01 at 60 pairs
    assert sign_flip(values) == pytest.approx(limit, abs=0.015)
    assert sign_flip(values[:30]) == pytest.approx(
        2 * stats.norm.sf(abs(values[:30].sum()) / np.sqrt((values[:30] ** 2).sum())), abs=0.03
    )


@pytest.mark.parametrize("bad", [[], [1.0], [1.0, np.nan], [1.0, np.inf]])
def test_impossible_differences_are_refused(bad):
    for test in (paired_t, sign_flip):
        with pytest.raises(ValueError, match="one per seed"):
            test(bad)


def test_holm_by_hand():
    # .01 * 4, .02 * 3, max(.06, .03 * 2), .4 * 1; given out of order.
    assert holm([0.03, 0.01, 0.4, 0.02]) == pytest.approx([0.06, 0.04, 0.4, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@pytest.mark.parametrize("pairs", [6, 10, 20])
def test_the_detectable_effect_is_detected_as_often_as_it_says(pairs):
    effect = detectable_effect(pairs)
    assert t_power(effect, pairs) == pytest.approx(POWER, abs=1e-6)
    generator = np.random.default_rng(pairs)
    draws = generator.standard_normal((4_000, pairs)) * 0.2 + effect * 0.2
    found = np.mean([paired_t(row).p_value < LEVEL for row in draws])
    assert found == pytest.approx(POWER, abs=0.02)  # three standard errors: 3 * sqrt(.16 / 4000) = .019


def test_power_without_an_effect_is_the_level():
    assert t_power(0.0, 6) == pytest.approx(LEVEL)


NULLS = {
    "lognormal": Spread(),
    "normal": Spread(shape="normal"),
    "outliers": Spread(shape="outliers"),
    "shared stages": Spread(seed_correlation=0.8),
    "wide": Spread(seed_sd=0.15),
}


@pytest.mark.parametrize("name", NULLS)
def test_nulls_rarely_get_a_verdict(name):
    """2,000 comparisons of two methods that do not differ, at the fewest pairs that get a verdict."""
    generator = np.random.default_rng(2026)
    rejected = 0
    for _ in range(2_000):
        method, reference = simulate(NULLS[name], MIN_PAIRS, generator).mean(2)
        rejected += paired_t(method - reference).p_value < LEVEL
    assert rejected / 2_000 <= PROMISE
    assert rejected > 0  # a test that never rejects is not calibrated either


def test_the_measured_spread_is_the_simulated_one():
    truth = Spread(seed_sd=0.12, seed_correlation=0.5, trajectory_sd=0.6, trajectory_correlation=0.9, trajectories=400)
    found = measured_spread(*[as_runs(errors) for errors in simulate(truth, 400, np.random.default_rng(1))])
    assert found.seed_sd == pytest.approx(0.12, rel=0.15)
    assert found.method_seed_sd == pytest.approx(0.12, rel=0.15)
    assert found.seed_correlation == pytest.approx(0.5, abs=0.1)
    assert found.trajectory_sd == pytest.approx(0.6, rel=0.2)
    assert found.trajectory_correlation == pytest.approx(0.9, abs=0.03)
