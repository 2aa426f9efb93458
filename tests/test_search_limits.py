"""What bounds a search, setting by setting: each test fails if its setting is ignored."""

import pytest
import torch
from search_settings import search_settings as settings
from toy_surrogate import C, near, start, surrogate

from ups.inference.choices import OracleChoice, base_candidate, best_scored
from ups.inference.search import BeamSearch

PLAIN, EXPANSION = 2, 5  # network evaluations of the plain step, and of a step with four candidates


def rollout(num_steps=3, choose=best_scored, poor_below=None, target=0.2, **changes):
    search = BeamSearch(surrogate(), near(target), settings(**changes), 1, poor_below)
    return search.rollout(start(), C, num_steps, choose)


def drawn(**changes):
    """Return the decoded candidates of every step, (R, K, C, X) each, with the base followed."""
    seen = []

    def watch(candidates, scores, step):
        seen.append(candidates.frames[:, 0])
        return base_candidate(candidates, scores, step)

    rollout(choose=watch, **changes)
    return seen


def test_only_the_first_steps_are_searched():
    every, some = (rollout(noise_std=[0.0], target=5.0, steps=count) for count in (None, 1))
    assert every.searched.tolist() == [3] * 3
    assert some.searched.tolist() == [1] * 3
    assert some.evaluations.tolist() == [EXPANSION + 2 * PLAIN] * 3
    torch.testing.assert_close(some.frames[:, 0], every.frames[:, 0])
    # After that the plain step: the operator's factor, and no correction.
    torch.testing.assert_close(some.frames[:, 2], 0.9 * some.frames[:, 1])
    assert (every.frames[:, 2] - 0.9 * every.frames[:, 1]).abs().max() > 0.01


def tempting(previous, frame, coefficients):
    """Pay for a mean above zero, and make whoever stands above zero pay tenfold at the next step."""
    return frame.mean((1, 2)) - 10.0 * previous.mean((1, 2)).clamp_min(0)


def first_mean(**changes):
    u = start() - start().mean(2, keepdim=True)
    chosen = settings(noise_std=[0.0], candidates=8, max_evaluations=1000, **changes)
    return BeamSearch(surrogate(), tempting, chosen, seed=4).rollout(u, C, 1, best_scored).frames.mean((1, 2, 3))


def test_looking_ahead_finds_what_one_step_misses_and_a_beam_of_one_does_not():
    assert (first_mean(horizon=1) > 0.05).all()
    assert (first_mean(horizon=2, beam=8) < 1e-6).all()
    assert (first_mean(horizon=2, beam=1) > 0.05).all()


def test_a_discount_of_zero_does_not_look_ahead():
    assert torch.equal(first_mean(horizon=2, beam=8, discount=0.0), first_mean(horizon=1))
    assert (first_mean(horizon=2, beam=8, discount=1.0) < 1e-6).all()


@pytest.mark.parametrize(("low", "high"), [(0.15, 0.85), (0.5, 0.6)])
def test_tau_of_the_candidates_fills_its_range(low, high):
    frames = drawn(num_steps=1, candidates=64, noise_std=[0.0], tau_range=[low, high], max_evaluations=100)[0]
    tau = frames.mean((2, 3)) - frames[:, :1].mean((2, 3)) + 0.5  # the corrector adds tau - 1/2
    assert tau[:, 0].tolist() == pytest.approx([0.5] * 3)
    assert ((tau[:, 1:] >= low - 1e-6) & (tau[:, 1:] <= high + 1e-6)).all()
    # 189 uniform draws: each outer tenth of the range is empty with probability .9^189 = 2e-9.
    assert float(tau[:, 1:].min()) < low + 0.1 * (high - low)
    assert float(tau[:, 1:].max()) > high - 0.1 * (high - low)


def test_latent_noise_follows_its_schedule():
    frames = drawn(num_steps=4, candidates=64, noise_std=[0.0, 0.2, 0.05, 0.0], max_evaluations=100)
    noise = [
        step[:, 1:] - step[:, 1:].mean((2, 3), keepdim=True) - (step[:, :1] - step[:, :1].mean((2, 3), True))
        for step in frames
    ]
    # 3 x 63 x 16 numbers: their deviation has a standard error of 1.3 %.
    found = [float(step.square().mean().sqrt()) for step in noise]
    assert found[0] == pytest.approx(0.0, abs=1e-6)
    assert found[3] == pytest.approx(0.0, abs=1e-6)
    assert found[1] / 0.2 == pytest.approx((15 / 16) ** 0.5, rel=0.05)
    assert found[2] / 0.05 == pytest.approx((15 / 16) ** 0.5, rel=0.05)


# The adaptive mode -------------------------------------------------------------------------------------------------


def test_where_no_plain_step_is_poor_the_forecast_is_the_plain_one():
    result = rollout(poor_below=-torch.inf)
    assert torch.equal(result.frames, surrogate().forecaster("corrected")(start()[:, None], 3, C))
    assert result.evaluations.tolist() == [3 * PLAIN] * 3
    assert result.searched.tolist() == [0] * 3


def test_where_every_plain_step_is_poor_all_are_searched_at_the_price_of_an_ordinary_search():
    result = rollout(poor_below=torch.inf)
    assert result.searched.tolist() == [3] * 3
    assert result.evaluations.tolist() == rollout().evaluations.tolist() == [3 * EXPANSION] * 3
    # The base is among the candidates, so the reward is at least the plain step's.
    plain = surrogate().forecaster("corrected")(start()[:, None], 1, C)
    assert ((result.frames[:, 0].mean((1, 2)) - 0.2).abs() <= (plain[:, 0].mean((1, 2)) - 0.2).abs() + 1e-6).all()


def test_only_the_poor_trajectories_are_searched_and_what_is_counted_was_made():
    u = start()
    u = u - u.mean(2, keepdim=True) + torch.tensor([0.0, 1.0, 2.0])[:, None, None]
    for changes in ({}, {"horizon": 2, "beam": 2}):
        model = surrogate()
        search = BeamSearch(model, near(2.0), settings(noise_std=[0.0], **changes), seed=1, poor_below=-1.5)
        result = search.rollout(u, C, 1, best_scored)
        # Plain means 0, .9 and 1.8: rewards -2, -1.1 and -.2, of which only the first is poor.
        assert result.searched.tolist() == [1, 0, 0]
        assert int(result.evaluations.sum()) == model.operator.calls + model.corrector.calls
        assert result.evaluations[1:].tolist() == [PLAIN, PLAIN]
        torch.testing.assert_close(result.frames[1:, 0], 0.9 * u[1:])
        assert float(result.frames[0].mean()) > 0.05


def test_correlations_leave_out_what_was_not_searched():
    u = start()
    u = u - u.mean(2, keepdim=True) + torch.tensor([0.0, 1.0, 2.0])[:, None, None]
    watch = OracleChoice(u[:, None], follow=best_scored)
    BeamSearch(surrogate(), near(2.0), settings(noise_std=[0.0]), 1, -1.5).rollout(u, C, 1, watch)
    assert watch.correlations[0].isnan().tolist() == [False, True, True]
