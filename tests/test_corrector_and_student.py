"""Corrector and student on planted problems whose right answers are known."""

import pytest
import torch
from planted_residual import DIM, TOKENS, fit, operator, planted, settings

from ups.data.latents import Latents
from ups.models.corrector import ResidualCorrector
from ups.models.teacher import Teacher
from ups.training.corrector import CorrectorObjective, DecodedRollouts, ResidualObjective
from ups.training.residuals import Residuals
from ups.training.student import StudentObjective, num_taus


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corrector")
    train_set, validation = planted(64, 1), planted(32, 2)
    residuals = [Residuals(operator(), latents) for latents in (train_set, validation)]
    corrector = ResidualCorrector(DIM, 32, 3, zero_init=True)
    corrector.set_statistics(torch.zeros(DIM), torch.ones(DIM), residuals[0].residual.square().mean((0, 1)).sqrt())
    objective = ResidualObjective(*residuals, settings(), None)
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


def test_shuffling_tau_leaves_the_validation_loss_of_the_residual_objective_where_it_was(trained):
    result, objective, _, _ = trained
    tau = torch.rand(len(objective.validation.probe), generator=torch.Generator().manual_seed(0))
    straight = objective.loss_at(result.model, objective.validation, tau)
    shuffled = objective.loss_at(result.model, objective.validation, tau, shown=tau.flip(0))
    # 160 samples: the two are equal but for what little the network makes of its dummy input.
    assert shuffled == pytest.approx(straight, rel=0.03)
    assert straight < 0.1


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
    z_hat = teacher.predictor.step(z, c)
    single = [z_hat + teacher.correct(z_hat, tau.expand(5)) for tau in taus]
    torch.testing.assert_close(teacher.mean_step(z, c, taus), torch.stack(single).mean(0))


class Doubling(torch.nn.Module):
    """A codec whose fields are twice the tokens."""

    def encode(self, u):
        return u.transpose(1, 2) / 2

    def decode(self, z):
        return 2 * z.transpose(1, 2)

    def conserve(self, z, tokens):
        return tokens


def test_rollouts_are_free_running_decoded_and_measured_against_the_decoded_truth(trained):
    result, _, _, validation = trained
    rollouts = DecodedRollouts(operator(), Doubling(), validation)
    truth = validation.tokens[:16, 1:].flatten(2)
    frozen = validation.tokens[:16, :1].flatten(2)  # the untrained operator predicts that nothing changes
    expected = ((frozen - truth).square().mean(2) / truth.square().mean(2)).sqrt().mean()
    assert rollouts.error(None) == pytest.approx(float(expected), rel=1e-4)
    assert rollouts.error(result.model) < 0.3 * rollouts.error(None)
    # In single steps from true frames the error would be that of the first frame; here it adds up.
    one = Latents(validation.tokens[:, :2], validation.coefficients, None, "")
    assert rollouts.error(None) > 2 * DecodedRollouts(operator(), Doubling(), one).error(None)


class Redundant(torch.nn.Module):
    """A codec that decodes the first half of the latent width, and encodes zeros into the second."""

    def encode(self, u):
        return torch.cat([u.transpose(1, 2), torch.zeros_like(u).transpose(1, 2)], dim=-1)

    def decode(self, z):
        return z[..., : z.shape[-1] // 2].transpose(1, 2)

    def conserve(self, z, tokens):
        return tokens


class Careless(torch.nn.Module):
    """An operator that predicts that nothing changes, and writes 5 where no decoder looks."""

    reencode, shape = True, (TOKENS,)

    def forward(self, z, coefficients):
        half = z.shape[-1] // 2
        return torch.cat([z[..., :half], torch.full_like(z[..., half:], 5.0)], dim=-1)


def test_residuals_of_an_operator_that_reencodes_are_of_what_decodes():
    """Fields do not change and are predicted exactly, so nothing is left to correct, whatever the tokens are."""
    decoded = torch.tensor([1.0, 1.0, 0.0, 0.0])
    tokens = torch.randn(3, 1, TOKENS, 4) * decoded
    latents = Latents(tokens.expand(3, 6, TOKENS, 4), torch.full((3, 1), 0.01), None, "")
    residuals = Residuals(Careless(), latents, Redundant())
    assert residuals.residual.abs().max() == 0
    teacher = Teacher(Careless(), lambda seen, tau: seen, Redundant())  # corrects by what it reads
    z = tokens[:, 0]
    expected = 2 * z + 5 * (1 - decoded)
    assert torch.equal(teacher.step(z, latents.coefficients), expected)
    assert torch.equal(teacher.mean_step(z, latents.coefficients, torch.tensor([0.1, 0.9])), expected)
    with pytest.raises(ValueError, match="takes a codec"):
        Residuals(Careless(), latents)


def test_an_objective_has_to_say_how_it_corrects():
    with pytest.raises(TypeError, match="abstract"):
        CorrectorObjective(None, None, settings(), None)
