import math

import pytest
import torch
from example_fields import advected_sines, drift

from ups.evaluation.metrics import nrmse, relative_l2
from ups.evaluation.scores import reconstruction_scores, score


def test_batches_do_not_change_the_scores():
    data = advected_sines(trajectories=5, frames=12)
    whole = score(drift(0.1), data, "rollout_ic", batch_size=5, horizons=[1, 4, 16])
    parts = score(drift(0.1), data, "rollout_ic", batch_size=2, horizons=[1, 4, 16])
    for metric, by_horizon in whole.horizons.items():
        for horizon, values in by_horizon.items():
            torch.testing.assert_close(parts.horizons[metric][horizon], values, rtol=1e-12, atol=1e-14)


def test_never_more_than_a_batch_at_once():
    sizes = []

    def spy(given, num_steps, coefficients):
        sizes.append(given.shape[0])
        return given[:, -1:].expand(-1, num_steps, -1, -1)

    for protocol in ("one_step", "rollout_ic", "pdebench"):
        score(spy, advected_sines(trajectories=5), protocol, batch_size=2)
    assert max(sizes) == 2


def test_horizons_are_the_first_predicted_frames():
    data = advected_sines(frames=9)
    result = score(drift(0.1), data, "rollout_ic", batch_size=4, horizons=[1, 4, 16])
    prediction = drift(0.1)(data.fields[:, :1], 8, data.coefficients)
    frames = nrmse(prediction, data.fields[:, 1:])
    assert set(result.horizons["nrmse"]) == {"1", "4", "full"}  # 16 frames do not exist
    torch.testing.assert_close(result.horizons["nrmse"]["1"], frames[:, 0])
    torch.testing.assert_close(result.horizons["nrmse"]["4"], frames[:, :4].mean(1))
    torch.testing.assert_close(result.horizons["nrmse"]["full"], frames.mean(1))
    torch.testing.assert_close(result.horizons["relative_l2"]["4"], relative_l2(prediction[:, :4], data.fields[:, 1:5]))
    assert set(score(drift(0.1), data, "one_step", batch_size=4, horizons=[1, 4]).horizons["nrmse"]) == {"full"}


def test_divergence_is_counted_and_stays_visible():
    data = advected_sines(trajectories=3, frames=9)

    def explodes(given, num_steps, coefficients):
        prediction = drift(0.1)(given, num_steps, coefficients)
        prediction[coefficients[:, 0] > 0.9, 4:] = math.inf  # the last trajectory, from the fifth step on
        return prediction

    result = score(explodes, data, "rollout_ic", batch_size=2, horizons=[4])
    assert result.diverged.tolist() == [False, False, True]
    assert result.horizons["nrmse"]["4"].isfinite().all()
    assert result.horizons["nrmse"]["full"].isfinite().tolist() == [True, True, False]
    # The time until a forecast is lost exists for a lost one too; four frames at most.
    assert float(result.horizons["correlation_time"]["full"][2]) <= 4 * data.metadata.dt


def test_seconds_per_trajectory_leave_out_the_warm_up():
    ticks = iter([0.0, 3.0, 10.0, 11.0])  # two timed batches: 3 s and 1 s
    result = score(drift(0.0), advected_sines(trajectories=4), "rollout_ic", batch_size=2, clock=lambda: next(ticks))
    # The untimed first call must not consume the injected clock.
    assert result.seconds_per_trajectory == pytest.approx(1.0)


def test_examples_and_spectra():
    data = advected_sines(trajectories=5, points=32)
    result = score(drift(0.0), data, "pdebench", batch_size=2, num_examples=3)
    assert result.examples.shape == (3, result.frames_predicted, 1, 32)
    assert result.spectra["target"].shape == (5, 17)
    # A unit sine holds a mean square of one half in wavenumber 1; fields are float32.
    torch.testing.assert_close(result.spectra["target"][:, 1], torch.full((5,), 0.5).double(), atol=1e-6, rtol=0)


def test_reconstruction_is_scored_on_every_frame():
    data = advected_sines(trajectories=5, frames=6)
    values = reconstruction_scores(lambda fields: 1.01 * fields, data, batch_size=2)
    assert values["nrmse"].tolist() == pytest.approx([0.01] * 5, rel=1e-4)
    assert values["relative_l2"].tolist() == pytest.approx([0.01] * 5, rel=1e-4)
