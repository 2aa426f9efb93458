"""Bugs put in on purpose: the check that is named for each has to fail with the bug, and to hold without it.

docs/contributing.md has the table.
"""

import pytest
import test_codec_training
import test_cole_hopf
import test_flow_corrector
import test_metrics
import test_search
import test_search_limits
import test_stage_evaluate_ttc
import test_training
import torch
from planted_residual import fit, gaussian, operator, planted
from search_settings import search_settings
from small_surrogate import write_dataset, write_models, write_no_reward
from toy_surrogate import POINTS

from ups.data.pde_residual import RESIDUALS
from ups.data.reference_frame import Observed
from ups.errors import TrainingError
from ups.evaluation import metrics
from ups.inference import choices
from ups.inference.surrogate import Surrogate
from ups.models.teacher import DETERMINISTIC_TAU, Teacher
from ups.stages import evaluate_ttc
from ups.training import codec as codec_training
from ups.training.codec import CodecObjective
from ups.training.ema import EMA
from ups.training.loop import Progress
from ups.training.monitors import check_gradients_exist
from ups.training.student import StudentObjective

# -- tau ignored ----------------------------------------------------------------------------------------------------


def ignore_tau_in_the_search(monkeypatch):
    right = Teacher.correct
    monkeypatch.setattr(
        Teacher, "correct", lambda self, z_hat, tau: right(self, z_hat, torch.full_like(tau, DETERMINISTIC_TAU))
    )


def candidates_differ_by_tau(folder):
    test_search_limits.test_tau_of_the_candidates_fills_its_range(0.15, 0.85)


def ignore_tau_in_the_flow(monkeypatch):
    right = test_flow_corrector.OptimalFlow.forward
    monkeypatch.setattr(
        test_flow_corrector.OptimalFlow,
        "forward",
        lambda self, x, z_hat, tau: right(self, x, z_hat, torch.full_like(tau, 0.5)),
    )


def a_flow_that_is_told_wrong_times_does_worse(folder):
    """The metric `val_flow_loss_shuffled` beside `val_flow_loss`."""
    mean, std = test_flow_corrector.MEAN, test_flow_corrector.STD
    objective = test_flow_corrector.objective_of(gaussian(64, 1, mean, std), gaussian(64, 2, mean, std))
    row = objective.validate(test_flow_corrector.corrector(test_flow_corrector.OptimalFlow))
    assert row["val_flow_loss_shuffled"] > 1.15 * row["val_flow_loss"]


# -- distillation to zero -------------------------------------------------------------------------------------------


def distil_to_zero(monkeypatch):
    monkeypatch.setattr(Teacher, "mean_step", lambda self, z, coefficients, taus: self.predictor.step(z, coefficients))


def the_student_comes_nearer_to_its_teacher_than_the_operator_is(folder):
    """The metric `distance_over_operator_distance` of the stage `distill`."""

    def correction(z_hat, tau):
        return 0.2 * z_hat.tanh()

    teacher = Teacher(operator(), correction)
    student = operator().requires_grad_(True)
    objective = StudentObjective(teacher, planted(64, 1), planted(32, 2), (1,))
    row = fit(student, objective, folder, "student", updates=60, rate=1e-2).history.rows[-1]
    assert (row["val_loss"] / row["val_operator_distance"]) ** 0.5 < 0.9


# -- the search -----------------------------------------------------------------------------------------------------


def decode_at_random(monkeypatch):
    weights = torch.randn(POINTS, POINTS, generator=torch.Generator().manual_seed(0))
    right = Surrogate.decode
    monkeypatch.setattr(Surrogate, "decode", lambda self, *arguments: right(self, *arguments) @ weights)


def one_candidate_is_the_plain_step(folder):
    test_search.test_more_candidates_reach_a_better_reward_and_one_candidate_is_the_base()


def choose_once_for_the_batch(monkeypatch):
    def best_on_average(candidates, scores, step):
        return choices.take(candidates, scores.mean(0).argmax().expand(len(scores)))

    monkeypatch.setattr(choices, "best_scored", best_on_average)


def each_trajectory_gets_its_own_choice(folder):
    test_search.test_each_trajectory_gets_its_own_choice()


# -- evaluation -----------------------------------------------------------------------------------------------------


def evaluate_on_training_data(monkeypatch):
    right = evaluate_ttc.read_split
    monkeypatch.setattr(evaluate_ttc, "read_split", lambda path, split: right(path, "train"))


