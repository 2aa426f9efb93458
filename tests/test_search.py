"""Rewards and the beam search, on surrogates whose right answers are known."""

import itertools
import math

import pytest
import torch
from search_settings import NO_REWARDS
from search_settings import search_settings as settings
from toy_surrogate import C, metadata, near, start, surrogate

from ups.data.initial_conditions import cell_centres, draw
from ups.errors import ParameterError
from ups.inference import choices, rewards
from ups.inference.candidates import States
from ups.inference.choices import OracleChoice, RandomChoice, base_candidate, best_scored, rank_correlation
from ups.inference.search import BeamSearch
from ups.inference.shift_average import ShiftAverage


def test_more_candidates_reach_a_better_reward_and_one_candidate_is_the_base():
    u = start()
    means = {}
    for count in (1, 4, 16):
        search = BeamSearch(surrogate(), near(0.2), settings(candidates=count), seed=1)
        result = search.rollout(u, C, 1, best_scored)
        means[count] = (result.frames[:, -1].mean((1, 2)) - 0.2).abs().mean()
    assert means[16] < means[4] < means[1]
    base = BeamSearch(surrogate(), near(0.2), settings(candidates=1), seed=1).rollout(u, C, 3, best_scored)
    assert torch.equal(base.frames, surrogate().forecaster("corrected")(u[:, None], 3, C))


