"""The finite-volume solver: order of convergence, conservation, shocks, and independence of the batch."""

import math

import pytest
import torch
from exact_burgers import closed_form

from ups.data.burgers import solve_burgers
from ups.data.cole_hopf import cole_hopf
from ups.data.initial_conditions import cell_centres, draw

TIMES = torch.tensor([0.0, 0.2, 0.5], dtype=torch.float64)


def test_order_of_convergence():
    viscosity, mean = 0.05, 0.7
    errors, counts = [], [32, 64, 128, 256]
    for cells in counts:
        x = cell_centres(cells)
        u = solve_burgers(closed_form(x, 0.0, viscosity, mean)[None], viscosity, TIMES)[0, -1]
        errors.append(float((u - closed_form(x, 0.5, viscosity, mean)).square().mean().sqrt()))
    slope = -torch.tensor(errors).log2().diff().mean().item()
    # Third order where the limiter is inactive, second at the extrema it clips: in L2 between the two.
    assert 2.0 < slope < 3.5, (slope, errors)
    assert errors[-1] < 1e-5


def test_diffusion_alone_is_fourth_order():
    """At a tiny amplitude the advective flux, quadratic in it, vanishes."""
    amplitude, viscosity = 1e-7, 1.0
    errors = []
    for cells in (16, 32, 64):
        x = cell_centres(cells)
        u = solve_burgers(amplitude * torch.sin(2 * math.pi * x)[None], viscosity, [0.0, 0.05], courant=0.05)[0, -1]
        exact = amplitude * torch.sin(2 * math.pi * x) * math.exp(-viscosity / math.pi * (2 * math.pi) ** 2 * 0.05)
        errors.append(float((u - exact).abs().max()) / amplitude)
    slope = -torch.tensor(errors).log2().diff().mean().item()
    assert 3.6 < slope < 4.4, (slope, errors)


def test_the_integral_is_conserved():
    initial = draw(seed=2, start=0, stop=20)(cell_centres(128))
    u = solve_burgers(initial, 0.001, TIMES)
    # Each of about 500 steps adds rounding of the mean, 1e-16.
    assert (u.mean(dim=-1) - initial.mean(dim=-1, keepdim=True)).abs().max() < 1e-13


def test_inviscid_shock_moves_at_half_the_jump():
    """u = 1 left of a shock, 0 right of it: Rankine-Hugoniot speed 1/2, and the rarefaction x/t behind."""
    cells = 400
    x = cell_centres(cells)
    initial = ((x > 0.2) & (x < 0.5)).double()[None]
    u = solve_burgers(initial, 0.0, [0.0, 0.2])[0, -1]
    exact = torch.where((x > 0.2) & (x < 0.4), (x - 0.2) / 0.2, ((x >= 0.4) & (x < 0.6)).double())
    # Half a cell of smearing on either side of a jump of 1: L1 error of the order of dx.
    assert (u - exact).abs().mean() < 2 / cells
    # The averages stay within [0, 1]; turning them into point values overshoots a jump by up to 1/24 of it.
    assert u.min() > -1 / 24
    assert u.max() < 1 + 1 / 24


def test_viscosity_per_trajectory_and_batch_independence():
    initial = draw(seed=4, start=0, stop=3)(cell_centres(64))
    viscosity = torch.tensor([0.01, 0.1, 1.0], dtype=torch.float64)
    together = solve_burgers(initial, viscosity, TIMES)
    for row in range(3):
        alone = solve_burgers(initial[row : row + 1], float(viscosity[row]), TIMES)
        # The same operations in the same order: equal but for the last bits of vectorised instructions.
        assert torch.allclose(alone[0], together[row], atol=1e-13, rtol=0)


@pytest.mark.parametrize("cells", [64, 128, 256, 384])
def test_other_resolutions_return_the_given_grid(cells):
    initial = draw(seed=42, start=0, stop=8)
    x = cell_centres(128)
    u = solve_burgers(initial(x), 0.03, TIMES, cells=cells)
    assert u.shape == (8, 3, 128)
    exact = cole_hopf(initial, x, TIMES, 0.03)
    error = ((u - exact).square().mean(-1) / exact.square().mean(-1)).sqrt().mean(0)
    assert error[0] == 0
    # Third order in the coarser of the two grids: 64 cells do not resolve the fronts of width 0.02.
    assert error.max() < (2e-2 if cells == 64 else 1e-3)


def test_impossible_requests_are_refused():
    initial = torch.zeros(1, 64)
    with pytest.raises(ValueError, match="48 cells"):
        solve_burgers(initial, 0.01, TIMES, cells=48)
    with pytest.raises(ValueError, match="increase"):
        solve_burgers(initial, 0.01, [0.0, 0.2, 0.2])
