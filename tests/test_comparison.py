"""Comparison of methods over seeds: pairing, verdicts, what is refused."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from ups.errors import ArtifactError
from ups.evaluation import comparison, records
from ups.evaluation.comparison import Question, Verdict, compare, read_values
from ups.evaluation.seed_tests import LEVEL, MIN_PAIRS, PROMISE, detectable_effect, paired_t, sign_flip
from ups.evaluation.simulated_runs import Spread, as_runs, simulate


def runs(means, trajectories=4, spread=0.5):
    """Return seed -> values whose mean over trajectories is given, exactly in binary."""
    around = np.linspace(-spread, spread, trajectories)
    return as_runs(np.array(means)[:, None] + around)


REFERENCE = [1.0, 1.25, 0.75, 1.5, 1.0, 1.25]
LOWER = [0.5, 0.875, 0.25, 1.125, 0.5, 0.625]  # lower by .5, .375, .5, .375, .5, .625


def only(values, reference="golden", **options):
    (found,) = compare(values, reference, **options)
    return found


def test_numbers_by_hand():
    found = only({"golden": runs(REFERENCE), "light": runs(LOWER)})
    differences = [-0.5, -0.375, -0.5, -0.375, -0.5, -0.625]
    assert [pair.difference for pair in found.pairs] == differences
    assert found.reference_mean == 1.125
    assert found.difference == pytest.approx(-2.875 / 6)
    assert found.relative(found.difference) == pytest.approx(-2.875 / 6 / 1.125)
    expected = paired_t(differences)
    assert (found.low, found.high) == (expected.low, expected.high)
    assert found.p_value == found.p_holm == expected.p_value
    assert found.p_sign_flip == sign_flip(differences) == 2 / 64
    assert found.detectable == pytest.approx(detectable_effect(6) * np.std(differences, ddof=1))
    assert found.verdict is Verdict.BETTER


def test_the_other_way_round_it_is_worse():
    found = only({"golden": runs(REFERENCE), "light": runs(LOWER)}, reference="light")
    assert (found.method, found.verdict) == ("golden", Verdict.WORSE)


def test_a_longer_correlation_time_is_better():
    found = only({"golden": runs(REFERENCE), "light": runs(LOWER)}, question=Question(metric="correlation_time"))
    assert found.verdict is Verdict.WORSE


@pytest.mark.parametrize("seeds", range(1, 9))
def test_no_verdict_below_six_pairs(seeds):
    means = 1.0 + np.arange(seeds) / 64
    found = only({"golden": runs(means), "light": runs(means / 2)})
    enough = seeds >= 6
    assert found.verdict is (Verdict.BETTER if enough else Verdict.TOO_FEW)
    assert (found.p_value is not None, found.p_holm is not None, found.detectable is not None) == (enough,) * 3
    assert found.difference is not None
    assert (found.low is None) == (seeds == 1)


def test_identical_runs_show_no_difference():
    # What happens when the gate leaves the corrector out of both variants.
    found = only({"golden": runs(REFERENCE), "light": runs(REFERENCE)})
    assert (found.verdict, found.identical, found.p_value) == (Verdict.NO_DIFFERENCE, True, 1.0)
    noise = {seed: values * (1 + 1e-12) for seed, values in runs(REFERENCE).items()}
    assert only({"golden": runs(REFERENCE), "light": noise}).identical


def test_intervals_within_a_seed_are_over_its_trajectories_and_do_not_decide():
    generator = np.random.default_rng(3)
    golden = as_runs(1.0 + generator.normal(0, 0.01, (6, 200)))
    signs = np.array([1, -1, 1, -1, 1, -1])
    light = as_runs(1.0 + 0.1 * signs[:, None] + generator.normal(0, 0.01, (6, 200)))
    found = only({"golden": golden, "light": light})
    assert all(not pair.low <= 0.0 <= pair.high for pair in found.pairs)
    assert found.verdict is Verdict.NO_DIFFERENCE
    within = paired_t(light[0] - golden[0])
    assert (found.pairs[0].low, found.pairs[0].high) == (within.low, within.high)


def test_a_diverged_forecast_leaves_no_verdict():
    light = runs(LOWER)
    light[3].iloc[1] = np.nan
    found = only({"golden": runs(REFERENCE), "light": light})
    assert (found.verdict, found.difference, found.p_value) == (Verdict.DIVERGED, None, None)
    assert [pair.seed for pair in found.pairs if pair.difference is None] == [3]
    assert found.pairs[3].reference == 1.5


def test_missing_seeds_are_named():
    light = runs(LOWER)
    del light[2], light[5]
    with pytest.raises(ArtifactError, match=r"light lacks 2, 5\. Run them or .*--seeds 0,1,3,4`"):
        compare({"golden": runs(REFERENCE), "light": light}, "golden")
    del light[0], light[1], light[3], light[4]
    with pytest.raises(ArtifactError, match="light lacks 0, 1, 2, 3, 4, 5"):
        compare({"golden": runs(REFERENCE), "light": light}, "golden")


def test_other_trajectories_are_an_error_that_names_the_seed():
    light = runs(LOWER)
    light[4] = light[4].rename({3: 7})
    with pytest.raises(ArtifactError, match=r"Seed 4: light and golden .* \(2 are in one alone: 3, 7\)"):
        compare({"golden": runs(REFERENCE), "light": light}, "golden")


def test_holm_over_all_comparisons_decides():
    reference = as_runs(np.ones((8, 4)))
    scatter = np.linspace(-0.35, 0.35, 8)
    stderr = scatter.std(ddof=1) / 8**0.5
    values = {"golden": reference}
    for name, t in (("a", 4.0), ("b", 2.65), ("c", 0.5)):  # p = .005, .033, .63 with 7 degrees of freedom
        values[name] = as_runs(1.0 + (t * stderr + scatter)[:, None] + np.zeros((8, 4)))
    found = {each.method: each for each in compare(values, "golden")}
    p = sorted(each.p_value for each in found.values())
    adjusted = sorted(each.p_holm for each in found.values())
    assert adjusted == pytest.approx([3 * p[0], max(3 * p[0], 2 * p[1]), max(3 * p[0], 2 * p[1], p[2])])
    for each in found.values():
        decided = each.verdict in (Verdict.BETTER, Verdict.WORSE)
        assert decided == (each.p_holm < LEVEL)
        alone = only({"golden": reference, each.method: values[each.method]})
        assert each.p_value == alone.p_value
        assert each.detectable > alone.detectable
    assert any(each.p_value < LEVEL <= each.p_holm for each in found.values()), "the example must need the correction"


def test_two_thousand_nulls_through_the_comparison_itself():
    generator = np.random.default_rng(7)
    spread = Spread(trajectories=32)
    verdicts = []
    for _ in range(2_000):
        method, reference = simulate(spread, MIN_PAIRS, generator)
        verdicts.append(only({"golden": as_runs(reference), "light": as_runs(method)}).verdict)
    wrong = sum(verdict in (Verdict.BETTER, Verdict.WORSE) for verdict in verdicts)
    assert 0 < wrong <= PROMISE * 2_000
    assert wrong + verdicts.count(Verdict.NO_DIFFERENCE) == 2_000


@pytest.fixture
def artifacts(tmp_path):
    rows = [
        (model, "pdebench", "viscosity=0.01", trajectory, "full", "nrmse", 0.25 * trajectory + level)
        for model, level in (("assembled", 0.0), ("operator", 1.0))
        for trajectory in (2, 1, 0)
    ]
    columns = ["model", "protocol", "regime", "trajectory", "horizon", "metric", "value"]
    (tmp_path / "evaluate").mkdir()
    pd.DataFrame(rows, columns=columns).to_parquet(tmp_path / "evaluate" / "per_trajectory.parquet")
    return tmp_path


def test_values_are_read_by_trajectory(artifacts):
    values = read_values(artifacts, Question(model="operator"))
    assert list(values.index) == [0, 1, 2]
    assert list(values) == [1.0, 1.25, 1.5]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (Question(model="corrected"), "no model 'corrected' here. It has: assembled, operator"),
        (Question(metric="rmse"), "no metric 'rmse' here. It has: nrmse"),
        (Question(horizon="16"), "no horizon '16' here. It has: full"),
    ],
)
def test_a_question_that_was_not_evaluated_names_what_was(artifacts, question, message):
    with pytest.raises(ArtifactError, match=message):
        read_values(artifacts, question)


def test_a_run_without_evaluation_is_an_error(tmp_path):
    with pytest.raises(ArtifactError, match="stage `evaluate`"):
        read_values(tmp_path, Question())


def test_the_file_has_one_name():
    assert comparison.PER_TRAJECTORY == records.PER_TRAJECTORY


def test_comparing_needs_no_torch():
    modules = "ups.evaluation.comparison_text, ups.evaluation.costs, ups.evaluation.figures.paired_differences"
    code = f"import sys, ups.report.comparison, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
