import pytest
import torch
from example_fields import advected_sines, drift

from ups.evaluation.protocols import PROTOCOLS, forecast, given_frames, network_evaluations


@pytest.mark.parametrize(("frames", "given"), [(41, 10), (201, 10), (37, 10), (36, 9), (21, 6), (9, 3), (2, 1)])
def test_pdebench_gives_ten_frames_or_a_quarter(frames, given):
    assert given_frames("pdebench", frames) == given
    assert given_frames("rollout_ic", frames) == given_frames("one_step", frames) == 1


def test_a_single_frame_cannot_be_forecast():
    with pytest.raises(ValueError, match="at least 2 frames, not 1"):
        given_frames("pdebench", 1)


def test_one_step_sees_true_frames_and_rollouts_their_own():
    """A forecaster that drifts by 1 per step errs by 1 when teacher-forced and by 1, 2, 3 ... when free-running."""
    fields = torch.zeros(2, 6, 1, 8)
    errors = {
        name: forecast(drift(1.0), name, fields, torch.zeros(2, 1)).prediction[0, :, 0, 0].tolist()
        for name in PROTOCOLS
    }
    assert errors["one_step"] == [1.0] * 5
    assert errors["rollout_ic"] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert errors["pdebench"] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_prediction_and_truth_are_of_the_same_time(protocol):
    data = advected_sines(frames=12)
    dt = data.metadata.dt

    def exact(given, num_steps, coefficients):
        place = data.metadata.grid.coordinates()
        first = given[:, -1, 0].double()
        # Phase of wavenumber 1 of the last given frame, advanced.
        mode = torch.fft.rfft(first)[:, 1] / len(place) * 2
        frames = []
        for step in range(1, num_steps + 1):
            turn = torch.polar(torch.ones(len(given)).double(), -2 * torch.pi * coefficients[:, 0].double() * dt * step)
            wave = torch.exp(2j * torch.pi * (place - place[0]))
            frames.append(first.mean(1, keepdim=True) + ((mode * turn)[:, None] * wave).real)
        return torch.stack(frames, 1)[:, :, None].float()

    result = forecast(exact, protocol, data.fields, data.coefficients)
    # Float32 fields of size 1: rounding of 1e-6. A shift by one frame would err by 0.1 or more.
    torch.testing.assert_close(result.prediction, result.target, atol=5e-6, rtol=0)
    assert result.target.shape[1] == 12 - given_frames(protocol, 12)


def test_a_forecaster_sees_nothing_of_the_future():
    data = advected_sines(frames=12)
    seen = []

    def spy(given, num_steps, coefficients):
        seen.append(given.clone())
        return given[:, -1:].expand(-1, num_steps, -1, -1)

    forecast(spy, "pdebench", data.fields, data.coefficients)
    assert [tuple(given.shape) for given in seen] == [(4, 3, 1, 32)]
    torch.testing.assert_close(seen[0], data.fields[:, :3])


def test_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"returned shape \(2, 1, 1, 8\); \(2, 5, 1, 8\) was expected"):
        forecast(lambda given, steps, _: given, "rollout_ic", torch.zeros(2, 6, 1, 8), torch.zeros(2, 1))


def test_cost_is_counted():
    ticks = iter((10.0, 12.5))
    result = forecast(drift(0.0), "rollout_ic", torch.zeros(2, 6, 1, 8), torch.zeros(2, 1), clock=lambda: next(ticks))
    assert result.seconds == 2.5
    forecaster = drift(0.0)
    assert network_evaluations(forecaster, "pdebench", 41) is None
    forecaster.evaluations_per_step = 2
    assert network_evaluations(forecaster, "pdebench", 41) == 62
    assert network_evaluations(forecaster, "one_step", 41) == 80
    forecaster.evaluations_per_step = 1 / 2  # two frames per call: the sixteenth call's second frame is cut off
    assert network_evaluations(forecaster, "pdebench", 41) == 16
