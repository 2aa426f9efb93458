"""The pseudo-spectral solver against the Taylor-Green vortex, itself with smaller steps, and what it conserves."""

import itertools
import math

import pytest
import torch

from ups.data.initial_conditions import cell_centres
from ups.data.navier_stokes import LARGEST_WAVE, RMS, draw_flows, solve_navier_stokes

EXTENT, VISCOSITY = 1.5, 2e-3


@pytest.fixture(scope="module")
def flows():
    x = cell_centres(32, EXTENT)
    return draw_flows(seed=4, start=0, stop=3, extent=EXTENT)(x, x)


def test_taylor_green_vortices_decay_exactly():
    """w = sin(k x) sin(k y): such a field does not advect itself, so only the decay exp(-2 nu k^2 t) is left."""
    x = cell_centres(32, EXTENT)
    k = 2 * math.pi * 2 / EXTENT
    initial = (3 * torch.sin(k * x)[:, None] * torch.sin(k * x))[None]
    times = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    found = solve_navier_stokes(initial, 0.05, times, EXTENT, substeps=10)
    exact = torch.exp(-2 * 0.05 * k**2 * times)[None, :, None, None] * initial[:, None]
    assert torch.allclose(found, exact, rtol=0, atol=1e-13)


def test_a_shear_flow_only_decays():
    x = cell_centres(32, EXTENT)
    shear = torch.cos(2 * math.pi * 3 * x / EXTENT).expand(1, 32, 32)  # a function of y alone
    times = torch.tensor([0.0, 0.5], dtype=torch.float64)
    found = solve_navier_stokes(shear, 0.01, times, EXTENT, substeps=5)
    decay = math.exp(-0.01 * (2 * math.pi * 3 / EXTENT) ** 2 * 0.5)
    assert torch.allclose(found[:, 1], decay * shear, rtol=0, atol=1e-13)


def test_fourth_order_in_time(flows):
    times = torch.tensor([0.0, 0.5], dtype=torch.float64)

    def at(substeps):
        return solve_navier_stokes(flows, VISCOSITY, times, EXTENT, substeps)[:, 1]

    finest = at(320)
    errors = [float((at(substeps) - finest).abs().max()) for substeps in (20, 40, 80)]
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert all(3.7 < order < 4.3 for order in orders), orders


def test_agrees_with_the_equation_in_physical_space(flows):
    """The time derivative of a short run against -v . grad w + nu laplace(w), with v from a dense Poisson solve.

    Signs and factors of the nonlinear term, which no vortex that only decays can show.
    """
    points, dt = 32, 1e-4
    times = torch.tensor([0.0, dt, 2 * dt], dtype=torch.float64)
    run = solve_navier_stokes(flows, VISCOSITY, times, EXTENT, substeps=1)
    rate = (run[:, 2] - run[:, 0]) / (2 * dt)
    w = run[:, 1]
    number = torch.fft.fftfreq(points, 1 / points, dtype=torch.float64)
    number[points // 2] = 0
    identity = torch.eye(points, dtype=torch.float64)
    slope = torch.fft.ifft(1j * 2 * math.pi / EXTENT * number[:, None] * torch.fft.fft(identity, dim=0), dim=0).real

    def dx(f):
        return torch.einsum("ij,bjk->bik", slope, f)

    def dy(f):
        return torch.einsum("ij,bkj->bki", slope, f)

    second = slope @ slope
    laplace = torch.kron(second, identity) + torch.kron(identity, second)
    stream = torch.linalg.lstsq(laplace, -w.flatten(1).T, driver="gelsd").solution.T.reshape(w.shape)
    u, v = dy(stream), -dx(stream)
    assert torch.allclose(dx(v) - dy(u), w, atol=1e-8)  # the vorticity of that velocity
    exact = -(u * dx(w) + v * dy(w)) + VISCOSITY * (dx(dx(w)) + dy(dy(w)))
    # Initial wavenumbers up to 6 give products up to 12, of which the solver keeps those below 32/3.
    assert float((rate - exact).abs().max()) < 2e-2 * float(exact.abs().max())


def test_mean_stays_and_enstrophy_falls(flows):
    times = torch.linspace(0, 1, 6, dtype=torch.float64)
    run = solve_navier_stokes(flows, VISCOSITY, times, EXTENT, substeps=20)
    assert float(run.mean((2, 3)).abs().max()) < 1e-14
    enstrophy = run.square().mean((2, 3))
    assert (enstrophy[:, 1:] < enstrophy[:, :-1]).all()
    # Without viscosity only the time step loses enstrophy, far less than that.
    ideal = solve_navier_stokes(flows, 0.0, times[:2], EXTENT, substeps=40).square().mean((2, 3))
    assert torch.allclose(ideal[:, 1], ideal[:, 0], rtol=1e-4)


def test_steps_that_are_too_long_are_refused(flows):
    with pytest.raises(ValueError, match="use substeps >="):
        solve_navier_stokes(flows, VISCOSITY, torch.tensor([0.0, 10.0]), EXTENT, substeps=2)


def test_initial_flows():
    x = cell_centres(64)
    flows = draw_flows(seed=9, start=0, stop=8, extent=1.0)
    fields = flows(x, x)
    assert torch.allclose(fields.square().mean((1, 2)).sqrt(), torch.tensor(RMS, dtype=torch.float64))
    assert float(fields.mean((1, 2)).abs().max()) < 1e-14
    spectrum = torch.fft.fft2(fields).abs()
    number = torch.fft.fftfreq(64, 1 / 64).abs()
    beyond = (number[:, None] ** 2 + number**2).sqrt() > LARGEST_WAVE + 1e-6
    assert float(spectrum[:, beyond].max()) < 1e-9
    few = draw_flows(seed=9, start=5, stop=6, extent=1.0)(x, x)
    assert torch.allclose(few[0], fields[5], atol=1e-12)
    coarse = cell_centres(16)
    assert torch.allclose(flows(coarse, coarse)[:, 0, 0], flows(coarse[:1], coarse[:1])[:, 0, 0])
