import json
import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from example_fields import advected_sines, drift

from ups.data.fields import TrainingRange, Trajectories
from ups.evaluation import records
from ups.evaluation.scores import score


@pytest.fixture(scope="module")
def data() -> Trajectories:
    return advected_sines(trajectories=4, frames=9, first_index=100)


@pytest.fixture(scope="module")
def scores(data):
    def evaluated(forecaster):
        protocols = ("one_step", "rollout_ic")
        return {name: score(forecaster, data, name, batch_size=3, horizons=[1, 4]) for name in protocols}

    def explodes(given, num_steps, coefficients):
        prediction = drift(0.1)(given, num_steps, coefficients)
        prediction[coefficients[:, 0] > 1.2, 4:] = math.nan
        return prediction

    return {"operator": evaluated(drift(0.1)), "corrected": evaluated(drift(0.05)), "student": evaluated(explodes)}


def test_long_table(scores, data):
    table = records.per_trajectory(scores, data)
    assert list(table) == ["model", "protocol", "regime", "trajectory", "horizon", "metric", "value"]
    chosen = table[
        (table.model == "operator")
        & (table.protocol == "rollout_ic")
        & (table.horizon == "4")
        & (table.metric == "nrmse")
    ]
    assert list(chosen.trajectory) == [100, 101, 102, 103]
    assert list(chosen.regime) == ["velocity=0.5", "velocity=0.75", "velocity=1", "velocity=1.25"]
    assert list(chosen.value) == scores["operator"]["rollout_ic"].horizons["nrmse"]["4"].tolist()
    assert not table.duplicated(["model", "protocol", "trajectory", "horizon", "metric"]).any()


def test_files_survive_the_disk(scores, data, tmp_path):
    records.write_records(tmp_path, scores, data)
    table = pd.read_parquet(tmp_path / "per_trajectory.parquet")
    pd.testing.assert_frame_equal(table, records.per_trajectory(scores, data), check_dtype=False)
    lost = table[(table.model == "student") & (table.protocol == "rollout_ic") & (table.metric == "nrmse")]
    assert lost[lost.value.isna()][["trajectory", "horizon"]].values.tolist() == [[103, "full"]]
    errors = pd.read_csv(tmp_path / "error_vs_time.csv")
    line = errors[(errors.model == "student") & (errors.protocol == "rollout_ic") & (errors.metric == "nrmse")]
    assert line["frame"].tolist() == list(range(1, 9))
    assert line["time"].tolist() == pytest.approx([0.05 * frame for frame in range(1, 9)])
    assert line["mean"].isna().tolist() == [False] * 4 + [True] * 4


def test_nested_metrics_are_json_and_name_divergence(scores):
    metrics = json.loads(json.dumps(records.nested_metrics(scores), allow_nan=False))
    rollout = metrics["operator"]["rollout_ic"]
    expected = scores["operator"]["rollout_ic"].horizons["nrmse"]
    assert rollout["nrmse"]["mean"] == pytest.approx(float(expected["full"].mean()))
    assert rollout["nrmse"]["stderr"] == pytest.approx(float(expected["full"].std()) / 2)
    assert rollout["nrmse@h4"]["mean"] == pytest.approx(float(expected["4"].mean()))
    assert (rollout["frames_given"], rollout["frames_predicted"], rollout["diverged"]) == (1, 8, 0)
    assert "nrmse@h4" not in metrics["operator"]["one_step"]
    lost = metrics["student"]["rollout_ic"]
    assert lost["diverged"] == 1
    assert lost["nrmse"] == {"mean": None, "stderr": None}
    assert lost["nrmse@h4"]["mean"] is not None


def test_comparison_is_paired(scores):
    paired = records.paired_comparisons(scores, "operator")["corrected"]["rollout_ic"]["nrmse"]
    values = [scores[name]["rollout_ic"].horizons["nrmse"]["full"] for name in ("corrected", "operator")]
    difference = values[0] - values[1]
    assert paired["mean"] == pytest.approx(float(difference.mean()))
    assert paired["stderr"] == pytest.approx(float(difference.std()) / 2)


def test_regimes_are_apart(scores, data):
    regimes = records.metrics_by_regime(scores, data)
    assert list(regimes) == ["velocity=0.5", "velocity=0.75", "velocity=1", "velocity=1.25"]
    third = regimes["velocity=1"]["operator"]["rollout_ic"]["nrmse"]["mean"]
    assert third == pytest.approx(float(scores["operator"]["rollout_ic"].horizons["nrmse"]["full"][2]))
    one = Trajectories(data.fields, torch.ones(4, 1), data.index, data.metadata)
    assert records.metrics_by_regime(scores, one) == {}


def test_regimes_rise_by_their_number_and_say_how_they_relate_to_the_training(data):
    """As text "velocity=10" would come before "velocity=2"."""
    coefficients = torch.tensor([[2.0], [10.0], [2.1], [5.0]])
    training = TrainingRange(coefficients=((2.0, 10.0),), trajectories=8, frames=9, regimes=((2.0,), (10.0,)))
    metadata = data.metadata.model_copy(update={"training": training})
    found = records.regime_kinds(replace(data, coefficients=coefficients, metadata=metadata))
    assert {name: about["kind"] for name, about in found.items()} == {
        "velocity=2": "trained",
        "velocity=2.1": "near",
        "velocity=5": "between",
        "velocity=10": "trained",
    }
    assert [about["nearest_trained"] for about in found.values()] == ["velocity=2"] * 2 + ["velocity=10"] * 2
    assert records.regime_kinds(replace(data, coefficients=torch.full((4, 1), 2.0))) == {}


def test_metadata_of_a_single_regime_read_as_they_always_did():
    single = TrainingRange(coefficients=((0.01, 0.01),), trajectories=8, frames=9)
    assert single.model_dump_json() == '{"coefficients":[[0.01,0.01]],"trajectories":8,"frames":9}'
    several = single.model_copy(update={"regimes": ((0.01,), (0.02,))})
    assert TrainingRange.model_validate_json(several.model_dump_json()) == several
