"""Which parts the assembled surrogate keeps: those that pay in decoded rollouts of the validation split."""

import pytest
import torch
from example_fields import advected_sines

from ups.evaluation.assembly import DECIDES, GUARD, decide
from ups.evaluation.baselines import exact_forecasters

VALIDATION = advected_sines(trajectories=8, frames=17)
exact = exact_forecasters(VALIDATION.metadata)["exact_shift"]


def model(error, evaluations=1, first=None):
    """The truth and an error that grows by `error` per step, or is `first` in the first; it varies by trajectory."""

    def forecaster(given, num_steps, coefficients):
        growth = error * torch.arange(1, num_steps + 1)
        if first is not None:
            growth[0] = first
        scatter = torch.linspace(0.8, 1.2, len(given))
        return exact(given, num_steps, coefficients) + (scatter[:, None] * growth)[:, :, None, None]

    forecaster.evaluations_per_step = evaluations
    return forecaster


def decided(**forecasters):
    return decide(forecasters, VALIDATION, batch_size=len(VALIDATION))


def test_a_corrector_that_helps_rollouts_is_kept():
    found = decided(operator=model(0.05), corrected=model(0.04, 2))
    assert (found["assembled"], found["corrector_pays"], found["student_pays"]) == ("corrected", True, None)
    test = found["comparisons"]["corrected_against_operator"][DECIDES]
    assert test["low"] < test["mean"] < test["high"] < 0
    assert found["evaluations"] == {
        "operator": {DECIDES: 12, GUARD: 16},
        "corrected": {DECIDES: 24, GUARD: 32},
    }
    assert "at 24 instead of 12 network evaluations: the corrector pays." in found["reason"]
    assert found["trajectories"] == 8


def test_a_corrector_that_explains_one_step_and_harms_rollouts_is_left_out():
    """Planted: without error one step ahead, which is what its own stage sees, and worse from then on."""
    found = decided(operator=model(0.05), corrected=model(0.06, 2, first=0.0))
    assert found["assembled"] == "operator"
    assert found["corrector_pays"] is False
    assert found["comparisons"]["corrected_against_operator"][DECIDES]["low"] > 0
    assert "the corrector does not pay" in found["reason"]
    assert found["reason"].endswith("The assembled surrogate is the operator alone.")


def test_equal_is_not_enough():
    found = decided(operator=model(0.05), corrected=model(0.05, 2))
    assert found["assembled"] == "operator"
    assert found["comparisons"]["corrected_against_operator"][DECIDES]["mean"] == 0.0


def test_a_gain_that_does_not_stand_out_from_trajectory_to_trajectory_is_not_enough():
    def uneven(given, num_steps, coefficients):
        frames = model(0.05)(given, num_steps, coefficients)
        truth = exact(given, num_steps, coefficients)
        scale = torch.ones(len(given))
        scale[0] = 0.5  # one trajectory of eight; all others as before
        return truth + scale[:, None, None, None] * (frames - truth)

    found = decided(operator=model(0.05), corrected=uneven)
    test = found["comparisons"]["corrected_against_operator"][DECIDES]
    assert test["mean"] < 0 < test["high"]
    assert found["assembled"] == "operator"


def test_forecasts_from_one_frame_must_not_become_worse():
    """Planted: better where ten frames are given (a start at t = .45 or later), worse from the first frame."""
    harmful, helpful = model(0.08), model(0.04)

    def corrected(given, num_steps, coefficients):
        return (harmful if given.shape[1] == 1 else helpful)(given, num_steps, coefficients)

    found = decided(operator=model(0.05), corrected=corrected)
    tests = found["comparisons"]["corrected_against_operator"]
    assert tests[DECIDES]["better"]
    assert tests[GUARD]["mean"] > 0
    assert found["assembled"] == "operator"


@pytest.mark.parametrize(
    ("student", "evaluations", "expected"),
    [
        (0.0404, 1, "student"),  # loses a hundredth of its teacher's accuracy at half its cost
        (0.0404, 2, "corrected"),  # at no lower cost
        (0.045, 1, "corrected"),  # pays against the operator, but loses an eighth
        (0.03, 1, "student"),
    ],
)
def test_a_student_replaces_a_teacher_that_pays_if_it_keeps_its_accuracy_at_less_cost(student, evaluations, expected):
    found = decided(operator=model(0.05), corrected=model(0.04, 2), student=model(student, evaluations))
    assert found["assembled"] == expected
    assert found["student_pays"] is (expected == "student")
    assert set(found["comparisons"]) >= {"corrected_against_operator", "student_against_corrected"}


def test_a_student_of_a_corrector_that_does_not_pay_is_left_out():
    found = decided(operator=model(0.05), corrected=model(0.06, 2), student=model(0.04))
    assert (found["assembled"], found["student_pays"]) == ("operator", False)


def test_a_forecast_that_diverges_is_not_kept():
    def diverging(given, num_steps, coefficients):
        frames = model(0.01)(given, num_steps, coefficients)
        frames[0, -1] = torch.nan
        return frames

    found = decided(operator=model(0.05), corrected=diverging)
    assert found["assembled"] == "operator"
    assert "a forecast diverged" in found["reason"]


def test_without_a_corrector_there_is_nothing_to_decide():
    found = decided(operator=model(0.05))
    assert (found["assembled"], found["corrector_pays"], found["comparisons"]) == ("operator", None, {})
    assert found["reason"] == "There is no corrector. The assembled surrogate is the operator alone."
