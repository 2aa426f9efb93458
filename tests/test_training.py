"""The training loop and its parts."""

import copy
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ups.errors import TrainingError
from ups.parameters.section import Optimization
from ups.training.checkpoint import Checkpoint
from ups.training.ema import EMA
from ups.training.history import History
from ups.training.loop import train
from ups.training.losses import Term, mse
from ups.training.machine import Machine
from ups.training.monitors import GradientMonitor, check_gradients_exist
from ups.training.sampling import Shuffle
from ups.training.schedule import learning_rate

CPU = Machine(torch.device("cpu"))
CURVE = Path(__file__).parent / "losses" / "regression.txt"


def settings(**changes) -> Optimization:
    base = {"epochs": 4, "updates_per_epoch": 5, "pairs_per_update": 8, "learning_rate": 0.01, "micro_batches": 2}
    return Optimization(**{**base, **changes})


class Regression:
    """A small regression with dropout and per-update noise, so that every random stream is used."""

    def __init__(self):
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(37, 4, generator=generator)
        self.y = self.x.sin().sum(1, keepdim=True)

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 1))

    def loss(self, model, indices, progress, generator):
        noise = 0.01 * torch.randn(len(indices), 4, generator=generator)
        return {"mse": Term(mse(model(self.x[indices] + noise), self.y[indices]))}

    def validate(self, model):
        error = float(mse(model(self.x), self.y))
        return {"train_loss": error, "val_loss": error}


def run(tmp_path, name="a", optimization=None, problem=None, key="key", loss=None, machine=CPU):
    problem = problem or Regression()
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return train(
        problem.model(),
        loss or problem.loss,
        problem.validate,
        37,
        optimization or settings(),
        seed=5,
        machine=machine,
        history=History(folder / "history.csv"),
        checkpoint=Checkpoint(name, key, folder),
        label="test",
    )


