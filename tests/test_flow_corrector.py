"""The corrector as a flow, on a planted Gaussian problem whose optimal velocity is known in closed form.

A residual N(m, s^2) that does not depend on the prediction, and noise N(0, q^2): on straight paths x(tau) is
N(tau m, tau^2 s^2 + (1 - tau)^2 q^2), and the optimal velocity is E[r - noise | x(tau) = x]
= m + (tau s^2 - (1 - tau) q^2) / (tau^2 s^2 + (1 - tau)^2 q^2) (x - tau m).
"""

import itertools

import pytest
import torch
from planted_residual import DIM, TOKENS, fit, gaussian, operator, planted, settings
from torch import Tensor

from ups.models.flow import SOLVERS, FlowCorrector, trajectory
from ups.models.teacher import Teacher
from ups.training.consistency import ConsistencyObjective, path_steps
from ups.training.corrector import FlowObjective, ResidualObjective
from ups.training.residuals import Residuals

MEAN, STD, NOISE = 0.7, 0.5, 1.0
FLOW = {"name": "flow", "steps": 4, "solver": "midpoint", "noise": NOISE}


class OptimalFlow(FlowCorrector):
    """A corrector whose network is the known optimal velocity."""

    def forward(self, x: Tensor, z_hat: Tensor, tau: Tensor) -> Tensor:
        t, q = tau[:, None, None], self.noise
        gain = (t * STD**2 - (1 - t) * q**2) / (t**2 * STD**2 + (1 - t) ** 2 * q**2)
        return MEAN + gain * (x - t * MEAN)


def corrector(kind=FlowCorrector, hidden=32, **changes) -> FlowCorrector:
    torch.manual_seed(0)
    return kind(DIM, hidden, 3, zero_init=True, **{"steps": 4, "solver": "midpoint", "noise": NOISE, **changes})


def objective_of(train, validation, **changes) -> FlowObjective:
    chosen = settings(objective=FLOW, tau={"name": "uniform"}, losses=dict.fromkeys(LOSSES, 0.0), **changes)
    return FlowObjective(Residuals(operator(), train), Residuals(operator(), validation), chosen, None)


