"""The classical competitor against the exact solution, and the choice of its size."""

import itertools

import pytest
import torch
from example_fields import metadata

from ups.data.cole_hopf import cole_hopf
from ups.data.fields import Trajectories
from ups.data.initial_conditions import cell_centres, draw
from ups.evaluation import finite_volume
from ups.evaluation.competition import compete
from ups.evaluation.finite_volume import Candidate, FiniteVolume, choose, try_candidates
from ups.evaluation.metrics import frame_metrics, nrmse
from ups.parameters.evaluate import Evaluate

VISCOSITY, POINTS, FRAMES, DT = 0.02, 128, 6, 0.1


@pytest.fixture(scope="module")
def exact() -> Trajectories:
    times = DT * torch.arange(FRAMES, dtype=torch.float64)
    initial = draw(seed=5, start=0, stop=8)
    fields = cole_hopf(initial, cell_centres(POINTS), times, VISCOSITY)[:, :, None].float()
    return Trajectories(fields, torch.full((8, 1), VISCOSITY), torch.arange(8), metadata("burgers", (POINTS,), DT))


def _error(data: Trajectories, cells: int) -> float:
    prediction = FiniteVolume(cells, data.metadata)(data.fields[:, 1:2], FRAMES - 2, data.coefficients)
    return float(nrmse(prediction, data.fields[:, 2:]).mean())


def test_converges_to_the_exact_solution(exact):
    """Coarsening, solving and interpolating together: the error falls at least fourfold per doubling (second order)."""
    errors = [_error(exact, cells) for cells in (32, 64, 128)]
    assert errors[0] / errors[1] > 4
    assert errors[1] / errors[2] > 4
    assert errors[2] < 5e-4


def test_more_cells_than_points_help(exact):
    assert _error(exact, 256) < 1.5 * _error(exact, 128)


@pytest.mark.parametrize("cells", [32, 128, 256])
def test_conserves_the_integral(exact, cells):
    prediction = FiniteVolume(cells, exact.metadata)(exact.fields[:, :1], FRAMES - 1, exact.coefficients)
    start = exact.fields[:, :1].expand_as(prediction)
    # Float32 sums of 128 numbers of size 1 over some hundred steps. Reading point values from a finer grid (256 cells)
    # keeps the mean only up to the interpolation error.
    tolerance = 1e-5 if cells <= POINTS else 1e-4
    errors = frame_metrics(exact.metadata, exact.coefficients)["conserved_error"].compute(prediction, start)
    assert float(errors.max()) < tolerance


def test_a_batch_of_several_viscosities_costs_and_gives_what_its_regimes_do_apart(exact, monkeypatch):
    """Each with its own nu/pi; and no trajectory takes the many steps of the most viscous one."""
    viscosity = torch.tensor([0.02, 0.5] * 4)[:, None]
    solver, given = FiniteVolume(64, exact.metadata), exact.fields[:, :1]
    alone = [solver(given[row : row + 1], 3, viscosity[row : row + 1]) for row in range(8)]
    seen = []
    plain = finite_volume.solve_burgers
    monkeypatch.setattr(
        finite_volume, "solve_burgers", lambda u, nu, *a, **k: seen.append(nu.tolist()) or plain(u, nu, *a, **k)
    )
    torch.testing.assert_close(solver(given, 3, viscosity), torch.cat(alone), atol=1e-6, rtol=0)
    assert seen == [pytest.approx([0.02] * 4), pytest.approx([0.5] * 4)]


def test_padding_of_compiled_batches_changes_nothing(exact, monkeypatch):
    shapes = []
    plain = finite_volume.solve_burgers

    def spy(state, viscosity, *args, **kwargs):
        shapes.append((tuple(state.shape), tuple(viscosity.shape)))
        return plain(state, viscosity, *args, **{**kwargs, "compile": False})

    monkeypatch.setattr(finite_volume, "solve_burgers", spy)
    solver = FiniteVolume(64, exact.metadata, compile=True)
    whole = solver(exact.fields[:, :1], 2, exact.coefficients)
    part = solver(exact.fields[:3, :1], 2, exact.coefficients[:3])
    assert shapes == [((8, POINTS), (8,))] * 2
    assert part.shape[0] == 3
    torch.testing.assert_close(part, whole[:3], rtol=0, atol=0)


