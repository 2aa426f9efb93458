"""The splitting solver against the logistic curve, the heat equation, and an independent integration."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from ups.data.diffusion_reaction import solve_diffusion_reaction, unit_range
from ups.data.initial_conditions import cell_centres, draw

TIMES = torch.tensor([0.0, 0.1, 0.4], dtype=torch.float64)


def smooth(points=32):
    x = cell_centres(points)
    return (0.5 + 0.3 * torch.sin(2 * math.pi * x) + 0.15 * torch.cos(4 * math.pi * x))[None]


def independent(initial, diffusivity, rate, times):
    """The same grid, second derivatives by a dense Fourier matrix in physical space, and scipy's implicit Radau."""
    points = initial.shape[-1]
    wave = 2 * np.pi * np.fft.fftfreq(points, 1 / points)
    matrix = np.fft.ifft(-(wave[:, None] ** 2) * np.fft.fft(np.eye(points), axis=0), axis=0).real

    def tendency(_, u):
        return diffusivity * matrix @ u + rate * u * (1 - u)

    span = (0.0, float(times[-1]))
    found = solve_ivp(tendency, span, initial[0].numpy(), "Radau", times.numpy(), rtol=1e-10, atol=1e-12)
    return torch.from_numpy(found.y.T)[None]


def test_a_constant_follows_the_logistic_curve():
    initial = torch.tensor([[0.2], [0.9], [0.0], [1.0]], dtype=torch.float64).expand(-1, 16)
    found = solve_diffusion_reaction(initial, 0.5, 3.0, TIMES, 1.0, substeps=3)
    exact = 1 / (1 + torch.exp(-3.0 * TIMES)[None, :, None] * (1 - initial[:, None]) / initial[:, None])
    assert torch.allclose(found, exact, rtol=0, atol=1e-14)


def test_without_reaction_it_is_the_heat_equation():
    x = cell_centres(32, 2.0)
    initial = (1.0 + torch.sin(2 * math.pi * 3 * x / 2.0))[None]
    found = solve_diffusion_reaction(initial, 0.05, 0.0, TIMES, 2.0, substeps=2)
    decay = torch.exp(-0.05 * (2 * math.pi * 3 / 2.0) ** 2 * TIMES)
    exact = 1.0 + decay[None, :, None] * torch.sin(2 * math.pi * 3 * x / 2.0)
    assert torch.allclose(found, exact, rtol=0, atol=1e-14)


def test_second_order_against_an_independent_integration():
    initial, diffusivity, rate = smooth(), 0.02, 4.0
    exact = independent(initial, diffusivity, rate, TIMES)
    errors = [
        float((solve_diffusion_reaction(initial, diffusivity, rate, TIMES, 1.0, substeps) - exact).abs().max())
        for substeps in (2, 4, 8, 16)
    ]
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    # Both halves of every step are exact, so the slope is clean: 1.99 and above.
    assert min(orders) > 1.95, orders
    assert max(orders) < 2.1, orders


@pytest.mark.parametrize("rate", [1.0, 10.0])
def test_initial_conditions_and_what_becomes_of_them_stay_in_range(rate):
    initial = draw(seed=3, start=0, stop=64)(cell_centres(256))
    fields = unit_range(initial, initial)
    assert torch.equal(fields.amin(1), torch.zeros(64, dtype=torch.float64))
    assert torch.allclose(fields.amax(1), torch.ones(64, dtype=torch.float64))
    found = solve_diffusion_reaction(fields, 0.5, rate, TIMES, 1.0, substeps=16)
    # Truncated Fourier series of kinks and windows overshoot a little; the equation itself never leaves [0, 1].
    assert float(found.min()) > -1e-3
    assert float(found.max()) < 1 + 1e-3
