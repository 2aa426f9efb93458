"""The stage `evaluate_ttc` on a small surrogate with random weights: what it writes, and that its controls are ones."""

import json

import h5py
import pandas as pd
import pytest
from search_settings import search_settings
from small_surrogate import write_dataset, write_models, write_no_reward

from ups.evaluation.significance import paired_test
from ups.models.weights import save_skipped
from ups.stages import evaluate_ttc

SETTINGS = search_settings(
    {"conservation": 1.0, "dissipation": 0.2, "positivity": 0.6}, horizon=2, noise_std=[0.3, 0.1], max_evaluations=40
)


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    base = """compute: {device: cpu, precision: fp32, num_threads: 1, compile: false, deterministic: true}\n"""
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "base.yaml").write_text(base)
    monkeypatch.chdir(tmp_path)
    folders = write_models(tmp_path)
    found = {part: folders[part] / "model.safetensors" for part in ("codec", "operator", "corrector")}
    return {**found, "dataset": write_dataset(tmp_path / "dataset.h5"), **write_no_reward(tmp_path / "reward")}


def run(inputs, outputs, settings=SETTINGS):
    outputs.mkdir()
    return evaluate_ttc.run(evaluate_ttc.Params(seed=1, evaluate_ttc=settings), inputs, outputs)


def check_trajectories(outputs):
    """The numbers in the table are those that the test split's trajectories have in their file."""
    assert set(pd.read_parquet(outputs / "per_trajectory.parquet")["trajectory"]) == set(range(6))


def test_the_search_is_reported_beside_its_controls(inputs, tmp_path):
    outputs = tmp_path / "out"
    metrics = run(inputs, outputs)
    modes = {"base", "search", "random", "mean", "oracle", "equal_compute"}
    assert modes <= set(metrics)
    assert json.loads(json.dumps(metrics)) == metrics
    error = {mode: metrics[mode]["rollout_ic"]["nrmse"]["mean"] for mode in modes}
    assert error["oracle"] == min(error.values())
    assert len(set(error.values())) == len(modes)
    cost = {mode: metrics[mode]["rollout_ic"]["evaluations_per_trajectory"] for mode in modes}
    steps = 4
    assert cost["base"] == 2 * steps
    assert cost["search"] == SETTINGS.evaluations_per_step() * steps == 15 * steps
    assert cost["equal_compute"] == pytest.approx(cost["search"], abs=2 * steps)
    assert set(pd.read_parquet(outputs / "per_trajectory.parquet")["model"]) == modes
    check_trajectories(outputs)
    budget = pd.read_csv(outputs / "quality_vs_budget.csv")
    assert budget[budget["mode"] == "search"]["evaluations_per_step"].tolist() == [2.0, 3.0, 5.0]
    # One candidate is the plain step: another decoder in the search than in the forecast shows here.
    assert budget["nrmse"][0] == pytest.approx(error["base"], rel=1e-6)
    assert (outputs / "figures" / "quality_vs_budget.png").stat().st_size > 5_000
    assert -1 <= metrics["reward_error_rank_correlation"]["rollout_ic"]["mean"] <= 1
    assert metrics["verdict"]["recommended"] in (True, False)


def test_the_same_seed_gives_the_same_search(inputs, tmp_path):
    first, second = run(inputs, tmp_path / "a"), run(inputs, tmp_path / "b")
    assert first["search"]["rollout_ic"]["nrmse"] == second["search"]["rollout_ic"]["nrmse"]


def test_without_a_corrector_the_search_is_skipped_and_says_so(inputs, tmp_path, capsys):
    save_skipped(inputs["corrector"].parent, "0 epochs")
    metrics = run(inputs, tmp_path / "out")
    assert metrics["status"] == "skipped"
    assert "skipped" in capsys.readouterr().out


def test_a_search_is_only_recommended_for_a_gain_that_stands_out():
    import torch

    reference = torch.linspace(0.5, 1.5, 40)
    noise = 0.01 * torch.randn(40, generator=torch.Generator().manual_seed(0))
    assert paired_test(reference - 0.05 + noise, reference)["better"]
    assert not paired_test(reference + 0.05 + noise, reference)["better"]
    assert not paired_test(reference + noise - noise.mean(), reference)["better"]
    assert not paired_test(reference, reference)["better"]
    diverged = reference.clone()
    diverged[3] = torch.inf
    assert paired_test(diverged, reference)["p_value"] is None


# The plain steps' rewards on this data are spread out, so that a quantile of them is a threshold that matters.
ADAPTIVE = {"horizon": 1, "candidates": 3, "rewards": {"conservation": 1.0}}


def adaptive(quantile):
    return search_settings(**ADAPTIVE, adaptive={"quantile": quantile})


def test_an_adaptive_search_spends_more_the_higher_its_quantile_and_reports_what_it_spent(inputs, tmp_path):
    spent = []
    for quantile in (0.1, 0.9):
        outputs = tmp_path / f"at {quantile}"
        metrics = run(inputs, outputs, adaptive(quantile))
        found = metrics["adaptive"]["rollout_ic"]
        spent.append(metrics["search"]["rollout_ic"]["evaluations_per_trajectory"])
        # Four steps; the plain one takes 2 evaluations, a searched one 1 + 3.
        assert spent[-1] == round(4 * (2 + 2 * found["searched_share"]))
        assert metrics["verdict"]["times_base_evaluations"] == pytest.approx(spent[-1] / 8)
        budget = pd.read_csv(outputs / "quality_vs_budget.csv")
        curve = budget[budget["mode"] == "adaptive"].sort_values("quantile")["evaluations_per_step"]
        assert len(curve) >= 5
        assert 2.0 <= curve.iloc[0] < curve.iloc[-1] <= 4.0
    assert 8 <= spent[0] < spent[1] <= 16


def test_the_threshold_is_measured_on_validation_and_never_on_test(inputs, tmp_path):
    def threshold(name):
        return run(inputs, tmp_path / name, adaptive(0.5))["adaptive"]["rollout_ic"]["poor_below"]

    def scale(split):
        with h5py.File(inputs["dataset"], "r+") as file:
            file[split]["fields"][:] = 3.0 * file[split]["fields"][:] + 1.0

    first = threshold("first")
    scale("test")
    assert threshold("other test data") == first
    scale("validation")
    assert threshold("other validation data") != first


def test_a_learned_reward_that_nobody_trained_is_left_out_and_named(inputs, tmp_path, capsys):
    metrics = run(inputs, tmp_path / "out", search_settings({"learned": 1.0}))
    assert metrics["status"] == "skipped"
    assert "learned is left out: train_reward was skipped" in capsys.readouterr().out
