"""Conditioning on coefficients: nothing at first, something after training, the same numbers for a single regime."""

import math

import pytest
import torch
from example_fields import advected_sines, metadata

from ups.errors import ParameterError
from ups.models.conditioning import CoefficientScale, conditioning_arguments
from ups.models.fno import FourierOperator, fno_of_size
from ups.models.operator import LatentOperator
from ups.models.weights import load_model, save_model

BACKBONES = {
    "pde_transformer": {
        "name": "pde_transformer",
        "hidden": 12,
        "depths": [1, 1],
        "group": 6,
        "heads": 2,
        "mlp_ratio": 2.0,
        "dropout": 0.0,
        "stem": 3,
    },
    "token_convolution": {"name": "token_convolution", "hidden": 8, "blocks": 2, "kernel": 3},
}
VISCOSITIES = torch.tensor([0.001, 0.01, 0.1, 0.001, 0.01, 0.1])[:, None]
TOLD = conditioning_arguments(True, VISCOSITIES, metadata())
BLIND = conditioning_arguments(False, VISCOSITIES, metadata())


def operator(name, **conditioning):
    torch.manual_seed(0)
    return LatentOperator(tokens=8, dim=6, num_coefficients=1, dt=0.05, backbone=BACKBONES[name], **conditioning)


def fno(**conditioning):
    torch.manual_seed(0)
    return FourierOperator(channels=1, num_coefficients=1, periodic=[True], modes=4, width=6, layers=2, **conditioning)


