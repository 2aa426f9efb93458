"""The stage `evaluate_ttc` on a small surrogate with random weights: what it writes, and that its controls are ones."""

import json

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
    budget = pd.read_csv(outputs / "quality_vs_budget.csv")
    assert budget[budget["mode"] == "search"]["evaluations_per_step"].tolist() == [2.0, 3.0, 5.0]
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
