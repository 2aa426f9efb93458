"""The comoving frame: exact shifts, and the symmetry of Burgers' equation itself."""

import math
from dataclasses import replace

import pytest
import torch
from example_fields import metadata

from ups.data.initial_conditions import InitialConditions
from ups.data.reference_frame import ReferenceFrame
from ups.data.simulation import Simulation
from ups.errors import ParameterError


def burgers(points: int = 64):
    return metadata("burgers", (points,))


def drifting(cells: tuple[int, ...], frames: int = 6, left_over: float = 0.0) -> torch.Tensor:
    """Noise that only drifts, by whole cells in a step, (B, T, 1, 64) in float64: its mean is that speed and a rest."""
    meta = burgers()
    noise = torch.randn(len(cells), 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cell = meta.grid.spacing[0] / meta.dt
    rows = []
    for row, count in zip(noise - noise.mean(-1, keepdim=True), cells, strict=True):
        rows.append(torch.stack([row.roll(count * frame) + (count + left_over) * cell for frame in range(frames)]))
    return torch.stack(rows)[:, :, None]


def test_at_rest_it_is_the_normalisation():
    meta = burgers()
    fields = torch.randn(4, 3, 1, 64)
    observer = ReferenceFrame("laboratory", meta).observer(fields[:, 0])
    mean, std = meta.normalization.mean[0], meta.normalization.std[0]
    assert torch.equal(observer.see(fields), (fields - mean) / std)
    assert torch.equal(observer.restore(fields, first=7), fields * std + mean)


@pytest.mark.parametrize("left_over", [0.0, 0.4, -0.4])
def test_a_flow_that_only_drifts_stands_still_for_the_comoving_observer(left_over):
    """To the last bit, the highest wave included: nothing is interpolated."""
    meta, fields = burgers(), drifting((3, 0, -17, 100), left_over=left_over)
    observed = ReferenceFrame("comoving", meta).observe(fields)
    assert torch.equal(observed.fields, observed.fields[:, :1].expand_as(observed.fields))
    cell = meta.grid.spacing[0] / meta.dt
    rest = observed.fields.mean(-1) * meta.normalization.std[0]
    torch.testing.assert_close(rest, torch.full_like(rest, left_over * cell), atol=1e-12, rtol=0)
    seen = (observed.fields + observed.offset[:, None])[:, 0] * meta.normalization.std[0]
    torch.testing.assert_close(seen, fields[:, 0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("first", [0, 1, 5])
def test_restoring_undoes_seeing(first):
    fields = drifting((3, 0, -17), frames=12, left_over=0.3)
    observer = ReferenceFrame("comoving", burgers()).observer(fields[:, 0])
    seen = observer.see(fields)
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
    """What the observer sees of the exact solution on a mean flow is the exact solution on what is left of the flow."""
    meta = burgers(128)
    cell = meta.grid.spacing[0] / meta.dt
    simulation = Simulation("burgers", 0.1, 1.0, torch.arange(8, dtype=torch.float64) * meta.dt, 128, "exact", 512)
    slow, fast = (simulation.solve(conditions(level * cell))[:, :, None] for level in (0.3, 5.3))
    seen = ReferenceFrame("comoving", meta).observe(fast).fields * meta.normalization.std[0]
    # Cole-Hopf quadrature errs by 1e-8 here; the flow drifts by a third of the domain.
    torch.testing.assert_close(seen, slow, atol=1e-6, rtol=0)
    observer = ReferenceFrame("comoving", meta).observer(fast[:, 0])
    assert observer.cells is not None
    assert observer.cells.tolist() == [5]
    for planted in (replace(observer, cells=-observer.cells), replace(observer, level=0 * observer.level)):
        assert (planted.see(fast) * meta.normalization.std[0] - slow).abs().max() > 0.3


def test_a_comoving_frame_needs_a_galilean_equation():
    meta = metadata("advection")
    with pytest.raises(ParameterError, match="needs Burgers' equation on one periodic axis, not 'advection'"):
        ReferenceFrame("comoving", meta)
    ReferenceFrame("laboratory", meta)
