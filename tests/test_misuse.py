"""What a surrogate refuses, and that the refusal says what it was trained for and what to do."""

import numpy as np
import pytest
import torch
from small_surrogate import METADATA, TRAINED, write_bundle

import ups
from ups.errors import ArtifactError, InputError, UpsError
from ups.tracking import TrackingError

GOOD = np.zeros((3, 1, 32), dtype=np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("misuse") / "bundle")


@pytest.fixture(scope="module")
def surrogate(bundle):
    return ups.load(bundle)


def with_nan():
    u = GOOD.copy()
    u[1, 0, 5] = np.nan
    return u


@pytest.mark.parametrize(
    ("u", "message"),
    [
        (np.zeros((3, 2, 32)), r"trained on 1 channel \(u\)"),
        (np.zeros((3, 32)), r"If these are 3 fields, write u\[:, None, :\]"),
        (np.zeros((3, 1, 64)), r"trained on 32 points of \[0, 1\).*Take one point in 2, u\[\.\.\., ::2\]"),
        (np.zeros(48), r"Interpolate the 48 values.*decode\(latent, at=points\)"),
        (np.zeros((3, 32, 1)), "Space is the last axis: move axis 1 there"),
        (np.zeros((0, 1, 32)), "nothing in it"),
        (np.float32(1.0), "nothing in it"),
        (with_nan(), r"NaN or Inf at index \[1, 0, 5\]"),
        (torch.from_numpy(with_nan()), r"NaN or Inf at index \[1, 0, 5\]"),
        (np.full((1, 32), 1e300), "NaN or Inf"),
        (GOOD + 100.0, r"u is 50 standard deviations .* \(mean 0.4, deviation 2, in '1'\). Is its unit another"),
        (GOOD.astype(complex), "complex128"),
        (torch.zeros(1, 32, dtype=torch.complex64), "complex"),
        ("sin(x)", "no array of real numbers"),
        (None, "no array of real numbers"),
    ],
)
def test_fields_it_cannot_read(surrogate, u, message):
    with pytest.raises(InputError, match=message):
        surrogate.state(u, viscosity=0.01)


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ({}, r"has the coefficients \['viscosity'\] \(missing: viscosity\).*viscosity=\.\.\."),
        ({"nu": 0.01}, "missing: viscosity; unknown: nu"),
        ({"viscosity": 0.1}, "viscosity = 0.1, but .* trained for viscosity from 0.01 to 0.02.*extrapolate=True"),
        ({"viscosity": [0.01, 0.02, 0.001]}, "viscosity = 0.001, but"),
        ({"viscosity": [0.01, 0.02]}, r"viscosity has shape \(2,\), u has the batch \(3,\)"),
        ({"viscosity": np.nan}, "viscosity holds NaN"),
        ({"viscosity": "low"}, "viscosity is 'low'"),
        ({"viscosity": 0.01, "time": np.inf}, "time is inf"),
        ({"viscosity": 0.01, "time": "noon"}, "time is 'noon'"),
    ],
)
def test_coefficients_it_was_not_trained_for(surrogate, coefficients, message):
    with pytest.raises(InputError, match=message):
        surrogate.state(GOOD, **coefficients)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 2, "dt": 0.1}, "dt = 0.1, but .* time step 0.05. For 0.1 take 2 steps"),
        ({"steps": 2, "dt": 0.03}, "none between; train one with another data.time_stride"),
        ({"steps": 0}, "steps = 0"),
        ({"steps": 1.5}, "steps = 1.5"),
        ({"steps": True}, "steps = True"),
        ({"steps": 1, "mode": "best"}, "mode = 'best': this surrogate has operator"),
    ],
)
def test_forecasts_it_cannot_make_are_refused_before_the_first_step(surrogate, arguments, message):
    state = surrogate.state(GOOD, viscosity=0.01)
    with pytest.raises(InputError, match=message):
        surrogate.rollout(state, **arguments)


def test_rounding_is_not_another_value(surrogate):
    state = surrogate.state(GOOD, viscosity=np.float32(0.01))
    assert len(list(surrogate.rollout(state, 2, dt=float(np.float32(0.05))))) == 2


def test_a_bare_array_is_no_state(surrogate):
    with pytest.raises(InputError, match=r"not a ndarray: surrogate\.state\(u, viscosity=\.\.\.\)"):
        surrogate.step(GOOD)


def test_states_and_latents_of_another_surrogate(surrogate, tmp_path):
    other = ups.load(write_bundle(tmp_path / "slow", TRAINED.model_copy(update={"dt": 0.1})))
    with pytest.raises(InputError, match=r"a surrogate with dt 0\.1; this one was trained with 0\.05"):
        surrogate.step(other.state(GOOD, viscosity=0.01))
    wide = TRAINED.grid.model_copy(update={"extent": (2.0,)})
    wider = ups.load(write_bundle(tmp_path / "wide", TRAINED.model_copy(update={"grid": wide})))
    with pytest.raises(InputError, match="a domain of length 2; this surrogate was trained on 32 points of 1"):
        surrogate.step(wider.state(GOOD, viscosity=0.01))
    with pytest.raises(InputError, match="encoded by another surrogate"):
        surrogate.decode(other.encode(other.state(GOOD, viscosity=0.01)))
    with pytest.raises(InputError, match="takes what encode returned, not a ndarray"):
        surrogate.decode(GOOD)


@pytest.mark.parametrize("at", [[np.nan], [[0.1]], "left", [np.inf]])
def test_places_that_are_none(surrogate, at):
    with pytest.raises(InputError, match="at "):
        surrogate.decode(surrogate.encode(surrogate.state(GOOD, viscosity=0.01)), at=at)


def test_extrapolation_is_asked_for_by_name(bundle, tmp_path):
    daring = ups.load(bundle, extrapolate=True)
    assert np.isfinite(daring.step(daring.state(GOOD + 100.0, viscosity=5.0)).u).all()
    unknown = ups.load(write_bundle(tmp_path / "unknown", METADATA))  # a data set that does not say its ranges
    unknown.state(GOOD, viscosity=5.0)
    with pytest.raises(InputError, match="NaN"):
        daring.state(with_nan(), viscosity=5.0)


def test_refusals_are_both_the_projects_errors_and_pythons():
    assert issubclass(InputError, UpsError)
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize("uri", ["models:/burgers1d@champion", "runs:/0123/surrogate"])
def test_a_store_that_is_not_there(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match="there is no tracking store"):
        ups.load(uri)
    assert list(tmp_path.iterdir()) == []


def test_without_mlflow_a_uri_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_bytes(b"")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(TrackingError, match="not installed: `pip install mlflow`"):
        ups.load("models:/burgers1d@champion")


def test_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(ArtifactError, match="does not exist"):
        ups.load(tmp_path / "absent")
    with pytest.raises(ArtifactError, match=r"has no surrogate\.json"):
        ups.load(tmp_path)
