"""What `evaluate` does where the equation is steady: solutions instead of forecasts.

Models: `steady_prior` with the iterations it was trained for, `steady_prior_<k>` stopped or prolonged to k, `fno` from
the problem to its solution in one step, `mean_solution` of the training data, and `finite_volume_<cells>`, the sparse
direct solve on coarser and finer cells. The codec's own row, `reconstruction`, is the floor of the prior.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ups.data.dataset import read_split
from ups.data.fields import Trajectories
from ups.data.steady import unknown_part
from ups.evaluation import direct_solve, records
from ups.evaluation.figures.error_vs_cost import draw_error_vs_cost
from ups.evaluation.figures.error_vs_iterations import draw_error_vs_iterations
from ups.evaluation.figures.rollout_panel import draw_rollout_panel
from ups.evaluation.figures.spectra import draw_spectra
from ups.evaluation.figures.training_curves import draw_training_curves
from ups.evaluation.finite_volume import Candidate, choose, try_candidates
from ups.evaluation.names import STEADY_PRIOR, model_label
from ups.evaluation.reductions import estimate
from ups.evaluation.scores import FULL, Scores
from ups.evaluation.steady import (
    STEADY,
    FnoSolver,
    MeanSolution,
    PriorSolver,
    Reconstruction,
    Solver,
    reconstruction_of_solutions,
    score_steady,
)
from ups.evaluation.steady_verdicts import (
    MEAN_SOLUTION,
    by_iterations,
    errors,
    gate,
    iterating,
    iteration_counts,
    looks_at_problem,
    misled,
    prior_name,
)
from ups.evaluation.table import results_table
from ups.models.codec import Codec
from ups.models.fno import FourierOperator
from ups.models.steady_prior import SteadyPrior
from ups.models.weights import is_skipped, load_model
from ups.parameters.evaluate import Evaluate
from ups.stages.runner import Inputs
from ups.training.machine import Machine


def evaluate_steady(
    inputs: Inputs, test: Trajectories, validation: Trajectories, settings: Evaluate, machine: Machine, outputs: Path
) -> dict[str, Any]:
    """Solve the test problems with every model and baseline, write the records and figures, and return the metrics."""
    device = str(machine.device)
    codec = load_model(inputs["codec"].parent, Codec).keep_grid().to(device)
    solvers: dict[str, Solver] = {MEAN_SOLUTION: MeanSolution(read_split(inputs["data"], "train"))}
    if not is_skipped(inputs["fno"].parent):
        solvers["fno"] = FnoSolver(load_model(inputs["fno"].parent, FourierOperator).to(device), test.metadata)
    trained = 0
    if not is_skipped(inputs["prior"].parent):
        prior = load_model(inputs["prior"].parent, SteadyPrior).to(device)
        trained = prior.iterations
        for count in iteration_counts(trained):
            solvers[prior_name(count, trained)] = PriorSolver(codec, prior, test.metadata, count)
    scored = partial(score_steady, batch_size=settings.batch_size, device=device)
    against = STEADY_PRIOR if trained else MEAN_SOLUTION
    choice = _compete(solvers[against], against, validation, settings, scored)
    for cells in choice["shown"]:
        solvers[f"finite_volume_{cells}"] = direct_solve.DirectSolve(cells, test.metadata)
    scores: dict[str, dict[str, Scores]] = {}
    for name, solver in solvers.items():
        print(f"evaluate: {name} on {len(test)} test problems", file=sys.stderr)
        scores[name] = {STEADY: scored(solver, test, num_examples=settings.panel_trajectories)}
    metrics = records.nested_metrics(scores)
    reconstruct = Reconstruction(codec, test.metadata)
    metrics["reconstruction"] = records.estimates(
        reconstruction_of_solutions(reconstruct, test, settings.batch_size, device)
    )
    metrics["trajectories"] = len(test)
    metrics["finite_volume_choice"] = choice
    metrics["not_applicable"] = {"forecasts": "the equation is steady: there is nothing to step"}
    iterations = by_iterations(scores, trained) if trained else pd.DataFrame()
    if trained:
        metrics["paired_with_mean_solution"] = records.paired_comparisons(scores, MEAN_SOLUTION)
        another = scored(solvers[STEADY_PRIOR], misled(test)).horizons["nrmse"][FULL]
        metrics["problem"] = looks_at_problem(errors(scores, STEADY_PRIOR), another)
        metrics["gate"] = gate(scores)
        metrics["iterating"] = iterating(scores, trained)
        print(f"evaluate: {metrics['iterating']['reason']}")
        if not (metrics["gate"]["beats_mean_solution"] and metrics["problem"]["looks"]):
            print("evaluate: the prior does no better than a guess that does not look at the problem: train it longer")
        iterations.to_csv(outputs / "error_vs_iterations.csv", index=False)
    records.write_records(outputs, scores, unknown_part(test))
    _draw(outputs / "figures", scores, test, metrics, inputs, against, iterations)
    print(results_table(metrics).text())
    return metrics


def _compete(solver: Solver, against: str, validation: Trajectories, settings: Evaluate, scored: Any) -> dict[str, Any]:
    """Measure direct solves on validation and choose those of equal cost and equal error, as for Burgers."""

    def measured(candidate: Solver) -> tuple[float, float | None]:
        result = scored(candidate, validation)
        return result.seconds_per_trajectory, estimate(result.horizons["nrmse"][FULL])["mean"]

    def measure(cells: int) -> Candidate:
        candidate = Candidate(cells, *measured(direct_solve.DirectSolve(cells, validation.metadata)))
        print(
            f"evaluate: direct solve, {cells} cells: nRMSE {candidate.nrmse:.2e}, "
            f"{1e3 * candidate.seconds_per_trajectory:.2f} ms per problem (validation)",
            file=sys.stderr,
        )
        return candidate

    seconds, nrmse = measured(solver)
    options = settings.finite_volume
    suitable = [cells for cells in options.cells if direct_solve.fits(cells, validation.metadata)]
    candidates = try_candidates(suitable, measure, seconds, nrmse, options.max_seconds)
    return {
        **choose(candidates, seconds, nrmse),
        "against": against,
        "protocol": STEADY,
        "surrogate": {"seconds_per_trajectory": seconds, "nrmse": nrmse},
        "candidates": [asdict(candidate) for candidate in candidates],
        "not_applicable": [cells for cells in options.cells if cells not in suitable],
        "compiled": False,
    }


def _draw(
    folder: Path,
    scores: dict[str, dict[str, Scores]],
    test: Trajectories,
    metrics: dict[str, Any],
    inputs: Inputs,
    shown: str,
    iterations: pd.DataFrame,
) -> None:
    truth, result = unknown_part(test), scores[shown][STEADY]
    fields = truth.fields[: len(result.examples)]
    draw_rollout_panel(folder / "solutions.png", fields, result.examples, truth.metadata, 0, model_label(shown))
    spectra = {model: by_protocol[STEADY].spectra for model, by_protocol in scores.items()}
    draw_spectra(folder / "spectra_steady.png", spectra, truth.metadata, "solutions")
    candidates = [entry for entry in metrics["finite_volume_choice"]["candidates"] if entry["nrmse"] is not None]
    draw_error_vs_cost(folder / "error_vs_cost_steady.png", metrics, STEADY, candidates)
    if len(iterations):
        floor = metrics["reconstruction"]["nrmse"]["mean"]
        draw_error_vs_iterations(folder / "error_vs_iterations.png", iterations, floor)
    files = [inputs[name].parent / "history.csv" for name in ("codec", "prior", "fno")]
    histories = {file.parent.name: pd.read_csv(file) for file in files if file.is_file()}
    if histories:
        draw_training_curves(folder / "training_curves.png", histories)
