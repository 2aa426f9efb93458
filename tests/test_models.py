"""Codec, operator and corrector: structure that must hold for any weights."""

import pytest
import torch

from ups.errors import ParameterError
from ups.models.codec import Codec
from ups.models.corrector import ResidualCorrector
from ups.models.operator import LatentOperator
from ups.models.pde_transformer import PdeTransformer
from ups.models.weights import count_parameters

BACKBONE = {
    "name": "pde_transformer",
    "hidden": 24,
    "depths": (1, 1),
    "group": 12,
    "heads": 6,
    "mlp_ratio": 2.0,
    "dropout": 0.0,
    "stem": 3,
}


def codec(points: int = 64, tokens: int = 8, neighbours: int = 3) -> Codec:
    torch.manual_seed(0)
    model = Codec(
        channels=2,
        points=points,
        tokens=tokens,
        dim=6,
        encoder={"hidden": 10, "depth": 1, "kernel": 3},
        decoder={"hidden": 12, "depth": 2, "neighbours": neighbours, "frequencies": 3},
    )
    return randomized(model)


def randomized(model):
    """Move every parameter off its initial value: zero initialisations would hide mistakes."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("neighbours", [3, 5])
def test_decoding_on_the_grid_equals_decoding_at_its_points(neighbours):
    model = codec(neighbours=neighbours)
    z = torch.randn(3, 8, 6)
    centres = (torch.arange(64) + 0.5) / 64
    # Two orders of summation of about 36 products in float32.
    torch.testing.assert_close(model.decode(z), model.decode_at(z, centres), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(
        model.decode_at(z, centres), model.decode_at(z, centres.expand(3, -1)), atol=2e-5, rtol=1e-4
    )


def test_a_kept_grid_decodes_the_same_and_is_not_part_of_the_weights():
    model, z = codec(), torch.randn(3, 8, 6)
    state, decoded = set(model.state_dict()), model.decode(z)
    assert torch.equal(model.keep_grid().decode(z), decoded)
    assert set(model.state_dict()) == state
    assert model.double().decode(z.double()).dtype == torch.float64


def test_the_decoded_field_is_continuous_and_periodic():
    """Where the set of neighbouring tokens changes (at the edges between tokens) the window hides the change."""
    model = codec().double()
    z = torch.randn(1, 8, 6, dtype=torch.float64)
    edges = torch.arange(8, dtype=torch.float64) / 8
    left, right = model.decode_at(z, (edges - 1e-9).remainder(1.0)), model.decode_at(z, edges + 1e-9)
    jump = (left - right).abs().max()
    size = model.decode_at(z, torch.rand(200, dtype=torch.float64)).abs().max()
    assert jump < 1e-6 * size  # slopes are of order tokens * size; a jump would be of order size


def test_the_codec_commutes_with_shifts_by_whole_tokens():
    model = codec()
    u = torch.randn(2, 2, 64)
    shifted = model.encode(u.roll(8 * 3, dims=-1))
    torch.testing.assert_close(shifted, model.encode(u).roll(3, dims=1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.decode(shifted), model.decode(model.encode(u)).roll(24, -1), atol=1e-4, rtol=1e-3)


def test_tokens_that_do_not_divide_the_grid_are_refused():
    with pytest.raises(ParameterError, match=r"latent\.tokens = 7 must divide the 64"):
        codec(tokens=7)


def operator(depths=(1, 1)) -> LatentOperator:
    torch.manual_seed(0)
    return LatentOperator(tokens=8, dim=6, num_coefficients=1, dt=0.05, backbone={**BACKBONE, "depths": depths})


def test_an_untrained_operator_is_the_identity():
    z = torch.randn(3, 8, 6)
    assert torch.equal(operator()(z, torch.full((3, 1), 0.01)), z)


def test_the_condition_is_neutral_at_initialisation_and_acts_after_it():
    model = operator()
    torch.nn.init.normal_(model.network.head.weight)
    z, low, high = torch.randn(2, 8, 6), torch.full((2, 1), 0.001), torch.full((2, 1), 1.0)
    assert torch.equal(model(z, low), model(z, high))
    for module in model.modules():
        if hasattr(module, "modulation"):
            torch.nn.init.normal_(module.modulation.weight)
    assert (model(z, low) - model(z, high)).abs().max() > 1e-3


def test_the_operator_commutes_with_shifts_its_merging_allows():
    """Two levels merge pairs of tokens, so shifts by two tokens commute; attention itself knows no origin."""
    model, z, c = randomized(operator()), torch.randn(2, 8, 6), torch.full((2, 1), 0.01)
    torch.testing.assert_close(model(z.roll(2, 1), c), model(z, c).roll(2, 1), atol=1e-4, rtol=1e-4)
    flat = randomized(operator(depths=(2,)))
    torch.testing.assert_close(flat(z.roll(1, 1), c), flat(z, c).roll(1, 1), atol=1e-4, rtol=1e-4)


def test_samples_of_a_batch_do_not_see_each_other():
    model, z, c = randomized(operator()), torch.randn(4, 8, 6), torch.full((4, 1), 0.01)
    torch.testing.assert_close(model(z, c)[2:3], model(z[2:3], c[2:3]), atol=1e-5, rtol=1e-5)


def test_attention_heads_begin_as_a_local_stencil():
    network = PdeTransformer(32, 16, 2, 96, (1, 1, 1), 12, 6, 2.0, 0.0, 5)
    weights = network.down[0].blocks[0].attention.distance_bias.softmax(-1)
    away = torch.minimum(torch.arange(32), 32 - torch.arange(32))
    assert (weights[:, away <= 3].sum(-1) > 0.95).all()


@pytest.mark.parametrize(("depth", "count"), [(2, 3_280), (3, 12_592), (4, 21_904), (5, 31_216)])
def test_the_corrector_has_the_recipes_number_of_parameters(depth, count):
    assert count_parameters(ResidualCorrector(dim=16, hidden=96, depth=depth, zero_init=True)) == count


def test_zero_initialisation_corrects_nothing():
    z, tau = torch.randn(3, 8, 16), torch.rand(3)
    assert not ResidualCorrector(16, 96, 3, zero_init=True)(z, tau).any()
    assert ResidualCorrector(16, 96, 3, zero_init=False)(z, tau).any()
