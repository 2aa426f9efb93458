import json

import pytest
import torch
from example_fields import metadata

from ups.errors import ArtifactError, ParameterError
from ups.evaluation.protocols import forecast
from ups.models.fno import FourierOperator, fno_of_size
from ups.models.weights import count_parameters, load_model, save_model


@pytest.fixture(scope="module")
def model() -> FourierOperator:
    torch.manual_seed(0)
    return fno_of_size(20_000, modes=8, layers=2, metadata=metadata(points=(32,))).eval()


def _fields(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("target", [5_000, 20_000, 100_000])
def test_size_is_the_nearest_possible(target):
    meta = metadata(points=(64,))
    chosen = fno_of_size(target, modes=12, layers=3, metadata=meta)
    arguments = chosen.arguments
    sizes = {
        width: count_parameters(FourierOperator(**{**arguments, "width": width}))
        for width in (arguments["width"] - 1, arguments["width"], arguments["width"] + 1)
    }
    assert min(sizes, key=lambda width: abs(sizes[width] - target)) == arguments["width"]


def test_complex_weights_count_twice():
    # modes * width^2 complex numbers per layer are the bulk: 2 * 12 * 20^2 * 2 layers = 19,200 of the real ones.
    model = fno_of_size(30_000, modes=12, layers=2, metadata=metadata(points=(64,)))
    width = model.arguments["width"]
    spectral = sum(weight.numel() for weight in model.parameters() if weight.is_complex())
    assert spectral == 12 * width**2 * 2
    assert count_parameters(model) == spectral + sum(weight.numel() for weight in model.parameters())


def test_commutes_with_translations_of_a_periodic_grid(model):
    u, coefficients = _fields(3, 1, 32), torch.full((3, 1), 0.01)
    with torch.no_grad():
        moved = model(u.roll(7, -1), coefficients)
        # Float32 rounding of transforms of numbers of size 1.
        torch.testing.assert_close(moved, model(u, coefficients).roll(7, -1), atol=1e-5, rtol=0)


def test_open_axes_know_where_they_are():
    meta = metadata(points=(16,))
    meta = meta.model_copy(update={"grid": meta.grid.model_copy(update={"periodic": (False,)})})
    torch.manual_seed(0)
    open_model = fno_of_size(5_000, modes=4, layers=1, metadata=meta)
    u, coefficients = _fields(1, 1, 16), torch.zeros(1, 1)
    with torch.no_grad():
        moved = open_model(u.roll(3, -1), coefficients)
        assert (moved - open_model(u, coefficients).roll(3, -1)).abs().max() > 1e-3


def test_depends_on_the_coefficients(model):
    u = _fields(1, 1, 32)
    with torch.no_grad():
        low, high = (model(u, torch.full((1, 1), nu)) for nu in (0.001, 0.1))
    assert (low - high).abs().max() > 1e-3


def test_predicts_the_change(model):
    """With a network that answers zero the field stays as it is."""
    silent = FourierOperator(**model.arguments)
    with torch.no_grad():
        for weight in silent.network.projection.parameters():
            weight.zero_()
    u = _fields(2, 1, 32)
    torch.testing.assert_close(silent(u, torch.zeros(2, 1)), u, rtol=0, atol=0)


def test_works_in_the_plane():
    model = fno_of_size(20_000, modes=4, layers=2, metadata=metadata(points=(16, 12)))
    assert model(_fields(2, 1, 16, 12), torch.zeros(2, 1)).shape == (2, 1, 16, 12)


def test_forecast_steps_from_the_last_given_frame_in_physical_units(model):
    fields, coefficients = _fields(3, 12, 1, 32), torch.full((3, 1), 0.01)
    result = forecast(model.forecaster(metadata(points=(32,))), "pdebench", fields, coefficients)
    with torch.no_grad():
        u = fields[:, 2] / 0.5  # the mean is 0, the deviation .5
        for step in range(2):
            u = model(u, coefficients)
            torch.testing.assert_close(result.prediction[:, step], 0.5 * u)
    assert model.forecaster(metadata(points=(32,))).evaluations_per_step == 1


def test_loads_what_was_saved(model, tmp_path):
    save_model(tmp_path, model, model.arguments, "fingerprint")
    loaded = load_model(tmp_path, FourierOperator)
    u, coefficients = _fields(2, 1, 32), torch.full((2, 1), 0.01)
    with torch.no_grad():
        torch.testing.assert_close(loaded(u, coefficients), model(u, coefficients), rtol=0, atol=0)
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_refuses_another_kind(model, tmp_path):
    save_model(tmp_path, model, model.arguments, "fingerprint")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "class": "Codec"}))
    with pytest.raises(ArtifactError, match="describes a 'Codec', but a 'FourierOperator' was expected"):
        load_model(tmp_path, FourierOperator)


def test_more_modes_than_the_grid_has():
    with pytest.raises(ParameterError, match="2 to 17 frequencies"):
        fno_of_size(1_000, modes=18, layers=1, metadata=metadata(points=(32,)))