def test_each_trajectory_gets_its_own_choice():
    """One choice for a whole batch would make the result of a trajectory depend on its neighbours' rewards."""
    u = start()
    wants = torch.tensor([-0.3, 0.0, 0.3])

    def reward(previous, frame, coefficients):
        return -(frame.mean((1, 2)) - wants.repeat_interleave(len(frame) // 3)).abs()

    seen = []

    def watch(candidates, scores, step):
        seen.append((candidates.frames[:, 0], scores.argmax(1)))
        return choices.best_scored(candidates, scores, step)

    result = BeamSearch(surrogate(), reward, settings(candidates=16), seed=1).rollout(u, C, 1, watch)
    frames, best = seen[0]
    assert len(best.unique()) > 1
    assert torch.equal(result.frames[:, 0], frames[torch.arange(3), best])


def test_the_beam_finds_the_best_path_when_it_keeps_all_of_them():
    """With a beam as wide as the tree the search equals brute force over all sequences of candidates."""
    count, horizon, discount = 3, 2, 0.9
    search = BeamSearch(
        surrogate(), near(0.4), settings(candidates=count, beam=count, horizon=horizon, discount=discount), seed=1
    )
    observer, z = search.surrogate.start(start(1))
    state = search.source.generator.get_state()
    _, scores, evaluations = search._search(States(z[:, None], start(1)[:, None], observer, 0), C[:1], 0.0)

    search.source.generator.set_state(state)
    first = search.source.expand(States(z[:, None], start(1)[:, None], observer, 0), C[:1], 0.0)
    order = first.rewards[0, 0].topk(count).indices  # the search expands states in this order
    kept = States(first.tokens[:, 0][:, order], first.frames[:, 0][:, order], observer, 1)
    second = search.source.expand(kept, C[:1], 0.0)
    brute = {int(root): -math.inf for root in order}
    for (place, root), leaf in itertools.product(enumerate(order.tolist()), range(count)):
        total = float(first.rewards[0, 0, root] + discount * second.rewards[0, place, leaf])
        brute[root] = max(brute[root], total)
    best_root = max(brute, key=brute.__getitem__)
    assert int(scores[0].argmax()) == best_root
    assert float(scores[0].max()) == pytest.approx(brute[best_root])
    assert evaluations.tolist() == [1 + count + count * (1 + count)]


def test_the_counted_evaluations_are_the_ones_made_and_stay_in_the_budget():
    for changes in ({}, {"horizon": 3, "beam": 2}, {"horizon": 2, "margin": 0.3}, {"steps": 1}):
        model = surrogate()
        chosen = settings(**changes)
        result = BeamSearch(model, near(0.1), chosen, seed=2).rollout(start(), C, 2, best_scored)
        assert int(result.evaluations.sum()) == model.operator.calls + model.corrector.calls
        assert result.evaluations.max() <= 2 * chosen.evaluations_per_step()
    with pytest.raises(ValueError, match="40 network evaluations, more than max_evaluations = 20"):
        settings(candidates=7, beam=4, horizon=2, max_evaluations=20)


def test_the_margin_saves_evaluations_only_for_trajectories_that_are_clear():
    deep = BeamSearch(surrogate(), near(0.1), settings(horizon=2), seed=2).rollout(start(), C, 2, best_scored)
    some = BeamSearch(surrogate(), near(0.1), settings(horizon=2, margin=0.4), seed=2)
    evaluations = some.rollout(start(), C, 2, best_scored).evaluations
    assert evaluations.sum() < deep.evaluations.sum()
    assert evaluations.unique().numel() > 1


def test_the_oracle_is_at_least_as_near_to_the_truth_as_any_choice():
    u = start()
    truth = (0.9 * u + 0.13)[:, None]
    errors = {}
    choices = {"oracle": OracleChoice(truth), "base": base_candidate, "random": RandomChoice(0), "search": best_scored}
    for name, choose in choices.items():
        frames = BeamSearch(surrogate(), near(0.0), settings(candidates=8), seed=3).rollout(u, C, 1, choose).frames
        errors[name] = (frames - truth).square().mean((1, 2, 3))
    assert all((errors["oracle"] <= other + 1e-12).all() for other in errors.values())
    assert (errors["oracle"] < errors["base"]).any()


def test_rank_correlation_against_scipy():
    from scipy.stats import spearmanr

    a = torch.tensor([[1.0, 2.0, 2.0, 5.0, -1.0], [3.0, 1.0, 2.0, 0.0, 4.0]])
    b = torch.tensor([[0.0, 1.0, 3.0, 3.0, -2.0], [1.0, 2.0, 3.0, 4.0, 0.0]])
    expected = [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    assert rank_correlation(a, b).tolist() == pytest.approx(expected, abs=1e-6)
    assert rank_correlation(torch.ones(1, 4), b[:1, :4]).tolist() == [0.0]


def fine_solution():
    """Three frames of the exact solution, on a grid fine enough for the differences of the residual."""
    from ups.data.cole_hopf import cole_hopf

    x = cell_centres(1024)
    times = torch.tensor([0.30, 0.3025, 0.305], dtype=torch.float64)
    return cole_hopf(draw(7, 0, 8), x, times, 0.1).float()[:, :, None]


def test_the_true_solution_obeys_every_reward_and_a_wrong_viscosity_does_not():
    u = fine_solution()
    c = torch.full((8, 1), 0.1)
    data = metadata(1024, dt=0.0025)
    residual = rewards.PdeResidual(data)
    right = residual(u[:, 0], u[:, 1], c)
    assert (right > -1e-4).all()  # O(dt^2 + dx^2), times dt
    assert (residual(u[:, 0], u[:, 1], c * math.pi) < 3 * right).all()  # nu in place of nu/pi
    # Float32 sums of 1024 values of order one.
    assert (rewards.Conservation(data)(u[:, 0], u[:, 1], c) > -1e-5).all()
    assert (rewards.Dissipation(data)(u[:, 0], u[:, 1], c) > -1e-5).all()


def test_variation_and_extrema_of_the_true_solution_stay_and_noise_breaks_both():
    u, c, data = fine_solution(), torch.full((8, 1), 0.1), metadata(1024, dt=0.0025)
    noisy = u[:, 1] + 0.05 * torch.randn(u[:, 1].shape, generator=torch.Generator().manual_seed(0))
    for law in (rewards.TotalVariation(data), rewards.MaximumPrinciple(data)):
        # Extrema move between the points: curvature times dx^2 / 8, and that only once per extremum.
        assert (law(u[:, 0], u[:, 1], c) > -1e-4).all()
        assert (law(u[:, 0], noisy, c) < -2e-3).all()


def test_variation_and_extrema_by_hand():
    before, after = torch.tensor([[[0.0, 1.0, 0.0, -1.0]]]), torch.tensor([[[0.0, 2.0, 0.0, -1.5]]])
    # Variation 4 becomes 7; the second value lies 1 above, the last one .5 below; rms(before) = sqrt(1/2).
    assert float(rewards.TotalVariation(metadata())(before, after, C)) == pytest.approx(-3 / 4)
    expected = -math.sqrt((1.0 + 0.25) / 4) / math.sqrt(0.5)
    assert float(rewards.MaximumPrinciple(metadata())(before, after, C)) == pytest.approx(expected)
    for law in (rewards.TotalVariation, rewards.MaximumPrinciple):
        assert float(law(metadata())(after, before, C)) == pytest.approx(0.0, abs=1e-9)


def test_rewards_by_hand():
    before, after = torch.tensor([[[2.0, -2.0]]]), torch.tensor([[[3.0, -1.0]]])
    assert float(rewards.Conservation(metadata())(before, after, C)) == pytest.approx(-1.0 / 2.0)
    assert float(rewards.Dissipation(metadata())(before, after, C)) == pytest.approx(-(5.0 - 4.0) / 4.0)
    assert float(rewards.Dissipation(metadata())(after, before, C)) == 0.0
    positive = metadata().model_copy(update={"equation": "diffusion_reaction"})
    assert float(rewards.Positivity(positive)(before, after, C)) == pytest.approx(-math.sqrt(0.5) / 2.0)


def test_a_reward_that_applies_to_no_field_is_left_out_and_named():
    weights = {**NO_REWARDS, "dissipation": 0.5, "positivity": 1.0}
    found = rewards.weighted_rewards(weights, metadata())
    assert list(found.terms) == ["dissipation"]
    assert found.not_applicable == {"positivity": "no field of 'burgers' is positive by its equation"}
    with pytest.raises(ParameterError, match=r"unknown rewards .'mass'."):
        rewards.weighted_rewards({"mass": 1.0}, metadata())


@pytest.mark.parametrize(
    ("equation", "chosen"),
    [
        ("burgers", "dissipation"),
        ("navier_stokes", "dissipation"),
        ("wave", "conservation"),
        ("advection", "conservation"),
        ("diffusion_reaction", "learned"),
    ],
)
def test_auto_is_the_reward_that_suits_the_equation(equation, chosen):
    data = metadata().model_copy(update={"equation": equation})

    def learned(previous, frame, coefficients):
        return -(frame - previous).abs().mean((1, 2))

    found = rewards.weighted_rewards({**NO_REWARDS, "auto": 0.5}, data, learned)
    assert {name: weight for name, (_, weight) in found.terms.items()} == {chosen: 0.5}
    both = rewards.weighted_rewards({**NO_REWARDS, "auto": 0.5, chosen: 0.25}, data, learned)
    assert both.terms[chosen][1] == 0.75
    without = rewards.weighted_rewards({**NO_REWARDS, "auto": 0.5}, data, "train_reward was skipped")
    assert without.not_applicable == ({"learned": "train_reward was skipped"} if chosen == "learned" else {})


def test_the_equal_compute_control_averages_shifted_copies():
    model = surrogate()
    model.codec.encoder = type("Encoder", (), {"shape": (4,)})()
    base = model.forecaster("operator")
    control = ShiftAverage(base, 4)
    u = start()[:, None]
    assert control.evaluations_per_step == 4
    # A surrogate that commutes with every shift gains nothing from averaging over them.
    torch.testing.assert_close(control(u, 3, C), base(u, 3, C))
