"""Encoders and decoders of any points: what must hold for any weights, and what training makes of them."""

import functools

import pytest
import torch

from ups.data.reference_frame import Observed
from ups.errors import DataError, ParameterError
from ups.models import global_decoder
from ups.models.codec import Codec, GridEncoder, LocalDecoder
from ups.models.global_decoder import GlobalDecoder
from ups.models.point_encoder import PointEncoder
from ups.models.token_grid import from_patches, patches
from ups.parameters.files import BASE, read_yaml
from ups.parameters.overlay import complete, merge
from ups.parameters.schema import Parameters
from ups.parameters.train_codec import InverseLosses
from ups.training.codec import CodecObjective
from ups.training.loop import Progress

GRID = {"name": "grid", "hidden": 16, "depth": 1, "kernel": 3}
POINTS = {"name": "points", "hidden": 16, "depth": 1, "kernel": 3, "neighbours": 3, "frequencies": 4}
LOCAL = {"name": "local", "hidden": 16, "depth": 1, "neighbours": 3, "frequencies": 3}
GLOBAL = {"name": "global", "hidden": 16, "depth": 2, "heads": 4, "frequencies": 6}


def codec(points=64, tokens=8, encoder=GRID, decoder=LOCAL, channels=1, dim=8) -> Codec:
    torch.manual_seed(0)
    return Codec(channels, points, tokens, dim, encoder, decoder)


def randomized(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False).double()


def wave(x: torch.Tensor, rows: int = 3) -> torch.Tensor:
    """Fields of a few long waves at positions (Q,) or (B, Q): (rows, 1, Q)."""
    amplitude = torch.randn(rows, 4, generator=torch.Generator().manual_seed(1)).to(x.dtype)
    shapes = torch.stack([torch.sin(2 * torch.pi * (k * x + 0.1 * k)) for k in range(1, 5)])
    equation = "rk,kq->rq" if x.ndim == 1 else "rk,krq->rq"
    return torch.einsum(equation, amplitude, shapes)[:, None]


def centres(count: int, dtype=torch.float64) -> torch.Tensor:
    return (torch.arange(count, dtype=dtype) + 0.5) / count


def test_names_select_the_classes_and_no_name_means_what_there_was_before():
    chosen = codec(encoder=POINTS, decoder=GLOBAL)
    assert (type(chosen.encoder), type(chosen.decoder)) == (PointEncoder, GlobalDecoder)
    old = codec(encoder={k: v for k, v in GRID.items() if k != "name"}, decoder=dict(list(LOCAL.items())[1:]))
    assert (type(old.encoder), type(old.decoder)) == (GridEncoder, LocalDecoder)
    assert set(old.state_dict()) == set(codec().state_dict())


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("decoder", {**GLOBAL, "heads": 3}, r"heads = 3 must divide hidden = 16"),
        ("decoder", {**GLOBAL, "neighbours": 3}, r"Unknown parameter 'train_codec\.decoder\.neighbours'"),
        ("encoder", {**POINTS, "kernel": 2}, r"encoder\.kernel = 2 must be odd"),
        ("encoder", {**POINTS, "name": "point"}, r"'train_codec\.encoder'.*'grid'.*'points'"),
    ],
)
def test_bad_parts_are_explained(part, content, message):
    with pytest.raises(ParameterError, match=message):
        complete(merge(read_yaml(BASE), {"train_codec": {part: content}}, [Parameters]))


# --- the global decoder


@pytest.mark.parametrize(("points", "tokens"), [(64, 8), ([16, 24], 24)])
def test_the_global_decoder_on_the_grid_equals_itself_at_its_points(points, tokens):
    model = randomized(codec(points, tokens, decoder=GLOBAL, channels=2))
    z = torch.randn(3, tokens, 8, dtype=torch.float64)
    lines = [centres(count) for count in model.points]
    x = lines[0] if len(lines) == 1 else torch.cartesian_prod(*lines)
    field = model.decode(z)
    assert field.shape == (3, 2, *model.points)
    torch.testing.assert_close(model.decode_at(z, x).unflatten(2, model.points), field)
    torch.testing.assert_close(model.decode_at(z, x.expand(3, *x.shape)).unflatten(2, model.points), field)
    state = set(model.state_dict())
    torch.testing.assert_close(model.keep_grid().decode(z), field)
    assert set(model.state_dict()) == state


