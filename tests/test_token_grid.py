"""Grids of tokens: patches, merged pairs and neighbours; models that commute with shifts on a plane as on a line."""

import pytest
import torch

from ups.errors import ParameterError
from ups.models.codec import Codec
from ups.models.operator import LatentOperator
from ups.models.token_grid import (
    from_grid,
    halved,
    merge_pairs,
    neighbour_offsets,
    shifted,
    split_pairs,
    to_grid,
    token_grid,
)
from ups.training.losses import spectral

ENCODER = {"hidden": 8, "depth": 1, "kernel": 3}
DECODER = {"hidden": 8, "depth": 2, "neighbours": 3, "frequencies": 2}
TRANSFORMER = {
    "name": "pde_transformer",
    "hidden": 24,
    "depths": [1, 1],
    "group": 12,
    "heads": 6,
    "mlp_ratio": 2.0,
    "dropout": 0.0,
    "stem": 3,
}
CONVOLUTION = {"name": "token_convolution", "hidden": 16, "blocks": 2, "kernel": 3}


def randomized(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def plane():
    return randomized(Codec(channels=2, points=[16, 24], tokens=24, dim=5, encoder=ENCODER, decoder=DECODER))


@pytest.mark.parametrize(
    ("points", "tokens", "shape"),
    [
        ((256,), 32, (32,)),
        ((64, 64), 64, (8, 8)),
        ((64, 64), 32, (4, 8)),
        ((16, 24), 24, (4, 6)),
        ((8, 8, 8), 8, (2, 2, 2)),
    ],
)
def test_patches_are_as_near_to_cubes_as_they_can_be(points, tokens, shape):
    assert token_grid(points, tokens) == shape


@pytest.mark.parametrize(("points", "tokens"), [((256,), 30), ((64, 64), 48), ((8, 8), 128)])
def test_what_cannot_be_divided_is_refused(points, tokens):
    with pytest.raises(ParameterError, match=f"latent.tokens = {tokens} must divide the"):
        token_grid(points, tokens)


def test_folding_merging_and_splitting_undo_each_other():
    tokens = torch.arange(2 * 24 * 3.0).reshape(2, 24, 3)
    shape = (4, 6)
    assert torch.equal(from_grid(to_grid(tokens, shape)), tokens)
    assert to_grid(tokens, shape)[1, 2, 3, 5] == tokens[1, 3 * 6 + 5, 2]
    merged = merge_pairs(tokens, shape)
    assert halved(shape) == (4, 3)
    # Token (1, 2) of the coarse grid holds the tokens (1, 4) and (1, 5) of the fine one.
    assert torch.equal(merged[0, 1 * 3 + 2], tokens[0, [10, 11]].flatten())
    assert torch.equal(split_pairs(merged, shape), tokens)
    line = tokens[:, :, :1]
    assert torch.equal(merge_pairs(line, (24,)), line.reshape(2, 12, 2))


def test_neighbours_are_found_across_the_boundary():
    tokens = torch.arange(12.0).reshape(1, 12, 1)
    assert neighbour_offsets(3, 1) == [(-1,), (0,), (1,)]
    assert neighbour_offsets(3, 2)[0] == (-1, -1)
    assert len(neighbour_offsets(3, 2)) == 9
    assert shifted(tokens, (-1, 1), (3, 4))[0, 0, 0] == 9  # left of row 0 is row 2; right of column 0 is column 1


def test_decoding_a_plane_at_its_grid_points_equals_decoding_its_grid():
    codec, u = plane(), torch.randn(3, 2, 16, 24)
    z = codec.encode(u)
    field = codec.decode(z)
    assert (z.shape, field.shape) == ((3, 24, 5), (3, 2, 16, 24))
    x = torch.cartesian_prod((torch.arange(16) + 0.5) / 16, (torch.arange(24) + 0.5) / 24)
    torch.testing.assert_close(codec.decode_at(z, x).unflatten(2, (16, 24)), field, atol=1e-5, rtol=1e-5)
    each = x.expand(3, -1, -1)
    torch.testing.assert_close(codec.decode_at(z, each).unflatten(2, (16, 24)), field, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(codec.keep_grid().decode(z), field)


def test_a_decoded_plane_is_continuous_where_the_neighbours_change():
    codec = plane()
    z = codec.encode(torch.randn(1, 2, 16, 24))
    # The edge between two tokens along the first axis (4 of them), and the corner of the domain.
    for place in ([0.25, 0.4], [0.0, 0.0]):
        around = torch.tensor([[(p + shift) % 1.0 for p in place] for shift in (-1e-5, 1e-5)])
        values = codec.decode_at(z, around).detach()
        assert float((values[..., 0] - values[..., 1]).abs().max()) < 1e-2 * float(values.abs().max())


def test_the_codec_commutes_with_shifts_by_whole_tokens():
    codec, u = plane(), torch.randn(2, 2, 16, 24)
    moved = codec.decode(codec.encode(u.roll((4, 8), (2, 3))))
    torch.testing.assert_close(moved, codec.decode(codec.encode(u)).roll((4, 8), (2, 3)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", [TRANSFORMER, CONVOLUTION], ids=lambda backbone: backbone["name"])
def test_operators_on_a_plane_commute_with_shifts(backbone):
    operator = randomized(LatentOperator(tokens=[4, 6], dim=5, num_coefficients=1, dt=0.1, backbone=backbone))
    z, coefficients = torch.randn(2, 24, 5), torch.ones(2, 1)

    def rolled(tokens, steps):
        return tokens.unflatten(1, (4, 6)).roll(steps, (1, 2)).flatten(1, 2)

    # Pairs are merged along the longer axis: by two tokens there, by any number along the other.
    for steps in ((1, 0), (3, 2)):
        moved = operator(rolled(z, steps), coefficients)
        torch.testing.assert_close(moved, rolled(operator(z, coefficients), steps), atol=1e-4, rtol=1e-4)
    # It is no network on a line that was folded: the transposed grid gives other numbers.
    turned = z.unflatten(1, (4, 6)).transpose(1, 2).flatten(1, 2)
    other = operator(turned, coefficients).unflatten(1, (6, 4)).transpose(1, 2).flatten(1, 2)
    assert float((other - operator(z, coefficients)).detach().abs().max()) > 1e-2


def test_too_many_levels_for_the_grid_are_refused():
    with pytest.raises(ParameterError, match="4 x 6 tokens, whose longest axis cannot be halved 3 times"):
        LatentOperator([4, 6], 5, 1, 0.1, {**TRANSFORMER, "depths": [1, 1, 1, 1]})


def test_the_spectral_loss_sees_both_axes():
    z = torch.randn(1, 24, 1)
    moved = z.unflatten(1, (4, 6)).roll((1, 2), (1, 2)).flatten(1, 2)
    assert float(spectral(moved, z, (4, 6))) < 1e-10  # a shift changes phases alone
    assert float(spectral(moved, z, (24,))) > 1e-3  # on a folded line it is no shift
