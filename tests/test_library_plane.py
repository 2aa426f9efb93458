"""The library on fields with two channels and on a plane: shapes, any-point decoding, and what is refused."""

import numpy as np
import pytest
import torch

import ups
from ups.data.fields import FieldMetadata, Grid, Normalization, TrainingRange
from ups.errors import InputError
from ups.inference.surrogate import load_surrogate
from ups.models.codec import Codec
from ups.models.operator import LatentOperator
from ups.models.weights import save_model, save_skipped

PLANE = FieldMetadata(
    equation="navier_stokes",
    channels=("vorticity",),
    units=("1",),
    coefficients=("viscosity",),
    grid=Grid(extent=(1.0, 2.0), points=(16, 24), origin=(0.0, -1.0), periodic=(True, True)),
    dt=0.1,
    normalization=Normalization(mean=(0.1,), std=(2.0,)),
    training=TrainingRange(coefficients=((0.01, 0.02),), trajectories=8, frames=9),
)
LINE = PLANE.model_copy(
    update={
        "equation": "wave",
        "channels": ("u", "v"),
        "units": ("1", "1"),
        "coefficients": ("speed",),
        "grid": Grid(extent=(1.0,), points=(32,), origin=(0.0,), periodic=(True,)),
        "normalization": Normalization(mean=(0.0, 0.0), std=(1.0, 3.0)),
    }
)


@pytest.fixture
def load(tmp_path):
    def make(metadata, tokens):
        torch.manual_seed(0)
        points = metadata.grid.points if metadata.grid.rank > 1 else metadata.grid.points[0]
        codec = {
            "channels": len(metadata.channels),
            "points": points,
            "tokens": 24 if metadata.grid.rank > 1 else 8,
            "dim": 6,
            "encoder": {"hidden": 8, "depth": 1, "kernel": 3},
            "decoder": {"hidden": 8, "depth": 1, "neighbours": 3, "frequencies": 2},
        }
        backbone = {"name": "token_convolution", "hidden": 8, "blocks": 1, "kernel": 3}
        operator = {"tokens": tokens, "dim": 6, "num_coefficients": 1, "dt": 0.1, "backbone": backbone}
        for name, kind, arguments in (("codec", Codec, codec), ("operator", LatentOperator, operator)):
            (tmp_path / name).mkdir()
            save_model(tmp_path / name, kind(**arguments), arguments, "key")
        for name in ("corrector", "student"):
            (tmp_path / name).mkdir()
            save_skipped(tmp_path / name, "0 epochs")
        folders = {name: tmp_path / name for name in ("codec", "operator", "corrector", "student")}
        load_surrogate(**folders, metadata=metadata).save(tmp_path / "bundle")
        return ups.load(tmp_path / "bundle")

    return make


def test_a_bundle_of_a_plane_forecasts_states_of_a_plane(load):
    surrogate = load(PLANE, [4, 6])
    assert "16 x 24 points of [0, 1) x [-1, 1)" in repr(surrogate)
    u = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
    single = surrogate.state(u, viscosity=0.01)
    batch = surrogate.state(np.stack([u, 2 * u])[:, None], viscosity=[0.01, 0.02])
    assert (single.batch_shape, batch.batch_shape) == ((), (2,))
    first, alone = (next(surrogate.rollout(state, 2)) for state in (batch, single))
    assert (first.u.shape, alone.u.shape) == ((2, 1, 16, 24), (16, 24))
    assert np.allclose(first.u[0, 0], alone.u, atol=1e-5)
    assert first["vorticity"].shape == (2, 16, 24)
    assert first.finite.shape == (2,)


def test_any_point_of_a_plane(load):
    surrogate = load(PLANE, [4, 6])
    latent = surrogate.encode(surrogate.state(torch.randn(3, 1, 16, 24), viscosity=0.01))
    grid = PLANE.grid
    at = torch.cartesian_prod(grid.coordinates(0), grid.coordinates(1))
    field = surrogate.decode(latent)
    values = surrogate.decode(latent, at=at)
    assert torch.allclose(values.reshape(field.shape), field, atol=1e-4)
    assert torch.allclose(surrogate.decode(latent, at=at + torch.tensor([1.0, -2.0])), values, atol=1e-3)
    with pytest.raises(InputError, match=r"\(Q, 2\) of finite positions"):
        surrogate.decode(latent, at=[0.1, 0.2])


def test_what_a_plane_refuses(load):
    surrogate = load(PLANE, [4, 6])
    for wrong in (np.zeros((16, 23)), np.zeros((2, 16, 24)), np.zeros(24), np.zeros((0, 1, 16, 24))):
        with pytest.raises(InputError, match=r"\(\*batch, 1, 16, 24\) was expected"):
            surrogate.state(wrong, viscosity=0.01)
    with pytest.raises(InputError, match="NaN or Inf"):
        surrogate.state(np.full((16, 24), np.nan), viscosity=0.01)
    with pytest.raises(InputError, match="one axis of space"):
        surrogate.state(np.zeros((16, 24)), viscosity=0.01).to_xarray()


def test_two_fields_on_a_line(load, tmp_path):
    from ups.library.prediction import Request, predict

    surrogate = load(LINE, 8)
    state = surrogate.state(np.ones((5, 2, 32), np.float32), speed=0.01)
    (after,) = surrogate.rollout(state, 1)
    assert after.u.shape == (5, 2, 32)
    assert np.array_equal(after["v"], after.u[:, 1])
    with pytest.raises(InputError, match=r"u has shape \(32,\)|2 channels"):
        surrogate.state(np.ones(32), speed=0.01)
    with pytest.raises(InputError, match="flat layout, one field on a line; 'wave'"):
        predict(surrogate, tmp_path / "a.h5", tmp_path / "b.h5", Request())
