"""Corrector and student on planted problems whose right answers are known."""

import pytest
import torch

from ups.data.latents import Latents
from ups.models.corrector import ResidualCorrector
from ups.models.operator import LatentOperator
from ups.models.teacher import Teacher
from ups.parameters.section import Optimization
from ups.parameters.train_diffusion import CorrectorLosses, TauSampling
from ups.training.checkpoint import Checkpoint
from ups.training.corrector import ResidualObjective, Residuals, beta_moments, sample_tau
from ups.training.history import History
from ups.training.loop import train
from ups.training.machine import Machine
from ups.training.student import StudentObjective, num_taus

TOKENS, DIM, FRAMES = 4, 3, 6
BETA = TauSampling(name="beta", alpha=1.2, beta=1.2)


def operator() -> LatentOperator:
    """An untrained operator: it predicts that nothing changes."""
    torch.manual_seed(0)
    backbone = {
        "name": "pde_transformer",
        "hidden": 12,
        "depths": (1,),
        "group": 6,
        "heads": 2,
        "mlp_ratio": 2.0,
        "dropout": 0.0,
        "stem": 1,
    }
    return LatentOperator(TOKENS, DIM, 1, 0.05, backbone).requires_grad_(False)


def planted(rows: int, seed: int) -> Latents:
    """z(t + dt) = z + 0.2 tanh(z) + noise: the operator leaves a residual that a per-token network can learn."""
    generator = torch.Generator().manual_seed(seed)
    frames = [torch.randn(rows, TOKENS, DIM, generator=generator)]
    for _ in range(FRAMES - 1):
        z = frames[-1]
        frames.append(z + 0.2 * z.tanh() + 0.02 * torch.randn(z.shape, generator=generator))
    return Latents(torch.stack(frames, 1), torch.full((rows, 1), 0.01), None, "")


def fit(model, objective, tmp_path, name, updates=150, rate=3e-3):
    return train(
        model,
        objective.loss,
        objective.validate,
        64 * (FRAMES - 1),
        Optimization(epochs=3, updates_per_epoch=updates // 3, pairs_per_update=64, learning_rate=rate),
        seed=0,
        machine=Machine(torch.device("cpu")),
        history=History(tmp_path / f"{name}.csv"),
        checkpoint=Checkpoint(name, "key", tmp_path),
        label=name,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corrector")
    train_set, validation = planted(64, 1), planted(32, 2)
    residuals = [Residuals(operator(), latents) for latents in (train_set, validation)]
    corrector = ResidualCorrector(DIM, 32, 3, zero_init=True)
    corrector.set_statistics(torch.zeros(DIM), torch.ones(DIM), residuals[0].residual.square().mean((0, 1)).sqrt())
    objective = ResidualObjective(*residuals, CorrectorLosses(spectral=0.05, relative=0.0), BETA, tau_bins=4)
    return fit(corrector, objective, folder, "corrector"), objective, train_set, validation


def test_the_zero_correction_explains_nothing_and_a_trained_corrector_most_of_a_planted_residual(trained):
    result, objective, _, _ = trained
    untrained = objective.validate(ResidualCorrector(DIM, 32, 3, zero_init=True))
    assert untrained["val_explained"] == pytest.approx(0.0, abs=1e-6)
    assert untrained["val_loss"] == pytest.approx(untrained["val_zero_correction"])
    assert result.history.rows[-1]["val_explained"] > 0.9


def test_a_corrector_that_does_harm_scores_below_zero(trained):
    _, objective, _, _ = trained
    harmful = ResidualCorrector(DIM, 32, 3, zero_init=False)
    with torch.no_grad():
        harmful.mlp[-1].bias.fill_(3.0)
    assert objective.validate(harmful)["val_explained"] < 0
    error, zero = objective.by_trajectory(harmful)
    assert error.shape == (32,)
    assert (error > zero).all()


def test_tau_is_a_dummy_input_of_the_residual_objective(trained):
    """The target does not depend on tau, so a trained corrector hardly does: any tau gives nearly the same loss."""
    result, objective, _, _ = trained
    row = objective.validate(result.model)
    assert max(row[f"val_loss_tau_{i}"] for i in range(4)) < 1.5 * min(row[f"val_loss_tau_{i}"] for i in range(4))
    assert row["val_loss_tau_0"] < 0.2 * row["val_zero_correction"]


def test_tau_follows_its_law():
    mean, variance = beta_moments(BETA)
    assert (mean, variance) == (pytest.approx(0.5), pytest.approx(0.0735, abs=1e-4))
    tau = sample_tau(40_000, BETA, torch.Generator().manual_seed(0))
    # Standard errors: .27 / 200 = .0014 of the mean, and about .0004 of the variance.
    assert float(tau.mean()) == pytest.approx(mean, abs=0.006)
    assert float(tau.var()) == pytest.approx(variance, abs=0.002)
    skewed = sample_tau(40_000, TauSampling(name="beta", alpha=2.0, beta=6.0), torch.Generator().manual_seed(0))
    assert float(skewed.mean()) == pytest.approx(0.25, abs=0.006)
    uniform = sample_tau(40_000, TauSampling(name="uniform", alpha=1, beta=1), torch.Generator().manual_seed(0))
    assert float(uniform.var()) == pytest.approx(1 / 12, abs=0.002)


def test_the_student_learns_the_teachers_correction_and_leaves_the_teacher_alone(trained, tmp_path):
    result, _, train_set, validation = trained
    base = operator()
    teacher = Teacher(base, result.model)
    before = [p.clone() for model in (base, result.model) for p in model.parameters()]
    student = operator().requires_grad_(True)
    objective = StudentObjective(teacher, train_set, validation, (5, 4, 3))
    row = fit(student, objective, tmp_path, "student", updates=450).history.rows[-1]
    # The teacher explains over 90 % of the residual, so a student that drifted to zero would fail each of these.
    assert row["val_loss"] < 0.1 * row["val_operator_distance"]
    assert row["val_student_error"] ** 0.5 < 1.05 * row["val_teacher_error"] ** 0.5 + 0.02
    after = [p for model in (base, result.model) for p in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_number_of_tau_draws_follows_its_schedule():
    assert [num_taus(i / 9, (5, 4, 3)) for i in range(9)] == [5, 5, 5, 4, 4, 4, 3, 3, 3]


def test_the_mean_of_many_taus_is_the_mean_of_the_single_steps(trained):
    teacher = Teacher(operator(), trained[0].model)
    z, c, taus = torch.randn(5, TOKENS, DIM), torch.full((5, 1), 0.01), torch.tensor([0.2, 0.7])
    z_hat = teacher.operator(z, c)
    single = [z_hat + teacher.correct(z_hat, tau.expand(5)) for tau in taus]
    torch.testing.assert_close(teacher.mean_step(z, c, taus), torch.stack(single).mean(0))
