"""The Darcy solver against a manufactured solution and layered media; writer and reader of PDEBench's layout."""

import itertools
import math

import h5py
import numpy as np
import pytest

from ups.data.darcy import PERMEABILITY, draw_media, solve_darcy
from ups.data.darcy_layout import DarcyWriter
from ups.data.fields import Grid
from ups.data.readers import open_source
from ups.errors import DataError


def centres(points, extent=1.0):
    return (np.arange(points) + 0.5) * extent / points


def test_second_order_against_a_manufactured_solution():
    """u = sin(pi x) sin(2 pi y), a = 1 + x + y^2/2: f = -div(a grad u) by hand."""
    errors = []
    for points in (16, 32, 64):
        x, y = np.meshgrid(centres(points), centres(points), indexing="ij")
        u = np.sin(np.pi * x) * np.sin(2 * np.pi * y)
        u_x = np.pi * np.cos(np.pi * x) * np.sin(2 * np.pi * y)
        u_y = 2 * np.pi * np.sin(np.pi * x) * np.cos(2 * np.pi * y)
        a = 1 + x + y**2 / 2
        force = a * 5 * np.pi**2 * u - u_x - y * u_y
        errors.append(np.abs(solve_darcy(a, force) - u).max())
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert all(1.9 < order < 2.15 for order in orders), orders
    assert errors[-1] < 2e-3


def layered_column(low, high, points):
    """Exact -(a u')' = 1, u(0) = u(1) = 0, a = low for x < 1/2 and high beyond: parabolas with a common flux."""
    constant = (1 / (8 * low) + 3 / (8 * high)) / (1 / (2 * low) + 1 / (2 * high))  # flux a u' = constant - x
    x = centres(points)
    left = (constant * x - x**2 / 2) / low
    middle = (constant / 2 - 1 / 8) / low
    right = middle + (constant * (x - 0.5) - (x**2 - 0.25) / 2) / high
    return np.where(x < 0.5, left, right)


@pytest.mark.parametrize("axis", [0, 1])
def test_layers_give_the_exact_solution_of_one_dimension(axis):
    """A strip 1 wide and 8 long, layered across: in its middle the far walls are felt by exp(-4 pi), 3e-6, of u."""
    errors = []
    for points in (16, 32):
        layers = np.where(centres(points) < 0.5, 0.1, 1.0)
        strip, extent = np.repeat(layers[:, None], 65, axis=1), (1.0, 8.0)
        if axis == 1:
            strip, extent = strip.T, extent[::-1]
        middle = solve_darcy(strip, 1.0, extent).take(32, axis=1 - axis)
        errors.append(np.abs(middle - layered_column(0.1, 1.0, points)).max())
    # The jump lies on a face, where the harmonic mean is exact; what is left is the parabola's half cells at the walls.
    assert 3.5 < errors[0] / errors[1] < 4.5
    assert errors[1] < 2e-3


def test_energy_balance_of_a_drawn_medium():
    """What is produced leaves through the walls: the sum of the fluxes equals the force (divergence theorem)."""
    points = 32
    a = draw_media(seed=1, start=0, stop=1, points=points, extent=1.0)[0].numpy()
    u = solve_darcy(a, 2.0)
    dx = 1 / points
    out = sum((2 * a[edge] * u[edge] / dx * dx).sum() for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]))
    assert out == pytest.approx(2.0, rel=1e-10)
    assert (u > 0).all()


def test_media_have_two_values_and_depend_on_seed_and_number_alone():
    media = draw_media(seed=7, start=0, stop=12, points=24, extent=1.0)
    assert sorted(media.unique().tolist()) == list(PERMEABILITY)
    assert (media[3] == draw_media(7, 3, 4, 24, 1.0)[0]).all()
    share = (media == 1.0).double().mean((1, 2))
    assert ((share > 0.1) & (share < 0.9)).all()
    with pytest.raises(ValueError, match="positive"):
        solve_darcy(np.zeros((4, 4)), 1.0)


def write(path, samples=3, points=12, **changes):
    """As PDEBench writes it: float32, one attribute."""
    rng = np.random.default_rng(0)
    content = {
        "nu": rng.choice(PERMEABILITY, size=(samples, points, points)).astype(np.float32),
        "tensor": rng.random((samples, 1, points, points), dtype=np.float32),
        "x-coordinate": centres(points).astype(np.float32),
        "y-coordinate": centres(points).astype(np.float32),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file[name] = values
        file.attrs["beta"] = 0.1
    return content


def test_reads_what_pdebench_writes(tmp_path):
    content = write(tmp_path / "2D_DarcyFlow_beta0.1_Train.hdf5")
    with open_source(tmp_path / "2D_DarcyFlow_beta0.1_Train.hdf5") as source:
        (block,) = source.chunks(1, 3)
        assert (source.equation, source.coefficients, source.channels) == ("darcy", {"force": 0.1}, ("a", "u"))
        assert (source.num_samples, source.num_frames, source.dt) == (3, 1, 0.0)
        assert (source.grid.points, source.grid.extent, source.grid.periodic) == ((12, 12), (1.0, 1.0), (False, False))
    assert np.array_equal(block[:, 0, 0], content["nu"][1:])
    assert np.array_equal(block[:, 0, 1], content["tensor"][1:, 0])


def test_written_and_read_again(tmp_path):
    fields = np.random.default_rng(1).random((4, 1, 2, 9, 9), dtype=np.float32) + 0.1
    grid = Grid(extent=(2.0, 2.0), points=(9, 9), origin=(0.0, 0.0), periodic=(False, False))
    with DarcyWriter(tmp_path / "a.h5", {"force": 3.0}, 4, grid, {"seed": 1}) as writer:
        writer.write(0, fields[:3])
        writer.write(3, fields[3:])
    with open_source(tmp_path / "a.h5") as source:
        assert np.array_equal(np.concatenate(list(source.chunks(0, 4))), fields)
        assert (source.grid, source.coefficients) == (grid, {"force": 3.0})


def test_what_the_reader_refuses(tmp_path):
    path = tmp_path / "a.h5"

    def refuses(match, space_stride=1, **changes):
        write(path, **changes)
        with pytest.raises(DataError, match=match), open_source(path, space_stride) as source:
            list(source.chunks(0, source.num_samples))

    refuses("must be 1", space_stride=2)
    refuses(r"\(samples, 1, x, y\)", tensor=np.zeros((3, 12, 12), np.float32))
    refuses("a = 0.0 in sample 0", nu=np.zeros((3, 12, 12), np.float32))
    refuses("u = nan in sample 0", tensor=np.full((3, 1, 12, 12), np.nan, np.float32))
    refuses("`y-coordinate` with 12", **{"y-coordinate": np.zeros(4, np.float32)})
