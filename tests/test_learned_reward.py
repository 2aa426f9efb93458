"""The learned reward on a planted problem, and the stage that trains it."""

import json
import math

import pytest
import torch
from search_settings import search_settings
from small_surrogate import write_dataset, write_models
from torch import nn
from toy_surrogate import POINTS, metadata, surrogate

from ups.data.fields import Trajectories
from ups.data.triplets import Triplets
from ups.evaluation.significance import paired_test
from ups.inference.candidates import States
from ups.inference.choices import rank_correlation, true_errors
from ups.inference.ranking import draw_triplets
from ups.inference.search import BeamSearch
from ups.models.reward import RewardNetwork
from ups.models.weights import count_parameters, load_model, save_skipped
from ups.parameters.evaluate_ttc import SearchedCandidates
from ups.parameters.section import Optimization
from ups.stages import evaluate_ttc, train_reward
from ups.training.checkpoint import Checkpoint
from ups.training.history import History
from ups.training.loop import train
from ups.training.machine import Machine
from ups.training.reward import CHANCE, RewardObjective

DRAWS = SearchedCandidates(candidates=5, noise_std=(0.0,), tau_range=(0.0, 1.0))


def trajectories(rows: int, seed: int, frames: int = 5) -> Trajectories:
    """u falls by a tenth per step, as the toy's plain step has it: of its candidates those of tau near 1/2 are good."""
    start = torch.randn(rows, 1, 1, POINTS, generator=torch.Generator().manual_seed(seed))
    fields = start * 0.9 ** torch.arange(frames)[:, None, None]
    return Trajectories(fields, torch.full((rows, 1), 0.01), torch.arange(rows), metadata())