LOSSES = ("spectral", "relative", "decoded")


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_solvers_converge_with_their_order(solver, order):
    """dx/dtau = cos(tau) x has the solution exp(sin(tau))."""
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    exact = torch.tensor(1.0, dtype=torch.float64).sin().exp()
    errors = []
    for steps in (8, 16, 32):
        path = trajectory(lambda x, tau: tau.double().cos()[:, None, None] * x, x, steps, solver)
        assert len(path) == steps + 1
        errors.append(float((path[-1] - exact).abs()))
    slopes = [torch.tensor(a / b).log2() for a, b in itertools.pairwise(errors)]
    assert all(float(slope) == pytest.approx(order, abs=0.25) for slope in slopes)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_optimal_flow_has_the_planted_mean_and_variance(solver):
    """The exact path is tau m + x(0) / q sqrt(variance(tau)): its end is m + s eps."""
    flow = corrector(OptimalFlow, steps=64, solver=solver)
    z_hat = torch.randn(200, TOKENS, DIM)
    eps = torch.randn(200, TOKENS, DIM, generator=torch.Generator().manual_seed(1))
    tolerance = 0.03 if solver == "euler" else 0.002  # first and second order at 64 steps
    torch.testing.assert_close(flow.correct(z_hat, eps), MEAN + STD * eps, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(flow.deterministic(z_hat), torch.full_like(z_hat, MEAN), atol=1e-5, rtol=0)
    assert flow.evaluations == 64 * (1 if solver == "euler" else 2)


def test_the_loss_is_least_at_the_optimal_velocity_and_is_its_conditional_variance():
    """What is left at tau is Var(r - noise | x): s^2 q^2 / (tau^2 s^2 + (1 - tau)^2 q^2)."""
    objective = objective_of(gaussian(512, 1, MEAN, STD), gaussian(512, 2, MEAN, STD))
    flow = corrector(OptimalFlow)
    for value in (0.1, 0.5, 0.9):
        tau = torch.full((len(objective.validation.probe),), value)
        left = STD**2 * NOISE**2 / (value**2 * STD**2 + (1 - value) ** 2 * NOISE**2)
        # 1024 samples of 12 numbers: standard error sqrt(2 / 12288) = 1.3 %.
        assert objective.loss_at(flow, objective.validation, tau) == pytest.approx(left, rel=0.05)
        told_wrong = objective.loss_at(flow, objective.validation, tau, shown=1 - tau + 0.3)
        assert told_wrong > 1.02 * left


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A flow trained on the Gaussian problem, in units of its residual's deviation from zero."""
    objective = objective_of(gaussian(64, 1, MEAN, STD), gaussian(64, 2, MEAN, STD))
    flow = corrector(steps=8)
    scale = objective.train.residual.square().mean((0, 1)).sqrt()
    flow.set_statistics(torch.zeros(DIM), torch.ones(DIM), scale)
    return fit(flow, objective, tmp_path_factory.mktemp("flow"), "flow", updates=600, rate=5e-3), objective


def test_a_trained_flow_draws_from_the_planted_distribution(trained):
    flow, objective = trained[0].model, trained[1]
    generator = torch.Generator().manual_seed(5)
    z_hat = objective.validation.predicted[:320]
    draws = torch.stack([flow.sample(z_hat, generator) for _ in range(4)])
    # 15,360 draws: standard errors .004 and .003; the rest is what the network has not learnt in 600 updates.
    assert float(draws.mean()) == pytest.approx(MEAN, abs=0.06)
    assert float(draws.std()) == pytest.approx(STD, rel=0.12)
    assert float(flow.deterministic(z_hat).mean()) == pytest.approx(MEAN, abs=0.06)
    again = flow.sample(z_hat, torch.Generator().manual_seed(5))
    assert torch.equal(again, draws[0])
    assert not torch.equal(draws[0], draws[1])


def test_a_flow_listens_to_tau(trained):
    """Told another time than the true one, it does markedly worse; the residual objective does not notice."""
    row = trained[0].history.rows[-1]
    assert row["val_flow_loss_shuffled"] > 1.15 * row["val_flow_loss"]
    # Its deterministic correction is the mean, which explains m^2 / (m^2 + s^2) of the residual.
    assert row["val_explained"] == pytest.approx(MEAN**2 / (MEAN**2 + STD**2), abs=0.05)


def test_an_untrained_flow_corrects_nothing_and_draws_its_noise():
    flow = corrector(noise=0.3)
    z_hat = torch.randn(50, TOKENS, DIM)
    assert not flow.deterministic(z_hat).any()
    draws = flow.sample(z_hat, torch.Generator().manual_seed(0))
    assert float(draws.std()) == pytest.approx(0.3, rel=0.1)
    with pytest.raises(ValueError, match="euler, midpoint, heun"):
        corrector(solver="rk4")


def test_the_teacher_counts_the_evaluations_of_its_flow():
    flow = corrector(OptimalFlow, steps=3, solver="heun")
    teacher = Teacher(operator(), flow)
    z, c = torch.randn(2, TOKENS, DIM), torch.full((2, 1), 0.01)
    torch.testing.assert_close(teacher.step(z, c), z + flow.deterministic(z))
    assert teacher.evaluations == 7


def test_other_loss_terms_look_at_the_end_of_the_path():
    """With the optimal velocity on a problem without chance, every path points to its end: all terms vanish."""
    objective = objective_of(planted(8, 1), planted(8, 2))
    objective.losses = objective.losses.model_copy(update={"spectral": 1.0, "relative": 1.0})
    residual = objective.train.residual

    class Straight(FlowCorrector):
        def forward(self, x, z_hat, tau):
            return (residual[: len(x)] / self.scale - x) / (1 - tau[:, None, None])

    terms = objective.loss(corrector(Straight), torch.arange(40), None, torch.Generator().manual_seed(0))
    assert set(terms) == {"mse", "spectral", "relative"}
    assert all(float(term.value) < 1e-5 for term in terms.values())


@pytest.mark.parametrize(("teacher", "student", "steps"), [(4, 1, 4), (4, 2, 4), (5, 2, 6), (1, 1, 2), (1, 2, 4)])
def test_the_teachers_path_has_two_points_in_every_segment(teacher, student, steps):
    assert path_steps(teacher, student) == steps


@pytest.mark.parametrize("steps", [1, 2])
def test_a_few_step_student_reaches_the_ends_of_its_teacher(steps, tmp_path):
    train, validation = (Residuals(operator(), gaussian(64, seed, MEAN, STD)) for seed in (1, 2))
    teacher = corrector(OptimalFlow, steps=16)
    objective = ConsistencyObjective(teacher, train, validation, steps)
    student = corrector(steps=steps, solver="euler")
    before = [value.clone() for value in teacher.state_dict().values()]
    row = fit(student, objective, tmp_path, "student", updates=450, rate=5e-3).history.rows[-1]
    # The teacher's own velocity, taken in as few Euler steps, goes to the mean and loses the spread.
    assert row["val_untaught_distance"] > {1: 0.2, 2: 0.01}[steps]
    assert row["val_loss"] < 0.01
    assert row["val_loss"] < 0.05 * row["val_operator_distance"]
    assert row["val_student_error"] ** 0.5 < 1.05 * row["val_teacher_error"] ** 0.5
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.state_dict().values(), strict=True))


