"""The comoving frame: exact shifts, an exact mean, and the symmetry of Burgers' equation itself."""

import math
from dataclasses import replace

import pytest
import torch
from example_fields import metadata

from ups.data.initial_conditions import InitialConditions, cell_centres
from ups.data.reference_frame import ReferenceFrame, shift
from ups.data.simulation import Simulation
from ups.errors import ParameterError


def burgers(points: int = 64):
    return metadata("burgers", (points,))


def waves(points: int, dtype=torch.float64) -> torch.Tensor:
    """Band-limited fields of three trajectories, (3, points), and their mean flow .3, 0, -.8."""
    x = cell_centres(points, 1.0).to(dtype)
    modes = [0.3 + (2 * math.pi * x).sin(), (6 * math.pi * x + 1).cos(), -0.8 + (10 * math.pi * x).sin()]
    return torch.stack(modes)


@pytest.mark.parametrize("points", [64, 63])
def test_a_shift_evaluates_the_field_elsewhere(points):
    x, distance = cell_centres(points, 1.0), torch.tensor([0.123, -0.77, 5.3], dtype=torch.float64)
    at = x + distance[:, None]
    exact = torch.stack(
        [0.3 + (2 * math.pi * at[0]).sin(), (6 * math.pi * at[1] + 1).cos(), -0.8 + (10 * math.pi * at[2]).sin()]
    )
    torch.testing.assert_close(shift(waves(points), distance), exact, atol=1e-12, rtol=0)


@pytest.mark.parametrize("points", [64, 63])
def test_a_shift_by_whole_cells_is_a_roll_of_any_field_the_highest_wave_included(points):
    u = torch.randn(5, points, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cells = torch.tensor([0, 1, -1, 17, 3 * points + 2])
    rolled = torch.stack([row.roll(-int(k)) for row, k in zip(u, cells, strict=True)])
    torch.testing.assert_close(shift(u, cells.double() / points), rolled, atol=1e-12, rtol=0)


def test_the_highest_wave_is_shifted_as_a_cosine():
    highest = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(32)
    moved = shift(highest, torch.tensor(0.25 / 64, dtype=torch.float64))
    torch.testing.assert_close(moved, highest * math.cos(math.pi / 4), atol=1e-12, rtol=0)


def test_a_shift_keeps_the_type_and_does_not_lose_digits_far_from_the_start():
    u = waves(256, torch.float32)
    far = shift(u, torch.tensor([1000.123, 1000.123, 1000.123], dtype=torch.float64))
    assert far.dtype == torch.float32
    # 1000 periods further, only the rounding of float32 transforms is left; float32 phases would be off by 1e-2.
    torch.testing.assert_close(far, shift(u, torch.full((3,), 0.123, dtype=torch.float64)), atol=2e-6, rtol=0)


def test_at_rest_it_is_the_normalisation():
    meta = burgers()
    fields = torch.randn(4, 3, 1, 64)
    observer = ReferenceFrame("laboratory", meta).observer(fields[:, 0])
    mean, std = meta.normalization.mean[0], meta.normalization.std[0]
    assert torch.equal(observer.see(fields), (fields - mean) / std)
    assert torch.equal(observer.restore(fields, first=7), fields * std + mean)


def test_a_flow_that_only_drifts_stands_still_for_the_comoving_observer():
    meta, u = burgers(), waves(64)
    times = torch.arange(6, dtype=torch.float64) * meta.dt
    drift = u.mean(-1)[:, None] * times  # (3, T)
    fields = shift(u[:, None].expand(3, 6, 64), -drift)[:, :, None]
    seen = ReferenceFrame("comoving", meta).observe(fields).fields
    still = (u - u.mean(-1, keepdim=True)) / meta.normalization.std[0]
    torch.testing.assert_close(seen, still[:, None, None].expand_as(seen), atol=1e-12, rtol=0)


@pytest.mark.parametrize("first", [0, 1, 5])
def test_restoring_undoes_seeing_and_gives_the_mean_back(first):
    fields = waves(64)[:, None, None].repeat(1, 12, 1, 1)
    observer = ReferenceFrame("comoving", burgers()).observer(fields[:, 0])
    seen = observer.see(fields)
    torch.testing.assert_close(seen.mean(-1), torch.zeros(3, 12, 1, dtype=torch.float64), atol=1e-12, rtol=0)
    back = observer.restore(seen[:, first:], first)
    torch.testing.assert_close(back, fields[:, first:], atol=1e-12, rtol=0)
    picked = observer.rows(torch.tensor([2, 0]))
    torch.testing.assert_close(picked.restore(seen[[2, 0], first:], first), back[[2, 0]], atol=1e-13, rtol=0)


def conditions(level: float) -> InitialConditions:
    """Two waves on a mean flow."""
    row = {"wavenumber": [1, 3, 0, 0], "amplitude": [0.8, 0.4, level, 0], "phase": [0.3, 2.0, math.pi / 2, 0]}
    slots = {key: torch.tensor([value], dtype=torch.float64) for key, value in row.items()}
    no, one = torch.tensor([False]), torch.ones(1, dtype=torch.float64)
    return InitialConditions(**slots, rectified=no, sign=one, windowed=no, left=0.2 * one, right=0.7 * one)


def test_it_is_a_symmetry_of_the_exact_solution():
    """What the observer sees of the exact solution with a mean is the exact solution without it."""
    meta = burgers(128)
    simulation = Simulation("burgers", 0.1, 1.0, torch.arange(8, dtype=torch.float64) * meta.dt, 128, "exact", 512)
    still, drifting = (simulation.solve(conditions(level))[:, :, None] for level in (0.0, 0.9))
    seen = ReferenceFrame("comoving", meta).observe(drifting).fields * meta.normalization.std[0]
    # Cole-Hopf quadrature errs by 1e-8 here; the flow drifts by a third of the domain.
    torch.testing.assert_close(seen, still, atol=1e-6, rtol=0)
    observer = ReferenceFrame("comoving", meta).observer(drifting[:, 0])
    assert observer.velocity is not None
    for planted in (replace(observer, velocity=-observer.velocity), replace(observer, level=0 * observer.level)):
        assert (planted.see(drifting) * meta.normalization.std[0] - still).abs().max() > 0.3


def test_a_comoving_frame_needs_a_galilean_equation():
    meta = metadata("advection")
    with pytest.raises(ParameterError, match="needs Burgers' equation on one periodic axis, not 'advection'"):
        ReferenceFrame("comoving", meta)
    ReferenceFrame("laboratory", meta)
