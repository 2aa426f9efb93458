import pytest
import torch
from example_fields import advected_sines, metadata

from ups.evaluation.baselines import exact_shift, persistence_initial, persistence_last, spatial_mean


def test_what_is_held():
    given = torch.arange(12.0).reshape(1, 3, 1, 4)
    coefficients = torch.zeros(1, 1)
    assert persistence_initial(given, 2, coefficients)[0, :, 0].tolist() == [[0, 1, 2, 3]] * 2
    assert persistence_last(given, 2, coefficients)[0, :, 0].tolist() == [[8, 9, 10, 11]] * 2
    assert spatial_mean(given, 2, coefficients)[0, :, 0].tolist() == [[9.5] * 4] * 2


def test_spatial_mean_is_per_channel_in_the_plane():
    given = torch.stack([torch.full((3, 5), 1.0), torch.full((3, 5), 7.0)])[None, None]
    assert spatial_mean(given, 1, torch.zeros(1, 1))[0, 0, :, 0, 0].tolist() == [1.0, 7.0]


@pytest.mark.parametrize("points", [32, 33])
def test_shift_solves_advection(points):
    data = advected_sines(points=points, frames=12)
    prediction = exact_shift(data.metadata)(data.fields[:, :2], 10, data.coefficients)
    # The fields are float32 of size 1.3; one mode is shifted without error.
    torch.testing.assert_close(prediction, data.fields[:, 2:], atol=2e-6, rtol=0)


def test_shift_belongs_to_advection():
    with pytest.raises(ValueError, match="solves 1-D periodic advection, not 'burgers'"):
        exact_shift(metadata("burgers"))
