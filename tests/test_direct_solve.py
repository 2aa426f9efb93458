"""The direct solve on coarser and finer cells, as a competitor of the steady prior."""

import math

import pytest
import torch
from steady_problems import POINTS, problems

from ups.data.fields import Trajectories
from ups.evaluation import direct_solve
from ups.evaluation.direct_solve import DirectSolve, brought_to
from ups.evaluation.reductions import estimate
from ups.evaluation.scores import FULL
from ups.evaluation.steady import score_steady


def error(data: Trajectories, cells: int) -> float:
    scores = score_steady(DirectSolve(cells, data.metadata), data, batch_size=3)
    return estimate(scores.horizons["nrmse"][FULL])["mean"]


def test_on_the_cells_of_the_data_it_is_the_truth_and_coarser_cells_cost_accuracy():
    data = problems(6, refinement=2)
    assert error(data, 2 * POINTS) < 1e-6, "float32 rounding of what is stored"
    errors = [error(data, cells) for cells in (4, 8, 16)]
    assert errors[0] > errors[1] > errors[2] > 1e-4
    assert errors[0] < 0.5


def test_the_force_and_both_sides_count():
    data = problems(2, force=3.0)
    given, force = data.fields[:, 0, :1], data.coefficients
    assert torch.allclose(DirectSolve(POINTS, data.metadata)(given, force), data.fields[:, 0, 1:], atol=1e-6)
    wide = data.metadata.model_copy(
        update={"grid": data.metadata.grid.model_copy(update={"extent": (2.0, 2.0)})}
    )  # twice the length, four times the solution
    assert torch.allclose(DirectSolve(POINTS, wide)(given, force), 4 * data.fields[:, 0, 1:], rtol=1e-4)


def test_fields_that_vanish_at_the_walls_are_brought_to_finer_cells_to_second_order():
    errors = []
    for cells in (8, 16):
        coarse, fine = (torch.sin(math.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n) for n in (cells, 64))
        found = brought_to((coarse[:, None] * coarse)[None, None], (64, 64))
        errors.append(float((found[0, 0] - fine[:, None] * fine).abs().max()))
    assert 3.5 < errors[0] / errors[1] < 4.5


def test_finer_cells_are_averaged():
    u = torch.rand(2, 1, 32, 32, dtype=torch.float64)
    expected = u.unflatten(2, (16, 2)).unflatten(4, (16, 2)).mean((3, 5))
    assert torch.allclose(brought_to(u, (16, 16)), expected)


def test_a_medium_of_two_alike_phases_keeps_its_effective_value():
    """Dykhne: layers aside, sqrt(a b) is exact for a checkerboard; coarser cells see that medium."""
    data = problems(1)
    board = torch.ones(1, 1, POINTS, POINTS)
    board[..., ::2, 1::2] = board[..., 1::2, ::2] = 0.1
    coarse = DirectSolve(8, data.metadata)(board, data.coefficients)
    even = DirectSolve(8, data.metadata)(torch.full_like(board, math.sqrt(0.1)), data.coefficients)
    assert torch.allclose(coarse, even, rtol=1e-5)


def test_what_it_does_not_solve_is_refused():
    metadata = problems(1).metadata
    assert direct_solve.fits(8, metadata)
    assert not direct_solve.fits(12, metadata)
    with pytest.raises(ValueError, match="12 cells neither divide"):
        DirectSolve(12, metadata)
    with pytest.raises(ValueError, match="not for 'navier_stokes'"):
        DirectSolve(8, metadata.model_copy(update={"equation": "navier_stokes"}))
