"""The wave equation: d'Alembert's solution against its Fourier series, finite differences, and what it conserves."""

import itertools
import math

import pytest
import torch

from ups.data.fields import FieldMetadata, Grid, Normalization
from ups.data.initial_conditions import cell_centres
from ups.data.quantities import QUANTITIES, change
from ups.data.wave import MEAN_VELOCITY, draw_strings, propagate

SPEED, EXTENT, POINTS = 0.7, 2.0, 48
TIMES = torch.linspace(0, 3, 7, dtype=torch.float64)


def metadata(points=POINTS):
    return FieldMetadata(
        equation="wave",
        channels=("u", "v"),
        units=("1", "1"),
        coefficients=("speed",),
        grid=Grid(extent=(EXTENT,), points=(points,), origin=(0.0,), periodic=(True,)),
        dt=0.5,
        normalization=Normalization(mean=(0.0, 0.0), std=(1.0, 1.0)),
    )


@pytest.fixture(scope="module")
def strings():
    return draw_strings(seed=5, start=0, stop=20, extent=EXTENT)


def test_equals_its_fourier_series(strings):
    exact = strings.at(cell_centres(POINTS, EXTENT), TIMES, SPEED)
    u, v = exact[:, :1].unbind(2)
    found = torch.stack(propagate(u, v, TIMES[None], torch.tensor(SPEED, dtype=torch.float64), EXTENT), dim=2)
    # Rounding of phases up to 2 pi * 4 * 3 and of the transforms.
    assert torch.allclose(found, exact, rtol=0, atol=1e-12)


def test_velocity_is_the_derivative_of_the_displacement(strings):
    x, step = cell_centres(POINTS, EXTENT), 1e-5
    around = strings.at(x, torch.tensor([1.0 - step, 1.0, 1.0 + step], dtype=torch.float64), SPEED)
    slope = (around[:, 2, 0] - around[:, 0, 0]) / (2 * step)
    assert torch.allclose(slope, around[:, 1, 1], rtol=0, atol=1e-7)


def leapfrog(strings, points):
    """Second-order finite differences, the error of u at t = 1 in the maximum norm."""
    x, dx = cell_centres(points, EXTENT), EXTENT / points
    steps = 4 * points
    dt = 1.0 / steps
    first = torch.tensor([0.0, 1.0], dtype=torch.float64)
    exact = strings.at(x, first, SPEED)

    def acceleration(u):
        return SPEED**2 * (u.roll(1, -1) - 2 * u + u.roll(-1, -1)) / dx**2

    u, v = exact[:, 0, 0], exact[:, 0, 1]
    half = v + dt / 2 * acceleration(u)
    for _ in range(steps):
        u = u + dt * half
        half = half + dt * acceleration(u)
    return float((u - exact[:, 1, 0]).abs().max())


def test_finite_differences_converge_to_it_with_order_two(strings):
    errors = [leapfrog(strings, points) for points in (32, 64, 128)]
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert all(1.9 < order < 2.1 for order in orders), orders


def test_conserves_energy_and_momentum_and_nothing_else(strings):
    fields = strings.at(cell_centres(POINTS, EXTENT), TIMES, SPEED)
    table = torch.full((len(fields), 1), SPEED, dtype=torch.float64)
    first = fields[:, :1].expand_as(fields)

    def largest(name):
        return float(change(QUANTITIES[name], fields, first, table, metadata()).abs().max())

    assert largest("energy") < 1e-10  # of energies up to 50
    assert largest("mean_velocity") < 1e-13
    assert largest("mean") > 0.1  # the mean of u grows with the mean of v: Burgers' law is not the wave's
    assert largest("square") > 0.1
    # By hand: u = sin(2 pi x / L), v = 2 has <v^2> = 4 and c^2 <u_x^2> = c^2 (2 pi / L)^2 / 2.
    u = torch.sin(2 * math.pi * cell_centres(POINTS, EXTENT) / EXTENT)
    energy = QUANTITIES["energy"].compute(torch.stack([u, torch.full_like(u, 2.0)])[None], table[:1], metadata())
    assert float(energy) == pytest.approx(0.5 * (4 + SPEED**2 * (2 * math.pi / EXTENT) ** 2 / 2), rel=1e-12)


def test_samples_depend_on_seed_and_number_alone():
    many, few = draw_strings(1, 0, 30, 1.0), draw_strings(1, 20, 23, 1.0)
    assert torch.equal(many.select([20, 21, 22]).phase, few.phase)
    assert not torch.equal(draw_strings(2, 20, 23, 1.0).phase, few.phase)
    assert float(many.momentum.abs().max()) <= MEAN_VELOCITY
    # u and v are never 0 everywhere, or nRMSE would have nothing to divide by.
    fields = many.at(cell_centres(32), torch.linspace(0, 2, 41, dtype=torch.float64), 0.5)
    assert float(fields.square().mean(-1).sqrt().min()) > 0.02