def wake(model):
    """Give weights that are zero at the start random values, all but those that modulate by the condition."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "modulation" not in name and "film.heads" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def trained(model, z, coefficients):
    """Take a few steps towards z, scaled by a factor of each row's own."""
    factor = coefficients.log()[:, :, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(8):
        optimizer.zero_grad()
        (model(z, coefficients) - z * factor).square().mean().backward()
        optimizer.step()
    return model.eval()


def spread(model, z):
    """Return the largest difference that the viscosity makes to the same input."""
    with torch.no_grad():
        results = [model(z, torch.full((len(z), 1), viscosity)) for viscosity in (0.001, 0.004, 0.1)]
    return max(float((result - results[0]).abs().max()) for result in results[1:])


# --- what the network is shown -----------------------------------------------------------------------------------


def test_coefficients_are_standardised_logarithms_of_the_training_split():
    shown = CoefficientScale(**TOLD["conditioning"])(VISCOSITIES[:3])[:, 0]
    # log 0.001, log 0.01, log 0.1 are equally far apart: -x, 0, x with mean square 1.
    x = math.sqrt(3 / 2)
    assert shown.tolist() == pytest.approx([-x, 0.0, x], abs=1e-5)
    assert TOLD["conditioning"]["logarithmic"] == [True]
    # One decade further is as much further, in logarithms, and not in numbers.
    assert float(CoefficientScale(**TOLD["conditioning"])(torch.tensor([[1.0]]))) == pytest.approx(2 * x, abs=1e-5)


def test_a_coefficient_of_either_sign_is_not_taken_as_its_logarithm():
    data = advected_sines()  # velocities 0.5, 0.75, 1, 1.25
    scale = CoefficientScale(**conditioning_arguments(True, data.coefficients, data.metadata)["conditioning"])
    shown = scale(torch.tensor([[0.5], [0.875], [1.25], [-0.5]]))[:, 0]
    assert float(shown[1]) == pytest.approx(0.0, abs=1e-6)
    assert float(shown[0] - shown[1]) == pytest.approx(float(shown[1] - shown[2]))
    assert bool(torch.isfinite(shown).all())


def test_a_coefficient_that_does_not_vary_is_zero():
    table = torch.tensor([[0.5, 1.0], [1.0, 1.0]])  # diffusivity and reaction rate
    arguments = conditioning_arguments(True, table, metadata("diffusion_reaction"))["conditioning"]
    assert arguments["std"][1] == 1.0
    assert CoefficientScale(**arguments)(table)[:, 1].tolist() == [0.0, 0.0]


def test_a_single_regime_has_nothing_to_tell():
    for told in (True, False):
        assert conditioning_arguments(told, torch.full((4, 1), 0.01), metadata()) == {}


def test_a_viscosity_of_zero_has_no_logarithm():
    with pytest.raises(ParameterError, match=r"viscosity = 0 in the training split"):
        conditioning_arguments(True, torch.tensor([[0.0], [0.1]]), metadata())


# --- what the network makes of it --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(BACKBONES))
def test_the_modulation_is_exactly_neutral_at_initialisation(name):
    """All other weights random, so that the network's output is not zero by itself."""
    z = torch.randn(3, 8, 6)
    model = wake(operator(name, **TOLD)).eval()
    with torch.no_grad():
        assert float((model(z, VISCOSITIES[:3]) - z).abs().max()) > 0.01
    assert spread(model, z) == 0.0


@pytest.mark.parametrize("name", list(BACKBONES))
def test_conditioning_changes_the_forecast_after_a_few_steps(name):
    z = torch.randn(6, 8, 6)
    assert spread(trained(operator(name, **TOLD), z, VISCOSITIES), z) > 1e-3
    # The same network without it: same size, same initial weights, and blind to the last bit after the same training.
    blind = operator(name, **BLIND)
    told = operator(name, **TOLD)
    assert all(torch.equal(a, b) for a, b in zip(told.parameters(), blind.parameters(), strict=True))
    assert spread(trained(blind, z, VISCOSITIES), z) == 0.0


def test_every_block_of_the_token_convolution_is_modulated():
    z = torch.randn(2, 8, 6)
    for block in range(2):
        model = wake(operator("token_convolution", **TOLD)).eval()
        torch.nn.init.normal_(model.network.film.heads[block].weight)
        assert spread(model, z) > 1e-3


@pytest.mark.parametrize("name", list(BACKBONES))
def test_a_single_regime_keeps_its_network(name):
    """The names of its weights, their random numbers, and its numbers: what committed results were made with."""
    plain = operator(name)
    assert not any("film" in key or "scale" in key for key in plain.state_dict())
    z, coefficients = torch.randn(2, 8, 6), torch.tensor([[0.01], [0.02]])
    condition = torch.log1p(torch.cat([torch.full_like(coefficients, 0.05), coefficients], dim=1) / 1e-3) / 5
    with torch.no_grad():
        expected = z + wake(plain).network(z, condition)
        assert torch.equal(plain(z, coefficients), expected)


@pytest.mark.parametrize("name", list(BACKBONES))
def test_weights_and_scale_come_back_from_disk(name, tmp_path):
    arguments = {
        "tokens": 8,
        "dim": 6,
        "num_coefficients": 1,
        "dt": 0.05,
        "backbone": BACKBONES[name],
        **TOLD,
    }
    z = torch.randn(6, 8, 6)
    model = trained(operator(name, **TOLD), z, VISCOSITIES)
    save_model(tmp_path, model, arguments, "key")
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path, LatentOperator)(z, VISCOSITIES), model(z, VISCOSITIES))


# --- the baseline ------------------------------------------------------------------------------------------------


def test_the_fno_sees_the_same_numbers_and_can_be_blind_to_them():
    u = torch.randn(3, 1, 16)
    told, blind = fno(**TOLD).eval(), fno(**BLIND).eval()
    context = told._context(u, VISCOSITIES[:3])[0]
    expected = CoefficientScale(**TOLD["conditioning"])(VISCOSITIES[:3])
    assert torch.equal(context, expected[..., None].expand(-1, -1, 16))
    assert spread(told, u) > 1e-3
    assert spread(blind, u) == 0.0
    assert all(torch.equal(a, b) for a, b in zip(told.parameters(), blind.parameters(), strict=True))
    assert "conditioning" not in fno().arguments
    assert told.arguments["conditioning"] == TOLD["conditioning"]


def test_an_fno_of_a_size_is_conditioned():
    assert fno_of_size(4000, 4, 2, metadata(points=(16,)), **TOLD).scale is not None