def test_cells_have_to_fit(exact):
    assert not finite_volume.fits(48, exact.metadata)
    with pytest.raises(ValueError, match="48 cells neither divide 128 points"):
        FiniteVolume(48, exact.metadata)
    with pytest.raises(ValueError, match="not 'advection'"):
        FiniteVolume(32, metadata("advection"))


TIMES = {32: 0.001, 64: 0.002, 128: 0.008, 256: 0.04}
ERRORS = {32: 1e-1, 64: 2e-2, 128: 3e-3, 256: 5e-4}
ALL = [Candidate(cells, TIMES[cells], ERRORS[cells]) for cells in TIMES]


@pytest.mark.parametrize(
    ("seconds", "error", "equal_cost", "equal_error", "shown"),
    [
        (0.010, 1e-2, 128, 128, [128]),
        (0.010, 5e-2, 128, 64, [64, 128]),
        (0.003, 1e-3, 64, 256, [64, 256]),
        (0.0005, 1e-2, None, 128, [32, 128]),  # every solver costs more: the cheapest is shown
        (0.010, 1e-5, 128, None, [128, 256]),  # none is as accurate: the best is shown
        (0.010, None, 128, 32, [32, 128]),  # a surrogate that diverged is matched by any solver
    ],
)
def test_equal_cost_and_equal_error(seconds, error, equal_cost, equal_error, shown):
    choice = choose(ALL, seconds, error)
    assert choice["equal_cost"]["cells"] == equal_cost
    assert choice["equal_error"]["cells"] == equal_error
    assert choice["shown"] == shown


def test_candidates_that_cannot_matter_are_not_run():
    def measure(cells: int) -> Candidate:
        return Candidate(cells, TIMES[cells], ERRORS[cells])

    def tried(seconds: float, error: float, max_seconds: float = 1.0) -> list[int]:
        return [entry.cells for entry in try_candidates(list(TIMES), measure, seconds, error, max_seconds)]

    assert tried(0.005, 1e-2) == [32, 64, 128]  # 128 is slower and more accurate: 256 is neither cheaper nor affordable
    assert tried(0.005, 1e-3) == [32, 64, 128, 256]
    assert tried(0.005, 1e-3, max_seconds=0.05) == [32, 64, 128]  # 256 cells may need .008 * 8 s


def test_the_choice_is_made_with_measured_times(exact, monkeypatch):
    """Fake clock: each forecast takes as long as TIMES says, the surrogate 3 ms per trajectory."""
    import ups.evaluation.competition as competition

    real = competition.score

    def score(forecaster, data, protocol, **kwargs):
        cells = getattr(forecaster, "cells", None)
        kwargs["clock"] = _stepping((TIMES[cells] if cells else 0.003) * len(data))
        return real(forecaster, data, protocol, **kwargs)

    monkeypatch.setattr(competition, "score", score)
    params = Evaluate(
        protocols=["rollout_ic"],
        horizons=[1],
        batch_size=8,
        correlation_threshold=0.8,
        panel_trajectories=1,
        ensemble={"members": 2, "seed": 0},
        finite_volume={"cells": [32, 48, 64, 128], "max_seconds": 1.0, "compile": False},
    )

    def surrogate(given, num_steps, coefficients):
        return FiniteVolume(64, exact.metadata)(given, num_steps, coefficients)

    choice = compete(surrogate, "assembled", exact, "rollout_ic", params, "cpu")
    assert choice["equal_cost"]["cells"] == 64
    assert choice["equal_error"]["cells"] == 64
    assert choice["not_applicable"] == [48]
    assert [entry["cells"] for entry in choice["candidates"]] == [32, 64, 128]
    assert choice["surrogate"]["seconds_per_trajectory"] == pytest.approx(0.003)


def _stepping(seconds: float):
    """A clock that advances by `seconds` at every reading: what is timed between two readings took that long."""
    count = itertools.count()
    return lambda: next(count) * seconds