def test_the_globally_decoded_field_is_periodic_and_continuous():
    model = randomized(codec(decoder=GLOBAL))
    z = torch.randn(1, 8, 8, dtype=torch.float64)
    edges = torch.arange(8, dtype=torch.float64) / 8
    left, right = model.decode_at(z, (edges - 1e-9).remainder(1.0)), model.decode_at(z, edges + 1e-9)
    assert float((left - right).abs().max()) < 1e-6 * float(model.decode_at(z, torch.rand(99).double()).abs().max())


def test_a_token_reaches_every_point_through_the_global_decoder_and_only_near_ones_through_the_local_one():
    """Local: a point reads 3 tokens, so one token reaches 3/8 of the domain."""
    changed = {}
    for name, decoder in (("local", LOCAL), ("global", GLOBAL)):
        model = randomized(codec(decoder=decoder))
        z = torch.randn(1, 8, 8, dtype=torch.float64)
        moved = z.clone()
        moved[:, 3] += 1.0
        changed[name] = float(((model.decode(moved) - model.decode(z)).abs() > 1e-12).double().mean())
    assert changed == {"local": 3 / 8, "global": 1.0}


def test_decoding_in_parts_changes_nothing(monkeypatch):
    model, z = randomized(codec(decoder=GLOBAL)), torch.randn(5, 8, 8, dtype=torch.float64)
    whole = model.decode(z)
    monkeypatch.setattr(global_decoder, "_MOST_VALUES", 2 * 64 * 16)
    with torch.no_grad():
        torch.testing.assert_close(model.decode(z), whole)


# --- the encoder of points


