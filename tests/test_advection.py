"""Linear advection against the shift theorem of the Fourier transform."""

import torch

from ups.data.advection import advect
from ups.data.initial_conditions import cell_centres, draw


def test_equals_a_fourier_shift_of_smooth_samples():
    initial = draw(seed=9, start=0, stop=60)
    initial = initial.select((~(initial.rectified | initial.windowed)).nonzero().squeeze(1))
    x, times = cell_centres(64), torch.linspace(0, 2, 9, dtype=torch.float64)
    u = advect(initial, x, times, velocity=0.37)
    modes = torch.fft.rfft(initial(x))  # wavenumbers up to 8 on 64 points: represented exactly
    wave = torch.fft.rfftfreq(64, 1 / 64, dtype=torch.float64)
    for frame, time in enumerate(times.tolist()):
        shifted = torch.fft.irfft(modes * torch.exp(-2j * torch.pi * wave * 0.37 * time), 64)
        # Rounding of phases up to 2 pi 8 * 0.74 and of the transforms.
        assert torch.allclose(u[:, frame], shifted, atol=1e-13, rtol=0)


def test_returns_after_one_period():
    initial = draw(seed=9, start=0, stop=100, extent=2.0)
    x = cell_centres(64, 2.0)
    u = advect(initial, x, torch.tensor([0.0, 0.5], dtype=torch.float64), velocity=-4.0)
    assert torch.allclose(u[:, 0], u[:, 1], atol=1e-12, rtol=0)
