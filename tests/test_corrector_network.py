"""Options of the correctors' network: each changes what it should, and nothing where it is off."""

import pytest
import torch
from planted_residual import DIM, fit, operator, planted, settings
from torch import nn

from ups.models.corrector import ResidualCorrector
from ups.models.token_mlp import Skip
from ups.models.weights import count_parameters
from ups.training.corrector import ResidualObjective
from ups.training.residuals import Residuals


def network(depth=3, **options) -> ResidualCorrector:
    torch.manual_seed(0)
    return ResidualCorrector(16, 96, depth, zero_init=False, shape=(8,), **options)


def run(model, tokens=8):
    generator = torch.Generator().manual_seed(1)
    return model(torch.randn(5, tokens, 16, generator=generator), torch.rand(5, generator=generator))


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ({"skip": True}, 0),
        ({"norm": True}, 2 * 2 * 96),  # two hidden layers, gain and offset each
        ({"dropout": 0.5}, 0),
        ({"mixing": 3}, 3 * 96 * 96 + 96 + 96 * 96 + 96),
    ],
)
def test_parameters_of_the_options(options, extra):
    assert count_parameters(network(**options)) == 12_592 + extra


def test_without_options_the_network_is_the_one_it_was():
    """File names of weights included: golden's corrector must load whatever options there are."""
    plain = network()
    assert [type(layer) for layer in plain.mlp] == [nn.Linear, nn.SiLU, nn.Linear, nn.SiLU, nn.Linear]
    off = network(skip=False, norm=False, dropout=0.0, mixing=1)
    assert list(plain.state_dict()) == list(off.state_dict())
    assert torch.equal(run(plain), run(off))


def test_skip_adds_the_input_of_hidden_layers():
    model = network(depth=4, skip=True)
    assert [isinstance(layer, Skip) for layer in model.mlp] == [False, False, True, True, False]
    skip, h = model.mlp[2], torch.randn(2, 3, 96)
    torch.testing.assert_close(skip(h) - h, nn.functional.silu(skip.linear(h)))
    plain = network(depth=4)
    with torch.no_grad():
        for layer in (*model.mlp[2:4], *plain.mlp[2:6]):
            for parameter in layer.parameters():
                parameter.zero_()
    # With dead hidden layers a skip still passes its input on; without, every token gets the same.
    assert run(model).std(dim=1).max() > 0.01
    assert run(plain).std(dim=1).max() < 1e-6


def test_norm_bounds_hidden_values_and_dropout_acts_in_training_only():
    huge = network(norm=True)
    with torch.no_grad():
        huge.mlp[0].weight.mul_(1000)
    assert run(huge).abs().max() < 20
    model = network(dropout=0.5)
    assert (run(model) - run(model)).abs().max() > 1e-3
    model.eval()
    assert torch.equal(run(model), run(model))
    assert torch.equal(run(model), run(network()))


def reach(model, tokens=8) -> list[int]:
    """Return the tokens that see a change of token 4."""
    z, tau = torch.randn(1, tokens, 16), torch.full((1,), 0.5)
    changed = z.clone()
    changed[:, 4] += 1
    return (model(changed, tau) - model(z, tau)).abs().amax((0, 2)).nonzero().flatten().tolist()


def test_mixing_reaches_the_neighbours_once_it_is_trained():
    assert reach(network()) == [4]
    model = network(mixing=3)
    assert reach(model) == [4]  # it starts as the network without
    nn.init.normal_(model.mlp[2].out.weight)
    assert reach(model) == [3, 4, 5]


def test_what_neighbours_tell_is_only_learnt_with_mixing(tmp_path):
    """The planted residual of a token is half of its left neighbour: a per-token network can explain nothing."""
    data = [Residuals(operator(), planted(64, seed)) for seed in (1, 2)]
    for part in data:
        part.residual = 0.5 * part.predicted.roll(1, dims=1)
    explained = {}
    for mixing in (1, 3):
        objective = ResidualObjective(*data, settings(mixing=mixing), None)
        torch.manual_seed(0)
        corrector = ResidualCorrector(DIM, 32, 3, zero_init=True, mixing=mixing, shape=data[0].shape)
        row = fit(corrector, objective, tmp_path, f"mixing{mixing}", updates=150, rate=5e-3).history.rows[-1]
        explained[mixing] = row["val_explained"]
    assert explained[1] < 0.1
    assert explained[3] > 0.7


class Halving(nn.Module):
    """A codec that shows the first channel of the tokens alone."""

    def decode(self, z):
        return z[..., :1].transpose(1, 2)


def test_the_decoded_loss_looks_at_what_tokens_decode_to():
    data = [Residuals(operator(), planted(8, seed)) for seed in (1, 2)]
    objective = ResidualObjective(*data, settings(losses={"spectral": 0.0, "relative": 0.0, "decoded": 0.5}), Halving())
    corrector = ResidualCorrector(DIM, 8, 2, zero_init=True)
    indices = torch.arange(6)
    terms = objective.loss(corrector, indices, None, torch.Generator().manual_seed(0))
    z_hat, residual = data[0].predicted[:6, :, 0], data[0].residual[:6, :, 0]
    expected = residual.square().mean(1) / (z_hat + residual).square().mean(1)
    assert terms["decoded"].weight == 0.5
    assert float(terms["decoded"].value) == pytest.approx(float(expected.mean()), rel=1e-5)
    terms["decoded"].value.backward()
    shown = corrector.mlp[-1].bias.grad
    assert shown[0] != 0
    assert not shown[1:].any()  # what is not decoded is not looked at
