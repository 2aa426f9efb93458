"""The Cole-Hopf evaluation against a closed form, against a spectral solver, and against itself in log space."""

import math

import numpy as np
import pytest
import torch
from exact_burgers import closed_form

from ups.data.burgers import evolve_averages
from ups.data.cells import values_at_coarse_centres
from ups.data.cole_hopf import cole_hopf
from ups.data.initial_conditions import cell_centres, draw


@pytest.mark.parametrize(("viscosity", "mean", "extent"), [(0.01, 0.3, 1.0), (0.1, -1.2, 1.0), (2.0, 0.0, 3.0)])
@pytest.mark.parametrize("log_space", [False, True])
def test_closed_form(viscosity, mean, extent, log_space):
    x, times = cell_centres(64, extent), torch.tensor([0.0, 0.05, 0.7, 2.0], dtype=torch.float64)

    def initial(position):
        return closed_form(torch.atleast_2d(position), 0.0, viscosity, mean, extent)

    u = cole_hopf(initial, x, times, viscosity, extent, log_space=log_space)[0]
    exact = torch.stack([closed_form(x, t, viscosity, mean, extent) for t in times.tolist()])
    # Rounding times |u| <= 25 (nu = 2) and the slope of the weights; the antiderivative's table errs by less (step^4).
    assert (u - exact).abs().max() < 1e-13 * max(1.0, viscosity * 20)


def spectral(u0, diffusivity, time, steps):
    """Integrating-factor Runge-Kutta 4 on Fourier modes with 2/3 de-aliasing: an independent solver for smooth data."""
    n = len(u0)
    k = 2 * np.pi * np.fft.rfftfreq(n, 1 / n)
    keep = np.arange(len(k)) < n / 3
    dt = time / steps
    half = np.exp(-diffusivity * k**2 * dt / 2)

    def tendency(v):
        return keep * (-0.5j * k * np.fft.rfft(np.fft.irfft(v, n) ** 2))

    v = np.fft.rfft(u0)
    for _ in range(steps):
        a = tendency(v)
        b = tendency(half * (v + dt / 2 * a))
        c = tendency(half * v + dt / 2 * b)
        d = tendency(half**2 * v + dt * half * c)
        v = half**2 * v + dt / 6 * (half**2 * a + 2 * half * (b + c) + d)
    return np.fft.irfft(v, n)


def test_random_samples_against_a_spectral_solver():
    initial = draw(seed=42, start=0, stop=40)
    smooth = (~(initial.rectified | initial.windowed)).nonzero().squeeze(1)[:3]
    initial = initial.select(smooth)
    x = torch.arange(512, dtype=torch.float64) / 512
    u = cole_hopf(initial, x, torch.tensor([0.25], dtype=torch.float64), viscosity=0.03)[:, 0]
    assert initial(x).mean(dim=1).abs().min() > 0.05  # the Galilean shift is part of what is tested
    for row in range(3):
        other = spectral(initial(x)[row].numpy(), 0.03 / math.pi, 0.25, 1500)
        # The spectral solver: mode 170 has decayed to exp(-pi^2 * 170 * 2D/u) < 1e-10, dt^4 error about 1e-10.
        assert np.abs(u[row].numpy() - other).max() < 1e-8


def test_kinks_and_windows_against_fine_finite_volumes():
    initial = draw(seed=42, start=0, stop=200)
    rows = torch.cat([initial.rectified.nonzero()[:2, 0], initial.windowed.nonzero()[:2, 0]])
    initial = initial.select(rows)
    times = torch.tensor([0.0, 0.08], dtype=torch.float64)
    *_, averages = evolve_averages(initial.cell_averages(1024), 0.02, times)
    other = values_at_coarse_centres(averages, 4)
    u = cole_hopf(initial, cell_centres(256), times, viscosity=0.02)[:, 1]
    error = (u - other).square().mean(dim=1).sqrt() / u.square().mean(dim=1).sqrt()
    # The finite volumes err by about 1e-4 at 1024 cells where the window's flank of 0.01 meets a front.
    assert error.max() < 2e-4


@pytest.mark.parametrize("viscosity", [0.001, 0.01])
def test_products_of_matrices_equal_log_space(viscosity):
    initial = draw(seed=5, start=0, stop=6)
    x, times = cell_centres(64), torch.tensor([0.05, 1.0, 2.0], dtype=torch.float64)
    fast = cole_hopf(initial, x, times, viscosity)
    slow = cole_hopf(initial, x, times, viscosity, log_space=True)
    # Exponents up to 1000 are rounded to 1e-13, and so are the weights.
    assert (fast - slow).abs().max() < 1e-11
    assert torch.isfinite(fast).all()


def test_sums_that_underflow_are_found():
    """At nu = 0.0002 some plain sums are below what float64 holds; those samples must come out of log space."""
    initial = draw(seed=5, start=0, stop=16)
    x, times = cell_centres(32), torch.tensor([0.5], dtype=torch.float64)
    fast = cole_hopf(initial, x, times, 0.0002, nodes=8192)
    slow = cole_hopf(initial, x, times, 0.0002, nodes=8192, log_space=True)
    # Exponents up to 5000 are rounded to 5e-13 and multiply slopes of about 1 / (front width).
    assert (fast - slow).abs().max() < 1e-10


def test_too_few_nodes_are_refused():
    initial = draw(seed=5, start=0, stop=6)
    with pytest.raises(ValueError, match="use nodes >="):
        cole_hopf(initial, cell_centres(64), torch.tensor([0.5], dtype=torch.float64), 1e-4, nodes=64)