def the_trajectories_are_those_of_the_test_split(folder):
    """The column `trajectory` of `per_trajectory.parquet`."""
    models = write_models(folder)
    inputs = {part: models[part] / "model.safetensors" for part in ("codec", "operator", "corrector")}
    inputs |= {"dataset": write_dataset(folder / "dataset.h5"), **write_no_reward(folder / "reward")}
    test_stage_evaluate_ttc.run(inputs, folder / "out", search_settings(candidates=2))
    test_stage_evaluate_ttc.check_trajectories(folder / "out")


def take_the_mean_before_the_ratio(monkeypatch):
    def swapped(prediction, target):
        return metrics.rmse(prediction, target) / target.square().mean().sqrt()

    monkeypatch.setattr(metrics, "nrmse", swapped)


def the_ratio_comes_first(folder):
    test_metrics.test_ratio_before_mean_differs_from_mean_before_ratio()


# -- training -------------------------------------------------------------------------------------------------------


def average_without_correction(monkeypatch):
    def update(self, model):
        self.count, self.norm = self.count + 1, 1.0
        torch._foreach_lerp_(self.sums, [p.detach() for p in model.parameters()], 1 - self.decay)

    monkeypatch.setattr(EMA, "update", update)


def the_average_forgets_the_start(folder):
    test_training.test_ema_has_no_memory_of_the_initial_weights()


def detach_the_inverse_losses(monkeypatch):
    right = codec_training.mse
    monkeypatch.setattr(codec_training, "mse", lambda predicted, target: right(predicted.detach(), target))


def every_loss_term_has_a_gradient(folder):
    """What the training loop asks of every term the first time that it has a weight."""
    frames = torch.randn(24, 1, 1, 32, generator=torch.Generator().manual_seed(1))
    splits = (Observed(frames[rows], torch.zeros(24, 1, 1)[rows]) for rows in (slice(16), slice(16, None)))
    objective = CodecObjective(*splits, test_codec_training.settings(warmup_epochs=1))
    model = test_codec_training.codec()
    terms = objective.loss(model, torch.arange(4), Progress(50, 2, 100), torch.Generator())
    assert {"inverse_encoding", "inverse_decoding"} <= set(terms)
    check_gradients_exist([(name, term.value) for name, term in terms.items()], model)


# -- the equation ---------------------------------------------------------------------------------------------------


def diffuse_by_nu_in_the_data(monkeypatch):
    right = test_cole_hopf.cole_hopf
    monkeypatch.setattr(
        test_cole_hopf, "cole_hopf", lambda u0, x, t, viscosity, *a, **k: right(u0, x, t, torch.pi * viscosity, *a, **k)
    )


def the_data_follow_the_closed_form(folder):
    test_cole_hopf.test_closed_form(0.1, -1.2, 1.0, False)


def diffuse_by_nu_in_the_reward(monkeypatch):
    right = RESIDUALS["burgers"]
    monkeypatch.setitem(
        RESIDUALS, "burgers", lambda u, numbers, dx: right(u, [torch.pi * number for number in numbers], dx)
    )


def the_true_solution_obeys_the_rewards(folder):
    test_search.test_the_true_solution_obeys_every_reward_and_a_wrong_viscosity_does_not()


PLANTED = {
    "tau ignored by the search": (ignore_tau_in_the_search, candidates_differ_by_tau),
    "tau ignored by the flow": (ignore_tau_in_the_flow, a_flow_that_is_told_wrong_times_does_worse),
    "distillation to zero": (distil_to_zero, the_student_comes_nearer_to_its_teacher_than_the_operator_is),
    "a random decoder in the search": (decode_at_random, one_candidate_is_the_plain_step),
    "one choice for a whole batch": (choose_once_for_the_batch, each_trajectory_gets_its_own_choice),
    "evaluation on training data": (evaluate_on_training_data, the_trajectories_are_those_of_the_test_split),
    "mean before ratio": (take_the_mean_before_the_ratio, the_ratio_comes_first),
    "an average without correction": (average_without_correction, the_average_forgets_the_start),
    "an inverse loss without gradient": (detach_the_inverse_losses, every_loss_term_has_a_gradient),
    "nu in place of nu/pi in the data": (diffuse_by_nu_in_the_data, the_data_follow_the_closed_form),
    "nu in place of nu/pi in the reward": (diffuse_by_nu_in_the_reward, the_true_solution_obeys_the_rewards),
}


@pytest.mark.parametrize("bug", list(PLANTED))
def test_a_planted_bug_is_caught(bug, monkeypatch, tmp_path):
    plant, check = PLANTED[bug]
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "base.yaml").write_text(
        "compute: {device: cpu, precision: fp32, num_threads: 1, compile: false, deterministic: true}\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("without", "with"):
        (tmp_path / name).mkdir()
    check(tmp_path / "without")
    plant(monkeypatch)
    with pytest.raises((AssertionError, TrainingError)):
        check(tmp_path / "with")