def test_the_order_of_the_points_does_not_matter():
    model = randomized(codec(encoder=POINTS))
    x = torch.rand(200, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    u = wave(x)
    z = model.encode_at(u, x)
    torch.testing.assert_close(model.encode_at(u[..., order], x[order]), z, atol=1e-12, rtol=0)
    assert float((model.encode_at(u[..., order], x) - z).abs().max()) > 1e-2  # values at other points are another field


@pytest.mark.parametrize(("points", "tokens"), [(64, 8), ([16, 24], 24), ([8, 8, 8], 27)])
def test_the_grid_is_a_cloud_of_its_points(points, tokens):
    points = [9, 9, 9] if tokens == 27 else points
    model = randomized(codec(points, tokens, encoder=POINTS, channels=2))
    u = torch.randn(2, 2, *model.points, dtype=torch.float64)
    lines = [centres(count) for count in model.points]
    x = lines[0] if len(lines) == 1 else torch.cartesian_prod(*lines)
    torch.testing.assert_close(model.encode_at(u.flatten(2), x), model.encode(u))
    each = x.expand(2, *x.shape)
    torch.testing.assert_close(model.encode_at(u.flatten(2), each), model.encode(u))


def test_tokens_do_not_depend_on_the_grid():
    """A quadrature with a smooth window: of second order at least, and no jump where tokens do not divide the grid."""
    model = randomized(codec(encoder=POINTS))
    exact = model.encode(wave(centres(4096)))
    error = {n: float((model.encode(wave(centres(n))) - exact).abs().max()) for n in (32, 64, 128, 100)}
    assert error[64] < error[32] / 3.5
    assert error[128] < error[64] / 3.5
    assert error[128] < error[100] < error[64]
    grid_only = randomized(codec())
    with pytest.raises(RuntimeError):
        grid_only.encode(wave(centres(128)))


def test_a_mesh_of_uneven_cells_gives_the_grids_tokens_by_its_volumes():
    """x = s + .06 sin(2 pi s): cells from .62 to 1.38 of the mean."""
    model = randomized(codec(encoder=POINTS))
    exact = model.encode(wave(centres(4096)))
    s = centres(512)
    x = (s + 0.06 * torch.sin(2 * torch.pi * s)).remainder(1.0)
    volumes = 1 + 0.06 * 2 * torch.pi * torch.cos(2 * torch.pi * s)
    with_volumes, without = model.encode_at(wave(x), x, volumes), model.encode_at(wave(x), x)
    assert float((with_volumes - exact).abs().max()) < 1e-3
    assert float((without - exact).abs().max()) > 1e-2
    torch.testing.assert_close(model.encode_at(wave(x), x, 7 * volumes), with_volumes)


def test_every_sample_may_have_points_of_its_own():
    model = randomized(codec(encoder=POINTS))
    x = torch.rand(3, 150, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    u = wave(x)
    z = model.encode_at(u, x)
    for row in range(3):
        torch.testing.assert_close(z[row : row + 1], model.encode_at(u[row : row + 1], x[row]))


def test_the_encoder_of_points_commutes_with_shifts_by_whole_tokens():
    model, u = randomized(codec(encoder=POINTS)), torch.randn(2, 1, 64, dtype=torch.float64)
    torch.testing.assert_close(model.encode(u.roll(24, -1)), model.encode(u).roll(3, 1))


def test_what_cannot_be_encoded_is_refused():
    model = randomized(codec(encoder=POINTS))
    half = 0.4 * torch.rand(100, dtype=torch.float64)
    with pytest.raises(DataError, match=r"of 24 tokens have no point within their window: 100 points are too few"):
        model.encode_at(wave(half), half)
    with pytest.raises(ParameterError, match=r"takes fields on its grid alone.*train_codec\.encoder\.name: points"):
        randomized(codec()).encode_at(wave(half), half)
    with pytest.raises(ParameterError, match=r"train_codec\.encoder\.neighbours = 4 must be odd"):
        codec(encoder={**POINTS, "neighbours": 4})


# --- trained


def fields(x: torch.Tensor, rows: int, seed: int) -> torch.Tensor:
    """Sums of waves 1..4 with random amplitudes and phases, at positions (Q,): (rows, 1, Q)."""
    generator = torch.Generator().manual_seed(seed)
    amplitude = torch.rand(rows, 4, 1, generator=generator)
    phase = 2 * torch.pi * torch.rand(rows, 4, 1, generator=generator)
    k = torch.arange(1, 5)[:, None]
    return (amplitude * torch.sin(2 * torch.pi * k * x + phase)).sum(1)[:, None]


@functools.cache
def trained(encoder: str, decoder: str) -> tuple[Codec, float]:
    """Return a codec after 300 updates of 32 fields, and its reconstruction nRMSE on others."""
    x = centres(64, torch.float32)
    splits = [Observed(fields(x, rows, seed)[:, None], torch.zeros(rows, 1, 1)) for rows, seed in ((256, 5), (64, 6))]
    inverse = InverseLosses(
        weight=0.0, max_weight=0.0, warmup_epochs=0, ramp="linear", num_queries=9, query_sampling="uniform", frequency=1
    )
    objective = CodecObjective(*splits, inverse)
    parts = {"grid": GRID, "points": POINTS, "local": LOCAL, "global": GLOBAL}
    model = codec(encoder=parts[encoder], decoder=parts[decoder])
    optimizer = torch.optim.Adam(model.parameters(), 6e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    generator = torch.Generator().manual_seed(7)
    for update in range(300):
        optimizer.zero_grad()
        chosen = torch.randint(256, (32,), generator=generator)
        objective.loss(model, chosen, Progress(update, 0, 300), generator)["reconstruction"].value.backward()
        optimizer.step()
        schedule.step()
    model.eval().requires_grad_(False)
    return model, objective.validate(model)["val_loss"]


def test_at_equal_training_the_global_decoder_learns_and_loses_most_accuracy_to_the_local_one():
    local, whole = trained("grid", "local")[1], trained("grid", "global")[1]
    assert whole < 0.6  # zero scores 1
    assert local < 0.3 * whole  # science.md: it loses 70 % of the accuracy


def test_a_trained_encoder_of_points_takes_points_it_was_not_trained_on():
    model, error = trained("points", "local")
    assert error < 0.1
    x = torch.rand(1000, generator=torch.Generator().manual_seed(8))
    truth = fields(centres(64, torch.float32), 64, 6)
    decoded = model.decode(model.encode_at(fields(x, 64, 6), x))
    scattered = float(((decoded - truth).square().mean((1, 2)) / truth.square().mean((1, 2))).sqrt().mean())
    assert scattered < 0.3  # 1,000 random points: a Monte-Carlo quadrature of about 125 points per token
    finer = model.decode(model.encode(fields(centres(256, torch.float32), 64, 6)))
    on_finer = float(((finer - truth).square().mean((1, 2)) / truth.square().mean((1, 2))).sqrt().mean())
    assert on_finer < 2 * error + 0.02


def test_patches_undo_each_other():
    u = torch.arange(2 * 3 * 8 * 6.0).reshape(2, 3, 8, 6)
    cut = patches(u, (4, 2))
    assert cut.shape == (2, 8, 3 * 6)
    assert torch.equal(cut[0, 1], u[0, :, :2, 3:].flatten())
    assert torch.equal(from_patches(cut.unflatten(-1, (3, -1)).transpose(1, 2), (4, 2), (8, 6)), u)
