"""The laws of tau against their closed forms, and losses that importance sampling must leave where they were."""

import math

import pytest
import torch
from planted_residual import DIM, fit, operator, planted, settings
from pydantic import TypeAdapter

from ups.models.corrector import ResidualCorrector
from ups.parameters.tau import AdaptiveTau, TauLaw, TauWeight
from ups.training.corrector import ResidualObjective
from ups.training.losses import mse, relative, spectral
from ups.training.residuals import Residuals
from ups.training.tau import (
    RunningLosses,
    TauDraws,
    follow_losses,
    forget_losses,
    sample_tau,
    tau_moments,
    tau_weight,
    weighted_mean,
)

COUNT = 40_000
RESCALED = {"name": "stratified", "range": [0.1, 0.9], "limit": "rescale"}
CLAMPED = {**RESCALED, "limit": "clamp"}
# Mean and variance by hand.
LAWS = {
    "uniform": ({"name": "uniform"}, 1 / 2, 1 / 12),
    "beta": ({"name": "beta", "alpha": 1.2, "beta": 1.2}, 1 / 2, 1.44 / (5.76 * 3.4)),
    "skewed": ({"name": "beta", "alpha": 2.0, "beta": 6.0}, 1 / 4, 12 / (64 * 9)),
    "log_uniform": (
        {"name": "log_uniform", "low": 0.01},
        0.99 / math.log(100),
        0.9999 / (2 * math.log(100)) - 0.0462146,
    ),
    "stratified": (RESCALED, 1 / 2, 0.64 / 12),
    # A tenth of all draws lies at each end, .4 from the middle; the rest is uniform between.
    "clamped": (CLAMPED, 1 / 2, 2 * 0.1 * 0.16 + 2 * 0.4**3 / 3),
    "clamped askew": ({**CLAMPED, "range": [0.5, 1.0]}, 0.625, 0.125 + (1 - 0.125) / 3 - 0.625**2),
}


def law(content) -> TauLaw:
    return TypeAdapter(TauLaw).validate_python(content)


def weight(content) -> TauWeight:
    return TypeAdapter(TauWeight).validate_python(content)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("content", "mean", "variance"), LAWS.values(), ids=LAWS.keys())
def test_moments_of_the_laws(content, mean, variance):
    assert tau_moments(law(content)) == (pytest.approx(mean, abs=1e-6), pytest.approx(variance, abs=1e-6))
    tau = sample_tau(COUNT, law(content), generator())
    assert tau.min() >= 0
    assert tau.max() <= 1
    # Four standard errors of independent draws: the mean's is at most .3 / 200, the variance's about .0005.
    assert float(tau.mean()) == pytest.approx(mean, abs=0.006)
    assert float(tau.var()) == pytest.approx(variance, abs=0.002)


def test_stratified_draws_fill_every_bin_once():
    tau = sample_tau(50, law({**RESCALED, "range": [0.0, 1.0]}), generator())
    assert (tau * 50).long().tolist() == list(range(50))
    inside = sample_tau(50, law(RESCALED), generator())
    assert (((inside - 0.1) / 0.8 * 50 + 1e-4).long() == torch.arange(50)).all()


def test_the_mean_of_a_stratified_batch_varies_as_theory_says():
    """1 / (12 n^3) in place of 1 / (12 n) for independent draws."""
    means = torch.stack(
        [sample_tau(8, law({**RESCALED, "range": [0.0, 1.0]}), generator(s)).mean() for s in range(2000)]
    )
    assert float(means.var()) == pytest.approx(1 / (12 * 8**3), rel=0.15)  # standard error sqrt(2 / 2000) = 3 %


def test_clamping_piles_draws_up_at_the_ends_and_rescaling_does_not():
    clamped, rescaled = (sample_tau(1000, law(content), generator()) for content in (CLAMPED, RESCALED))
    assert (clamped == 0.1).sum() == (clamped == 0.9).sum() == 100
    assert rescaled.unique().numel() > 990


def test_a_law_that_remembers_is_not_drawn_without_memory():
    with pytest.raises(TypeError, match="RunningLosses"):
        sample_tau(3, AdaptiveTau(name="adaptive", bins=4, decay=0.5, uniform_share=0.2), generator())


@pytest.mark.parametrize("content", [{"name": "power", "exponent": 2.0}, {"name": "parabola"}])
def test_weights_have_the_mean_one_under_uniform_tau(content):
    middles = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    assert float(tau_weight(middles, weight(content)).mean()) == pytest.approx(1.0, abs=1e-6)
    assert tau_weight(middles, weight({"name": "constant"})) is None
    assert float(tau_weight(torch.tensor([0.5]), weight(content))) == {"power": 0.75, "parabola": 1.5}[content["name"]]


def adaptive(uniform_share: float = 0.2, decay: float = 0.5) -> RunningLosses:
    return RunningLosses(AdaptiveTau(name="adaptive", bins=4, decay=decay, uniform_share=uniform_share))


def test_adaptive_draws_go_where_the_loss_is_and_leave_its_mean_unbiased():
    running = adaptive()
    for _ in range(30):
        running.update(torch.tensor([0.1, 0.3, 0.6, 0.9]), torch.tensor([1.0, 1.0, 1.0, 7.0]))
    expected = torch.tensor([0.13, 0.13, 0.13, 0.61])  # .8 * (.1, .1, .1, .7) + .2 / 4
    torch.testing.assert_close(running.probabilities(), expected)
    tau, importance = running.draw(COUNT, generator())
    shares = torch.bincount((tau * 4).long(), minlength=4) / COUNT
    torch.testing.assert_close(shares, expected, atol=0.01, rtol=0)
    # A loss that grows with tau: its mean over uniform tau is 1/3. Without weights the draws would put it near 1/2.
    assert float((importance * tau**2).mean()) == pytest.approx(1 / 3, abs=0.01)
    assert float((tau**2).mean()) > 0.5
    assert float(importance.max()) <= 1 / 0.2


