import math

import pytest
import torch

from ups.evaluation.metrics import rmse
from ups.evaluation.spectra import BANDS, band_errors, power_spectrum


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("space", [(32,), (33,), (16, 12), (15, 9), (6, 8, 10)])
def test_parseval(space):
    """Every mode is counted once: a wrong weight of the Nyquist or zero mode shows here."""
    field = _noise(2, 3, 2, *space)
    total = power_spectrum(field).sum(-1)
    # Rounding of a few thousand float64 additions.
    torch.testing.assert_close(total, (field**2).flatten(3).mean(-1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("space", [(64,), (32, 32)])
def test_bands_add_up_to_the_error(space):
    prediction, target = _noise(2, 3, 1, *space), torch.zeros(2, 3, 1, *space, dtype=torch.float64)
    bands = band_errors(prediction, target)
    total = sum(error**2 for error in bands.values())
    torch.testing.assert_close(total.sqrt(), rmse(prediction, target), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("wave", "band"), [(0, "low"), (3, "low"), (4, "mid"), (11, "mid"), (12, "high"), (31, "high"), (32, "high")]
)
def test_each_wave_falls_into_its_band(wave, band):
    x = torch.arange(64, dtype=torch.float64) / 64
    field = torch.cos(2 * math.pi * wave * x).expand(1, 1, 1, 64)
    errors = band_errors(field, torch.zeros_like(field))
    expected = 1.0 if wave in (0, 32) else math.sqrt(0.5)
    for name in BANDS:
        assert float(errors[name]) == pytest.approx(expected if name == band else 0.0, abs=1e-12)


def test_a_diagonal_wave_counts_by_its_length():
    # |k| = |(3, 4)| = 5 exactly: shell 5, not 4.
    x, y = torch.meshgrid(*[torch.arange(16, dtype=torch.float64) / 16] * 2, indexing="ij")
    spectrum = power_spectrum(torch.cos(2 * math.pi * (3 * x + 4 * y))[None, None, None])
    assert float(spectrum[..., 5]) == pytest.approx(0.5)
    assert float(spectrum.sum()) == pytest.approx(0.5)