def test_two_points_of_one_path_have_the_same_target():
    """On the optimal flow the map from any point to its segment's end is known; with it the loss vanishes."""
    steps = 2
    train = Residuals(operator(), gaussian(16, 1, MEAN, STD))
    teacher = corrector(OptimalFlow, steps=64, solver="midpoint")

    class Exact(FlowCorrector):
        """x(t) = t m + e(t) eps, e(t) = sqrt(t^2 s^2 + (1 - t)^2 q^2): from t to the end of its segment."""

        def forward(self, x, z_hat, tau):
            t = tau[:, None, None]
            end = (torch.floor(t * steps + 1e-4) + 1) / steps
            spread = [(time**2 * STD**2 + (1 - time) ** 2 * NOISE**2).sqrt() for time in (t, end)]
            goal = end * MEAN + spread[1] / spread[0] * (x - t * MEAN)
            return (goal - x) / (end - t)

    objective = ConsistencyObjective(teacher, train, train, steps)
    student = corrector(Exact, steps=steps, solver="euler")
    terms = objective.loss(student, torch.arange(len(train)), None, torch.Generator().manual_seed(0))
    assert float(terms["consistency"].value) < 1e-4
    torch.testing.assert_close(
        student.sample(train.predicted, torch.Generator().manual_seed(1)),
        teacher.sample(train.predicted, torch.Generator().manual_seed(1)),
        atol=0.02,
        rtol=0.02,
    )


def test_both_objectives_report_the_same_numbers_for_the_gate():
    data = Residuals(operator(), planted(8, 1)), Residuals(operator(), planted(8, 2))
    flow = FlowObjective(*data, settings(objective=FLOW), None)
    residual = ResidualObjective(*data, settings(), None)
    from ups.models.corrector import ResidualCorrector

    rows = flow.validate(corrector()), residual.validate(ResidualCorrector(DIM, 8, 2, zero_init=True))
    shared = set(rows[1]) - {name for name in rows[1] if "tau" in name}
    assert {name: rows[0][name] for name in shared} == {name: rows[1][name] for name in shared}
    assert set(rows[1]) <= set(rows[0])
    torch.testing.assert_close(flow.by_trajectory(corrector())[0], flow.by_trajectory(corrector())[1])