def test_running_losses_forget_at_their_rate_and_bins_without_samples_keep_theirs():
    running = adaptive(decay=0.75)
    running.update(torch.tensor([0.1, 0.2, 1.0]), torch.tensor([4.0, 6.0, 3.0]))
    assert running.losses.tolist() == [0.75 * 1 + 0.25 * 5, 1.0, 1.0, 0.75 + 0.25 * 3]


def test_weighted_means_are_those_of_the_terms():
    one, other = torch.randn(2, 6, 4, 3, generator=generator())
    weights = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0, 3.0])
    for term in (mse, relative, spectral):
        each = torch.stack([term(a[None], b[None]) for a, b in zip(one, other, strict=True)])
        torch.testing.assert_close(weighted_mean(term, one, other, weights), (weights * each).mean())
        torch.testing.assert_close(weighted_mean(term, one, other, torch.ones(6)), term(one, other))
        assert torch.equal(weighted_mean(term, one, other, None), term(one, other))


def objective_of(tau, tau_weight=None) -> ResidualObjective:
    chosen = settings(tau=tau, tau_weight=tau_weight or {"name": "constant"})
    return ResidualObjective(Residuals(operator(), planted(64, 1)), Residuals(operator(), planted(8, 2)), chosen, None)


class TauGiver(ResidualCorrector):
    """Its loss is known: the correction misses the residual by tau times its scale."""

    def forward(self, z_hat, tau):
        return self.residual[: len(tau)] + self.scale * tau[:, None, None].sqrt()


@pytest.mark.parametrize(
    ("tau", "weighting", "expected"),
    [
        ({"name": "uniform"}, {"name": "constant"}, 1 / 2),
        ({"name": "uniform"}, {"name": "power", "exponent": 1.0}, 2 / 3),
        ({"name": "uniform"}, {"name": "parabola"}, 1 / 2),
        ({"name": "log_uniform", "low": 0.01}, {"name": "constant"}, 0.99 / math.log(100)),
        (CLAMPED, {"name": "power", "exponent": 1.0}, 2 * (0.25 + 0.0746667)),
        ({"name": "adaptive", "bins": 4, "decay": 0.5, "uniform_share": 0.2}, {"name": "constant"}, 1 / 2),
        (
            {"name": "adaptive", "bins": 4, "decay": 0.5, "uniform_share": 0.2},
            {"name": "power", "exponent": 1.0},
            2 / 3,
        ),
    ],
)
def test_the_loss_is_the_mean_over_the_law_with_the_weights(tau, weighting, expected):
    """A network that misses by sqrt(tau) has the loss tau: the objective's mean is then a moment of the law."""
    objective = objective_of(tau, weighting)
    corrector = TauGiver(DIM, 8, 2, zero_init=True)
    corrector.residual = objective.train.residual
    follow_losses(corrector, objective.taus.law)
    everything = torch.arange(len(objective.train))
    losses = [objective.loss(corrector, everything, None, generator(s))["mse"].value for s in range(100)]
    # 32,000 draws of numbers between 0 and 2.
    assert float(torch.stack(losses[20:]).mean()) == pytest.approx(expected, abs=0.01)
    if tau["name"] == "adaptive":
        first, *_, last = corrector.running_losses.losses.tolist()
        assert last > 3 * first  # it has found out where the loss is


def test_adaptive_training_can_be_resumed_and_leaves_nothing_in_the_weights(tmp_path):
    chosen = {"name": "adaptive", "bins": 4, "decay": 0.5, "uniform_share": 0.2}

    def run(folder, stop=None):
        folder.mkdir(exist_ok=True)
        objective = objective_of(chosen)
        torch.manual_seed(0)
        corrector = ResidualCorrector(DIM, 8, 2, zero_init=True)
        follow_losses(corrector, objective.taus.law)
        if stop:
            validate, left = objective.validate, iter(range(stop))
            objective.validate = lambda model: validate(model) if next(left, None) is not None else 1 / 0
            with pytest.raises(ZeroDivisionError):
                fit(corrector, objective, folder, "adaptive", updates=9)
            return None
        trained = fit(corrector, objective, folder, "adaptive", updates=9).model
        losses = trained.running_losses.losses.clone()
        forget_losses(trained)
        return trained.state_dict(), losses

    whole, losses = run(tmp_path / "whole")
    run(tmp_path / "parts", stop=1)
    resumed, again = run(tmp_path / "parts")
    assert torch.equal(losses, again)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert set(whole) == set(ResidualCorrector(DIM, 8, 2, zero_init=True).state_dict())
    assert losses.unique().numel() > 1


def test_draws_of_golden_are_those_they_were():
    """The numbers of golden must not move: these were drawn before there were other laws than two."""
    draws = TauDraws(law({"name": "beta", "alpha": 1.2, "beta": 1.2}), weight({"name": "constant"}))
    tau, weights = draws.draw(torch.nn.Identity(), 4, generator())
    assert weights is None
    assert tau.tolist() == pytest.approx([0.8390518, 0.6478189, 0.3952221, 0.1095108], abs=1e-6)
