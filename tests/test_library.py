"""The library: states in, states out; what comes out is like what went in, and agrees with the networks themselves."""

import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from small_surrogate import TRAINED, write_bundle, write_models

import ups
from ups.errors import InputError
from ups.inference.surrogate import load_surrogate
from ups.library.labelled import to_xarray

U = np.random.default_rng(0).normal(size=(2, 3, 1, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory):
    return ups.load(write_bundle(tmp_path_factory.mktemp("library") / "bundle"))


@pytest.fixture
def state(surrogate):
    return surrogate.state(U, viscosity=0.01)


def test_it_says_what_it_was_trained_for(surrogate):
    shown = str(surrogate)
    assert "burgers: u on 32 points of [0, 1), time step 0.05" in shown
    assert "viscosity from 0.01 to 0.02" in shown
    assert len(shown) < 400
    np.testing.assert_allclose(surrogate.x, (np.arange(32) + 0.5) / 32)


def test_a_rollout_is_the_forecast_that_evaluate_scores(surrogate, state):
    made = np.stack([next_state.u for next_state in surrogate.rollout(state, 4)], axis=2)
    given = torch.from_numpy(U).reshape(6, 1, 1, 32)
    expected = surrogate.surrogate.forecaster()(given, 4, torch.full((6, 1), 0.01)).numpy()
    np.testing.assert_array_equal(made.reshape(6, 4, 1, 32), expected)


@pytest.mark.parametrize("mode", ["operator", "corrected", "student"])
def test_modes_differ_and_are_the_networks_own(surrogate, state, mode):
    (last,) = surrogate.rollout(state, 1, mode=mode)
    given = torch.from_numpy(U).reshape(6, 1, 1, 32)
    expected = surrogate.surrogate.forecaster(mode)(given, 1, torch.full((6, 1), 0.01)).numpy()
    np.testing.assert_array_equal(last.u.reshape(6, 1, 1, 32), expected)
    np.testing.assert_array_equal(surrogate.step(state, mode=mode).u, last.u)


def test_times_do_not_gather_rounding(surrogate):
    states = list(surrogate.rollout(surrogate.state(U, viscosity=0.01, time=1.0), 7))
    assert [state.time for state in states] == [1.0 + count * 0.05 for count in range(1, 8)]


@pytest.mark.parametrize("shape", [(32,), (1, 32), (1, 1, 32), (3, 1, 32), (2, 3, 1, 32)])
def test_every_shape_comes_back_and_says_the_same(surrogate, shape):
    u = U.reshape(-1, 1, 32)[: int(np.prod(shape)) // 32].reshape(shape)
    state = surrogate.state(u, viscosity=0.01)
    made = surrogate.step(state)
    assert made.u.shape == shape
    alone = [surrogate.step(surrogate.state(field, viscosity=0.01)).u for field in u.reshape(-1, 32)]
    np.testing.assert_allclose(made.u.reshape(-1, 32), alone, rtol=1e-5, atol=1e-6)
    assert surrogate.decode(surrogate.encode(state)).shape == shape


def test_numpy_gives_numpy_and_torch_gives_torch(surrogate):
    from_numpy = surrogate.state(U.astype(np.float64), viscosity=0.01)
    from_torch = surrogate.state(torch.from_numpy(U), viscosity=torch.tensor(0.01))
    a, b = surrogate.step(from_numpy), surrogate.step(from_torch)
    assert isinstance(a.u, np.ndarray)
    assert isinstance(b.u, torch.Tensor)
    assert (a.u.dtype, b.u.dtype) == (np.float32, torch.float32)
    np.testing.assert_array_equal(a.u, b.u.numpy())
    assert isinstance(surrogate.encode(from_torch).tokens, torch.Tensor)
    assert isinstance(surrogate.decode(surrogate.encode(from_numpy), at=[0.5]), np.ndarray)
    np.testing.assert_array_equal(a.torch().numpy().u, a.u)


def test_a_state_cannot_be_changed_and_does_not_change_with_its_source(surrogate):
    for source in (U.copy(), torch.from_numpy(U.copy())):
        state = surrogate.state(source, viscosity=0.01)
        source[...] = 7.0
        np.testing.assert_array_equal(state.numpy().u, U)
    state = surrogate.state(U, viscosity=np.full((2, 3), 0.01))
    with pytest.raises(ValueError, match="read-only"):
        state.u[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        state.coefficients["viscosity"][0] = 0
    with pytest.raises(TypeError):
        state.coefficients["viscosity"] = 0.02
    with pytest.raises(FrozenInstanceError):
        state.time = 1.0


def test_each_field_has_its_own_coefficient(surrogate):
    both = surrogate.step(surrogate.state(U[0, :2], viscosity=[0.01, 0.02])).u
    for row, viscosity in enumerate((0.01, 0.02)):
        alone = surrogate.step(surrogate.state(U[0, row], viscosity=viscosity)).u
        np.testing.assert_allclose(both[row], alone, rtol=1e-5, atol=1e-6)
    assert np.abs(both[0] - surrogate.step(surrogate.state(U[0, 0], viscosity=0.02)).u).max() > 1e-4


def test_decoding_at_points_agrees_with_the_grid_and_is_periodic(surrogate, state):
    latent = surrogate.encode(state)
    on_grid = surrogate.decode(latent)
    np.testing.assert_allclose(surrogate.decode(latent, at=surrogate.x), on_grid, rtol=1e-5, atol=1e-5)
    points = np.array([0.1, 0.9999999999])
    here = surrogate.decode(latent, at=points)
    assert here.shape == (2, 3, 1, 2)
    for shifted in (points + 1, points - 3):
        np.testing.assert_allclose(surrogate.decode(latent, at=shifted), here, rtol=1e-4, atol=1e-4)
    between = surrogate.decode(latent, at=(surrogate.x[:1] + surrogate.x[1:2]) / 2)
    assert np.abs(between[..., 0] - on_grid[..., 0]).max() > 1e-4


def test_positions_are_physical(tmp_path):
    """On a domain that begins at -1 and is 2 long, x = -1 + 2 f is the place f of the unit domain."""
    unit = ups.load(write_bundle(tmp_path / "unit"))
    grid = TRAINED.grid.model_copy(update={"extent": (2.0,), "origin": (-1.0,)})
    wide = ups.load(write_bundle(tmp_path / "wide", TRAINED.model_copy(update={"grid": grid})))
    places = np.array([0.03, 0.4, 0.77])
    expected = unit.decode(unit.encode(unit.state(U, viscosity=0.01)), at=places)
    found = wide.decode(wide.encode(wide.state(U, viscosity=0.01)), at=-1 + 2 * places)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert wide.x[0] == pytest.approx(-1 + 1 / 32)


class Noise:
    """A stochastic corrector: known deviation, no mean."""

    def __init__(self, device="cpu"):
        self.device = device

    def sample(self, z_hat, generator):
        return 0.5 * torch.randn(z_hat.shape, generator=generator, device=self.device)


def drawing(surrogate, corrector):
    return replace(surrogate, surrogate=replace(surrogate.surrogate, corrector=corrector))


def test_ensembles_follow_their_seed_and_spread(surrogate, state):
    stochastic = drawing(surrogate, Noise())
    first, again, other = ([s.u for s in stochastic.sample(state, 2, members=40, seed=seed)] for seed in (1, 1, 2))
    assert first[0].shape == (40, *U.shape)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first[0] - other[0]).max() > 0.01
    assert np.abs(first[0][0] - first[0][1]).max() > 0.01
    assert first[1].std(axis=0).mean() > first[0].std(axis=0).mean() > 0
    # Without its noise the ensemble is the operator's forecast, member by member, each field with its own viscosity.
    state = surrogate.state(U, viscosity=np.linspace(0.01, 0.02, 6).reshape(2, 3))
    Silent = type("Silent", (), {"sample": lambda self, z_hat, generator: torch.zeros_like(z_hat)})
    for made, expected in zip(
        drawing(surrogate, Silent()).sample(state, 2, members=3),
        surrogate.rollout(state, 2, mode="operator"),
        strict=True,
    ):
        assert made.time == expected.time
        np.testing.assert_array_equal(made.coefficients["viscosity"][1], state.coefficients["viscosity"])
        np.testing.assert_allclose(made.u, np.broadcast_to(expected.u, made.u.shape), rtol=1e-4, atol=1e-5)


def test_there_is_no_ensemble_of_a_deterministic_corrector(surrogate, state):
    with pytest.raises(InputError, match=r"ResidualCorrector.* is deterministic.*Use rollout"):
        surrogate.sample(state, 2, members=4)
    with pytest.raises(InputError, match="has no corrector"):
        drawing(surrogate, None).sample(state, 2, members=4)


def test_a_diverged_forecast_is_passed_on_and_is_no_start(surrogate, state):
    class Explosion(torch.nn.Module):
        """The first field becomes infinite."""

        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(4))
            self.reencode, self.frames_per_call = False, 1

        def advance(self, z, coefficients):
            return torch.cat([z[:1] * torch.inf, z[1:]])[:, None]

    broken = replace(surrogate, surrogate=replace(surrogate.surrogate, operator=Explosion(), choice="operator"))
    (made,) = broken.rollout(state, 1)
    assert made.finite.tolist() == [[False, True, True], [True, True, True]]
    with pytest.raises(InputError, match="that forecast diverged"):
        surrogate.step(made)


def test_labelled_arrays_go_in_and_come_out(surrogate):
    xarray = pytest.importorskip("xarray")
    start = surrogate.state(U[0], viscosity=[0.01, 0.015, 0.02], time=0.5)
    labelled = start.to_xarray()
    assert labelled.dims == ("batch", "channel", "x")
    assert labelled.attrs["units"] == "1"
    again = surrogate.state(labelled.transpose("x", "channel", "batch"))
    np.testing.assert_array_equal(again.u, U[0])
    np.testing.assert_array_equal(again.coefficients["viscosity"], [0.01, 0.015, 0.02])
    assert again.time == 0.5
    table = surrogate.state(U, viscosity=np.linspace(0.01, 0.02, 6).reshape(2, 3))
    both = surrogate.state(table.to_xarray().transpose("x", "batch_1", "channel", "batch_0").transpose("batch_0", ...))
    assert table.to_xarray().dims == ("batch_0", "batch_1", "channel", "x")
    np.testing.assert_array_equal(both.u, U)
    np.testing.assert_array_equal(both.coefficients["viscosity"], table.coefficients["viscosity"])
    rollout = to_xarray(surrogate.rollout(again, 3))
    assert rollout.sizes == {"time": 3, "batch": 3, "channel": 1, "x": 32}
    np.testing.assert_allclose(rollout.time, [0.55, 0.6, 0.65])
    np.testing.assert_array_equal(rollout.isel(time=0).values, surrogate.step(start).u)
    one = surrogate.state(xarray.DataArray(U[0, 0, 0], dims="x"), viscosity=0.01)
    np.testing.assert_array_equal(
        surrogate.step(one).u[0], surrogate.step(surrogate.state(U[0, 0, 0], viscosity=0.01)).u
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.rename(x="position"), r"'x' and 'channel' are needed"),
        (lambda a: a.assign_coords(x=("x", 2 * a.x.values)), "The points lie 0.0625 apart"),
        (lambda a: a.assign_coords(x=("x", a.x.values**2)), "not equidistant"),
        (lambda a: a.assign_attrs(units="m/s"), "The unit of the field is 'm/s'"),
        (lambda a: a.assign_coords(channel=["v"]), r"the channels \['v'\]"),
        (lambda a: a.expand_dims(time=[0.0, 1.0]), "has 2 times; a state has one"),
    ],
)
def test_labels_that_say_otherwise_are_refused(surrogate, change, message):
    pytest.importorskip("xarray")
    labelled = surrogate.state(U[0, :1], viscosity=0.01).to_xarray()
    with pytest.raises(InputError, match=message):
        surrogate.state(change(labelled))