def fitted(train_set: Triplets, validation: Triplets, folder, updates: int = 100):
    torch.manual_seed(0)
    network = RewardNetwork(1, 1, 1, hidden=16, depth=2, kernel=3)
    network.set_statistics(train_set.previous, train_set.candidates[:, 0])
    objective = RewardObjective(train_set, validation)
    optimization = Optimization(epochs=2, updates_per_epoch=updates // 2, pairs_per_update=32, learning_rate=1e-2)
    trained = train(
        network,
        objective.loss,
        objective.validate,
        len(train_set),
        optimization,
        seed=0,
        machine=Machine(torch.device("cpu")),
        history=History(folder / "history.csv"),
        checkpoint=Checkpoint("train_reward", "key", folder),
        label="train_reward",
    )
    return trained, objective


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    splits = (draw_triplets(surrogate(), trajectories(rows, seed), DRAWS, 1) for rows, seed in ((32, 1), (16, 2)))
    return fitted(*splits, tmp_path_factory.mktemp("reward"))


def test_triplets_are_the_best_the_median_and_the_worst_of_what_the_search_draws():
    data = trajectories(3, 1)
    found = draw_triplets(surrogate(), data, DRAWS, seed=1)
    assert len(found) == 3 * 4
    assert (found.errors.diff(dim=1) >= 0).all()
    # The base is always among the candidates, and it is right here.
    assert found.errors[:, 0].max() < 1e-6
    torch.testing.assert_close(found.previous[:3], data.fields[:, 0])
    torch.testing.assert_close(found.previous[3:6], data.fields[:, 1])
    assert found.trajectory.tolist() == [0, 1, 2] * 4
    # The same draws as a search with the same seed.
    search = BeamSearch(
        surrogate(),
        lambda before, frame, c: frame.mean((1, 2)),
        search_settings(candidates=5, noise_std=[0.0], tau_range=[0.0, 1.0]),
        seed=1,
    )
    observer, z = search.surrogate.start(data.fields[:, 0])
    drawn = search.source.expand(States(z[:, None], data.fields[:, :1], observer, 0), data.coefficients, 0.0)
    errors = true_errors(drawn, data.fields[:, 1]).sort(dim=1).values
    torch.testing.assert_close(found.errors[:3], errors[:, [0, 2, 4]])


def test_it_learns_to_rank_candidates_of_trajectories_it_has_not_seen(trained):
    result, objective = trained
    row = result.history.rows[-1]
    assert row["val_accuracy"] > 0.9
    assert row["val_loss"] < 0.5 * math.log(2)
    accuracy = objective.by_trajectory(result.model)
    assert accuracy.shape == (16,)
    assert paired_test(1 - accuracy, torch.full_like(accuracy, 1 - CHANCE))["better"]


def test_in_the_search_it_ranks_by_the_true_error(trained):
    data = trajectories(8, 5)
    network = trained[0].model
    settings = search_settings({"learned": 1.0}, candidates=8, noise_std=[0.0], tau_range=[0.0, 1.0])
    found = []

    def watch(candidates, scores, step):
        found.append(rank_correlation(scores, -true_errors(candidates, data.fields[:, step + 1])))
        return candidates.tokens[:, 0, 0]

    BeamSearch(surrogate(), network, settings, 3).rollout(data.fields[:, 0], data.coefficients, 4, watch)
    assert float(torch.stack(found).mean()) > 0.8


def test_labels_without_meaning_are_ranked_no_better_than_chance(tmp_path):
    """The gate's other side: the same candidates in a drawn order."""
    splits = []
    for rows, seed in ((32, 1), (16, 2)):
        real = draw_triplets(surrogate(), trajectories(rows, seed), DRAWS, 1)
        order = torch.rand(len(real), 3, generator=torch.Generator().manual_seed(seed)).argsort(1)
        shuffled = real.candidates[torch.arange(len(real))[:, None], order]
        splits.append(Triplets(real.previous, shuffled, real.errors, real.coefficients, real.trajectory))
    result, objective = fitted(*splits, tmp_path)
    accuracy = objective.by_trajectory(result.model)
    assert not paired_test(1 - accuracy, torch.full_like(accuracy, 1 - CHANCE))["better"]


def test_a_constant_ranks_as_a_coin_does_and_the_loss_is_that_of_bradley_and_terry():
    data = draw_triplets(surrogate(), trajectories(3, 1), DRAWS, 1)
    objective = RewardObjective(data, data)

    class Fixed(nn.Module):
        def __init__(self, best, median, worst):
            super().__init__()
            self.scores = torch.tensor([best, median, worst])

        def forward(self, previous, frame, coefficients):
            return self.scores.repeat(len(frame) // 3)

    row = objective.validate(Fixed(2.0, 2.0, 2.0))
    assert (row["val_accuracy"], row["val_loss"]) == (0.5, pytest.approx(math.log(2)))
    row = objective.validate(Fixed(3.0, 1.0, 2.0))  # the second pair is the wrong way round
    assert row["val_accuracy"] == pytest.approx(2 / 3)
    by_hand = [math.log(1 + math.exp(-difference)) for difference in (2.0, -1.0, 1.0)]
    assert row["val_loss"] == pytest.approx(sum(by_hand) / 3)
    assert objective.by_trajectory(Fixed(3.0, 1.0, 2.0)).tolist() == pytest.approx([2 / 3] * 3)


def test_it_sees_space_periodically_and_every_setting_of_its_size():
    network = RewardNetwork(1, 1, 1, hidden=8, depth=2, kernel=5).eval()
    u, v, c = torch.randn(4, 1, 32), torch.randn(4, 1, 32), torch.full((4, 1), 0.01)
    torch.testing.assert_close(network(u.roll(7, -1), v.roll(7, -1), c), network(u, v, c))
    # Convolutions of 3 and 8 inputs, five points wide, and the head.
    assert count_parameters(network) == (3 * 5 + 1) * 8 + (8 * 5 + 1) * 8 + 9 * 8 + 9
    plane = RewardNetwork(2, 2, 1, hidden=8, depth=1, kernel=3)
    assert plane(torch.randn(4, 2, 8, 8), torch.randn(4, 2, 8, 8), c).shape == (4,)


# The stage ---------------------------------------------------------------------------------------------------------

SETTINGS = {
    "trajectories": 4,
    "hidden": 8,
    "depth": 1,
    "kernel": 3,
    "optimization": {"epochs": 2, "updates_per_epoch": 3, "pairs_per_update": 8, "learning_rate": 0.01},
}


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "base.yaml").write_text(
        "compute: {device: cpu, precision: fp32, num_threads: 1, compile: false, deterministic: true}\n"
    )
    monkeypatch.chdir(tmp_path)
    folders = write_models(tmp_path)
    found = {part: folders[part] / "model.safetensors" for part in ("codec", "operator", "corrector")}
    return {**found, "dataset": write_dataset(tmp_path / "dataset.h5")}


def run(inputs, outputs, **changes):
    outputs.mkdir()
    draws = {"candidates": 4, "noise_std": [0.3], "tau_range": [0.15, 0.85]}
    params = train_reward.Params.model_validate(
        {"seed": 1, "train_reward": {**SETTINGS, **changes}, "evaluate_ttc": draws}
    )
    metrics = train_reward.run(params, inputs, outputs)
    (outputs / "metrics.json").write_text(json.dumps(metrics))
    return metrics


def test_the_stage_trains_on_training_trajectories_and_the_search_reads_what_it_wrote(
    inputs, tmp_path, monkeypatch, capsys
):
    read = []
    original = train_reward.read_split
    monkeypatch.setattr(train_reward, "read_split", lambda path, split: (read.append(split), original(path, split))[1])
    metrics = run(inputs, tmp_path / "reward")
    assert read == ["train", "validation"]
    assert (metrics["status"], metrics["samples"], metrics["chance"]) == ("trained", 4 * 4, 0.5)
    assert 0.0 <= metrics["val_accuracy"] <= 1.0
    assert (tmp_path / "reward" / "history.csv").is_file()
    assert isinstance(load_model(tmp_path / "reward", RewardNetwork), RewardNetwork)
    assert ("no better than chance" in capsys.readouterr().out) != metrics["beats_chance"]

    reward = {"reward": tmp_path / "reward" / "model.safetensors", "reward_metrics": tmp_path / "reward/metrics.json"}
    params = evaluate_ttc.Params(seed=1, evaluate_ttc=search_settings({"learned": 1.0}, candidates=2))
    for passed in (True, False):
        reward["reward_metrics"].write_text(json.dumps({**metrics, "beats_chance": passed}))
        (tmp_path / f"{passed}").mkdir()
        found = evaluate_ttc.run(params, {**inputs, **reward}, tmp_path / f"{passed}")
        assert found["rewards"]["used"] == ["learned"]
        assert ("the learned reward ranks no better than chance" in found["verdict"]["reason"]) != passed
    more = run(inputs, tmp_path / "more", trajectories=6)
    assert more["samples"] == 6 * 4


def test_without_epochs_or_a_corrector_it_is_skipped_and_says_so(inputs, tmp_path, capsys):
    off = {**SETTINGS["optimization"], "epochs": 0}
    assert run(inputs, tmp_path / "off", optimization=off)["status"] == "skipped"
    save_skipped(inputs["corrector"].parent, "0 epochs")
    assert run(inputs, tmp_path / "none")["reason"].startswith("train_diffusion was skipped")
    assert capsys.readouterr().out.count("train_reward: skipped") == 2