def without_time(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


class Killed(Exception):
    pass


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    whole = run(tmp_path, "whole")
    problem = Regression()

    def dies_in_epoch_three(model, indices, progress, generator):
        if progress.update == 12:
            raise Killed
        return problem.loss(model, indices, progress, generator)

    with pytest.raises(Killed):
        run(tmp_path, "cut", loss=dies_in_epoch_three)
    resumed = run(tmp_path, "cut")
    assert without_time(resumed.history.rows) == without_time(whole.history.rows)
    for left, right in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_checkpoint_of_another_execution_is_not_used(tmp_path, capsys):
    run(tmp_path, "a", key="first")
    run(tmp_path, "a", key="second")
    assert "resumed" not in capsys.readouterr().err
    run(tmp_path, "a", key="second")
    assert "resumed after epoch 4" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_reported_and_training_starts_anew(tmp_path):
    run(tmp_path, "a")
    (tmp_path / "a" / "a.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.warns(UserWarning, match="cannot be read"):
        result = run(tmp_path, "a")
    assert len(result.history.rows) == 4


def test_twenty_updates_give_the_stored_loss_curve(tmp_path):
    """A change of the numerics shows here; if it is meant, delete the file and run the test to write it again."""
    losses = [row["loss_mse"] for row in run(tmp_path).history.rows]
    if not CURVE.exists():
        CURVE.parent.mkdir(exist_ok=True)
        CURVE.write_text("".join(f"{value:.9e}\n" for value in losses))
        pytest.fail(f"{CURVE} was written; commit it")
    stored = [float(line) for line in CURVE.read_text().split()]
    # Matrix products may be summed in another order on another processor; 20 updates do not amplify that past 1e-4.
    assert losses == pytest.approx(stored, rel=1e-4)


def test_micro_batches_change_nothing_but_memory(tmp_path):
    class Plain(Regression):
        def model(self):
            torch.manual_seed(0)
            return nn.Linear(4, 1)

        def loss(self, model, indices, progress, generator):
            return {"mse": Term(mse(model(self.x[indices]), self.y[indices]))}

    one = run(tmp_path, "one", settings(micro_batches=1), Plain())
    four = run(tmp_path, "four", settings(micro_batches=4), Plain())
    for left, right in zip(one.model.parameters(), four.model.parameters(), strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-5)


def test_a_non_finite_loss_stops_at_once_and_names_the_term(tmp_path):
    problem = Regression()

    def breaks(model, indices, progress, generator):
        terms = problem.loss(model, indices, progress, generator)
        return {**terms, "broken": Term(terms["mse"].value * (math.nan if progress.update == 7 else 1.0))}

    with pytest.raises(TrainingError, match=r"epoch 2, update 8.*broken = nan"):
        run(tmp_path, loss=breaks)


def test_exploding_updates_are_skipped_counted_and_finally_stop_the_training(tmp_path):
    problem = Regression()

    def explodes(at):
        def loss(model, indices, progress, generator):
            factor = 1e8 if progress.update in at else 1.0
            return {"mse": Term(problem.loss(model, indices, progress, generator)["mse"].value * factor)}

        return loss

    result = run(tmp_path, "few", loss=explodes({6, 8}))
    assert [row["skipped_updates"] for row in result.history.rows] == [0, 2, 0, 0]
    with pytest.raises(TrainingError, match="3 updates in a row"):
        run(tmp_path, "many", settings(max_skipped_updates=3), loss=explodes(range(4, 20)))


def test_a_loss_term_without_gradient_is_an_error(tmp_path):
    problem = Regression()

    def idle(model, indices, progress, generator):
        terms = problem.loss(model, indices, progress, generator)
        return {**terms, "idle": Term(problem.y[indices].square().mean(), 0.1)}

    with pytest.raises(TrainingError, match="'idle' has no gradient"):
        run(tmp_path, loss=idle)
    model = nn.Linear(2, 1)
    with pytest.raises(TrainingError, match="'zero'"):
        check_gradients_exist([("zero", (model(torch.ones(3, 2)) * 0).sum())], model)


def test_ema_has_no_memory_of_the_initial_weights():
    """Constant weights w from the first update on average to w exactly; a plain EMA would still hold the start."""
    model = nn.Linear(1, 1, bias=False)
    ema = EMA(model, 0.999)
    with torch.no_grad():
        model.weight.fill_(3.0)
    for _ in range(126):
        ema.update(model)
    assert float(ema.weights(model)[0]) == pytest.approx(3.0, rel=1e-5)
    assert pytest.approx(0.88, abs=0.005) == 0.999**126  # what a plain EMA would still hold


def test_ema_is_the_normalised_weighted_mean():
    """By hand with d = .2: decays are 1/10, 2/11, .2, .2; the weight of update s is (1 - d_s) d_(s+1) d_(s+2) ..."""
    model = nn.Linear(1, 1, bias=False)
    ema, values = EMA(model, 0.2), [1.0, 4.0, -2.0, 0.5]
    for value in values:
        with torch.no_grad():
            model.weight.fill_(value)
        ema.update(model)
    decays = [1 / 10, 2 / 11, 0.2, 0.2]
    weights = [(1 - d) * math.prod(decays[s + 1 :]) for s, d in enumerate(decays)]
    expected = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert float(ema.weights(model)[0]) == pytest.approx(expected, rel=1e-6)


def test_the_schedule_by_hand():
    cosine = settings(learning_rate=1.0, min_learning_rate=0.2, schedule="cosine", warmup_updates=4)
    rates = [learning_rate(update, 13, cosine) for update in range(13)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[8] == pytest.approx(0.6)  # half way between update 4 and the last, 12: the mean of 1 and 0.2
    assert rates[12] == pytest.approx(0.2)
    assert {learning_rate(update, 9, settings(learning_rate=0.3)) for update in range(9)} == {0.3}


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 5))
def test_every_pass_sees_every_sample_once(num_samples, batch_size, seed):
    shuffle = Shuffle(num_samples, batch_size, seed)
    updates = math.ceil(3 * num_samples / batch_size)
    stream = torch.cat([shuffle.indices(update) for update in range(updates)])
    for number in range(3):
        part = stream[number * num_samples : (number + 1) * num_samples]
        assert part.sort().values.tolist() == list(range(num_samples))


def test_an_update_draws_the_same_samples_whatever_came_before_it():
    shuffle, fresh = Shuffle(100, 30, 1), Shuffle(100, 30, 1)
    drawn = [shuffle.indices(update) for update in range(20)]
    assert torch.equal(fresh.indices(17), drawn[17])
    assert not torch.equal(Shuffle(100, 30, 2).indices(17), drawn[17])


def test_gradient_statistics_are_those_before_clipping(tmp_path):
    rows = run(tmp_path, optimization=settings(gradient_clip=1e-3)).history.rows
    assert all(row["grad_norm_max"] > 1e-2 for row in rows)
    monitor = GradientMonitor(max_skipped=3)
    assert monitor.accepts(150.0)
    assert monitor.flush()["large_gradients"] == 1


def test_the_median_of_the_norms_is_not_moved_by_a_single_explosion():
    monitor = GradientMonitor(max_skipped=3)
    for norm in (1.0, 2.0, 3.0, 5e4, math.inf):
        monitor.accepts(norm)
    row = monitor.flush()
    assert row["grad_norm_median"] == 2.5  # of the finite ones
    assert row["grad_norm_mean"] > 1e4
    assert (row["grad_norm_max"], row["large_gradients"], row["skipped_updates"]) == (5e4, 2, 2)


def test_the_given_model_is_trained_and_the_returned_one_is_its_average(tmp_path):
    problem = Regression()
    start = problem.model()
    result = run(tmp_path, problem=problem)
    assert not any(p.requires_grad for p in result.model.parameters())
    moved = zip(result.model.parameters(), copy.deepcopy(start).parameters(), strict=True)
    assert all((a - b).abs().max() > 1e-4 for a, b in moved)


def test_mixed_precision_trains_to_nearly_the_same_model(tmp_path):
    """bfloat16 has 8 bits of mantissa: products are good to 1 in 256, the weights themselves stay float32."""
    exact = run(tmp_path, "fp32").history.rows[-1]["train_loss"]
    mixed = run(tmp_path, "bf16", machine=Machine(torch.device("cpu"), precision="bf16"))
    assert mixed.history.rows[-1]["train_loss"] == pytest.approx(exact, rel=0.05)
    assert mixed.history.rows[-1]["train_loss"] != exact
    assert all(p.dtype == torch.float32 for p in mixed.model.parameters())


def test_compilation_reaches_the_methods_that_training_calls(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function.__name__) or function)
    machine = Machine(torch.device("cpu"), compile=True)
    machine.prepare(nn.Linear(1, 1))
    assert compiled == ["forward"]

    class TwoWays(nn.Module):
        COMPILED = ("encode", "decode")

        def encode(self, x):
            return x

        decode = encode

    machine.prepare(TwoWays())
    assert compiled[1:] == ["encode", "encode"]
    Machine(torch.device("cpu")).prepare(nn.Linear(1, 1))
    assert len(compiled) == 3


def test_a_term_that_acts_now_and_then_is_averaged_over_its_own_updates(tmp_path):
    problem = Regression()

    def sometimes(model, indices, progress, generator):
        terms = problem.loss(model, indices, progress, generator)
        if progress.epoch >= 1 and progress.update % 2 == 0:
            terms["seven"] = Term(7.0 + 0.0 * terms["mse"].value + model[0].bias.sum() * 0.0 + model[0].bias[0], 1e-9)
        return terms

    rows = run(tmp_path, loss=sometimes).history.rows
    assert "loss_seven" not in rows[0]
    assert rows[1]["loss_seven"] == pytest.approx(7.0, abs=0.5)
    header = (tmp_path / "a" / "history.csv").read_text().splitlines()[0]
    assert "loss_seven" in header