def test_a_comoving_surrogate_decodes_where_the_field_is(tmp_path):
    """Fields with a mean move in its frame; positions are those of the laboratory, and time 0 is where frames agree."""
    folders = write_models(tmp_path / "models")
    config = json.loads((folders["codec"] / "config.json").read_text())
    config["arguments"]["frame"] = "comoving"
    (folders["codec"] / "config.json").write_text(json.dumps(config))
    load_surrogate(**folders, metadata=TRAINED).save(tmp_path / "bundle")
    surrogate = ups.load(tmp_path / "bundle")
    # A mean of 20 cells per step, 12 once around: on the grid, and exact.
    still, moving = (surrogate.state(U[0] - U[0].mean(-1, keepdims=True) + mean, viscosity=0.01) for mean in (0, 12.5))
    for first, second, step in zip(surrogate.rollout(still, 3), surrogate.rollout(moving, 3), range(1, 4), strict=True):
        np.testing.assert_allclose(second.u, np.roll(first.u, 20 * step, -1) + 12.5, rtol=1e-4, atol=1e-4)
    latent = surrogate.encode(moving)
    on_grid = surrogate.decode(latent)
    np.testing.assert_allclose(surrogate.decode(latent, at=surrogate.x), on_grid, rtol=1e-5, atol=1e-4)
    assert np.abs(on_grid.mean() - 12.5) < 5


@pytest.mark.parametrize("device", ["gpu", "cuda:7"])
def test_a_device_that_is_not_there_is_named(tmp_path, device):
    with pytest.raises(InputError, match=rf"device '{device}' cannot be used here"):
        ups.load(write_bundle(tmp_path / "bundle"), device=device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_networks_may_be_elsewhere_than_the_fields(tmp_path):
    here, there = (ups.load(write_bundle(tmp_path / name), device=name) for name in ("cpu", "cuda"))
    on_cpu, on_gpu = (here.state(torch.from_numpy(U).to(name), viscosity=0.01) for name in ("cpu", "cuda"))
    for start in (on_cpu, on_gpu):
        (first, last), (_, expected) = (list(s.rollout(start, 2)) for s in (there, here))
        assert first.u.device == last.u.device == start.u.device
        torch.testing.assert_close(last.u.cpu(), expected.u.cpu(), rtol=1e-3, atol=1e-4)
        latent = there.encode(start)
        assert latent.tokens.device == there.decode(latent, at=[0.3]).device == start.u.device
    assert isinstance(there.step(here.state(U, viscosity=0.01)).u, np.ndarray)
    assert len(list(drawing(there, Noise(device="cuda")).sample(on_cpu, 1, members=2))) == 1
