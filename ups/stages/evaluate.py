"""Stage `evaluate`: forecasts of every model and baseline on the test split, against the truth.

    python -m ups.stages.evaluate        (or: dvc repro evaluate)

Reads the data set and all trained models (a skipped stage says so in its `config.json`), and for the figures the
`history.csv` beside the weights, which says nothing that the weights do not depend on. Decides on the validation split
which parts the assembled surrogate consists of. Writes `metrics.json` (with the model `ensemble` where the corrector
draws, that decision in `assembly`, and the models' errors on validation in `validation`), `per_trajectory.parquet`,
`error_vs_time.csv`, `figures/*.png` and the self-contained `surrogate/`, and prints the results table. A steady problem
has no forecasts: `ups.stages.steady_evaluation` solves it, with the same files but for the surrogate, and
`error_vs_iterations.csv`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from ups.data.dataset import read_split
from ups.data.fields import FieldMetadata, Trajectories
from ups.data.quantities import conserved
from ups.data.steady import is_steady
from ups.evaluation import assembly, baselines, finite_volume, records
from ups.evaluation.competition import compete
from ups.evaluation.ensemble_scores import ensemble_score
from ups.evaluation.figures.gallery import draw_figures
from ups.evaluation.protocols import Forecaster, Protocol
from ups.evaluation.regime_table import regime_tables
from ups.evaluation.scores import Scores, reconstruction_scores, score
from ups.evaluation.table import results_table
from ups.inference.ensemble import EnsembleMean, drawing_forecaster, is_stochastic
from ups.inference.surrogate import Choice, Surrogate, load_surrogate
from ups.models.fno import FourierOperator
from ups.models.weights import is_skipped, load_model
from ups.parameters.evaluate import Evaluate
from ups.parameters.section import Section
from ups.stages.machine import project_machine
from ups.stages.runner import Inputs, main
from ups.stages.steady_evaluation import evaluate_steady

NAME = "evaluate"
INPUTS = {
    "data": "artifacts/prepare_data/dataset.h5",
    "codec": "artifacts/train_codec/model.safetensors",
    "codec_config": "artifacts/train_codec/config.json",
    "operator": "artifacts/train_operator/model.safetensors",
    "operator_config": "artifacts/train_operator/config.json",
    "prior": "artifacts/train_steady_prior/model.safetensors",
    "prior_config": "artifacts/train_steady_prior/config.json",
    "corrector": "artifacts/train_diffusion/model.safetensors",
    "corrector_config": "artifacts/train_diffusion/config.json",
    "corrector_metrics": "artifacts/train_diffusion/metrics.json",
    "student": "artifacts/distill/model.safetensors",
    "student_config": "artifacts/distill/config.json",
    "fno": "artifacts/train_baseline/model.safetensors",
    "fno_config": "artifacts/train_baseline/config.json",
}
SURROGATE = "assembled"
REFERENCE = "operator"
ENSEMBLE = "ensemble"


class Params(Section):
    evaluate: Evaluate


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    settings, machine = params.evaluate, project_machine()
    test, validation = (read_split(inputs["data"], split) for split in ("test", "validation"))
    if is_steady(test.metadata):
        return evaluate_steady(inputs, test, validation, settings, machine, outputs)
    device = str(machine.device)
    folders = {part: inputs[part].parent for part in ("codec", "operator", "corrector", "student")}
    surrogate = load_surrogate(**folders, metadata=test.metadata).to(device)
    choices = {mode: surrogate.forecaster(mode) for mode in get_args(Choice) if mode in surrogate.modes}
    decision = assembly.decide(choices, validation, settings.batch_size, device)
    surrogate = replace(surrogate, choice=decision["assembled"])
    models: dict[str, Forecaster] = {**choices}
    if not is_skipped(inputs["fno"].parent):
        models["fno"] = load_model(inputs["fno"].parent, FourierOperator).to(device).forecaster(test.metadata)
    models |= _untrained(test)
    choice: dict[str, Any] = {}
    if finite_volume.applicable(test.metadata):
        choice = compete(models[surrogate.choice], SURROGATE, validation, _rolling(settings), settings, device)
        for cells in choice["shown"]:
            name = f"finite_volume_{cells}"
            models[name] = finite_volume.forecaster(cells, test.metadata, settings.finite_volume.compile)
    scores = {name: _score(name, forecaster, test, settings, device) for name, forecaster in models.items()}
    scores |= {mode: scores[same] for mode, same in _same(surrogate).items()}
    if is_stochastic(surrogate.corrector):
        scores[ENSEMBLE] = _ensemble(surrogate, test, settings, device)
    metrics = _metrics(scores, test, surrogate, inputs["corrector_metrics"], choice, settings.batch_size, device)
    metrics["assembly"] = decision
    metrics["validation"] = _on_validation(decision)
    records.write_records(outputs, scores, test)
    candidates = [{**entry, "protocol": choice["protocol"]} for entry in choice.get("candidates", [])]
    draw_figures(outputs / "figures", scores, test, metrics, _histories(inputs), SURROGATE, candidates)
    surrogate.reduced().save(outputs / "surrogate")
    print("\n\n".join(table.text() for table in (results_table(metrics), *regime_tables(metrics))))
    return metrics


def _same(surrogate: Surrogate) -> dict[str, str]:
    """Return the models that are others by another name, mode -> other: their forecasts are not computed again."""
    same = {"zero_correction": "operator"} if surrogate.corrector is not None else {}
    return {**same, SURROGATE: surrogate.choice}


def _untrained(data: Trajectories) -> dict[str, Forecaster]:
    simple: dict[str, Forecaster] = {
        "persistence_initial": baselines.persistence_initial,
        "persistence_last": baselines.persistence_last,
        "spatial_mean": baselines.spatial_mean,
    }
    return simple | baselines.exact_forecasters(data.metadata)


def _score(name: str, forecaster: Forecaster, data: Trajectories, settings: Evaluate, device: str) -> dict[str, Scores]:
    results: dict[str, Scores] = {}
    for protocol in settings.protocols:
        print(f"{NAME}: {name}, {protocol} on {len(data)} test trajectories", file=sys.stderr)
        results[protocol] = score(
            forecaster,
            data,
            protocol,
            **_how(settings, device),
        )
    return results


def _on_validation(decision: Mapping[str, Any]) -> dict[str, Any]:
    """Return the errors on validation, model -> protocol -> metric: what may choose between parameters."""
    errors = {**decision["nrmse"], SURROGATE: decision["nrmse"][decision["assembled"]]}
    return {
        model: {protocol: {"nrmse": {"mean": error}} for protocol, error in found.items()}
        for model, found in errors.items()
    }


def _ensemble(surrogate: Surrogate, data: Trajectories, settings: Evaluate, device: str) -> dict[str, Scores]:
    """Score an ensemble of the forced corrector."""
    draw = drawing_forecaster(surrogate, settings.ensemble.seed)
    results: dict[str, Scores] = {}
    for protocol in settings.protocols:
        print(f"{NAME}: {settings.ensemble.members} members, {protocol}", file=sys.stderr)
        results[protocol] = ensemble_score(
            EnsembleMean(draw, settings.ensemble.members),
            draw,
            data,
            protocol,
            members=settings.ensemble.members,
            **_how(settings, device),
        )
    return results


def _how(settings: Evaluate, device: str) -> dict[str, Any]:
    """Return how every forecaster is scored."""
    return {
        "batch_size": settings.batch_size,
        "horizons": settings.horizons,
        "correlation_threshold": settings.correlation_threshold,
        "num_examples": settings.panel_trajectories,
        "device": device,
    }


def _metrics(
    scores: dict[str, dict[str, Scores]],
    test: Trajectories,
    surrogate: Surrogate,
    corrector: Path,
    choice: dict[str, Any],
    batch_size: int,
    device: str,
) -> dict[str, Any]:
    metrics = records.nested_metrics(scores)
    metrics["reconstruction"] = records.estimates(
        reconstruction_scores(surrogate.reconstruct, test, batch_size, device)
    )
    metrics["paired_with_operator"] = records.paired_comparisons(scores, REFERENCE)
    metrics["corrector"] = _one_step(corrector)
    metrics["trajectories"] = len(test)
    if choice:
        metrics["finite_volume_choice"] = choice
    metrics["not_applicable"] = _not_applicable(test.metadata)
    by_regime = records.metrics_by_regime(scores, test)
    if by_regime:
        metrics["regimes"] = by_regime
        metrics["regime_kinds"] = records.regime_kinds(test)
    return metrics


def _not_applicable(metadata: FieldMetadata) -> dict[str, str]:
    """Return what this table does not have for this equation, and why."""
    equation, missing = metadata.equation, {}
    if not finite_volume.applicable(metadata):
        missing["finite_volume"] = (
            f"there is no classical solver to compete with for '{equation}', only for 1-D Burgers"
        )
    if not baselines.exact_forecasters(metadata):
        missing["exact"] = f"'{equation}' has no exact solution from a frame on the grid"
    if not conserved(metadata):
        missing["conserved_error"] = f"'{equation}' conserves nothing"
    return missing


def _rolling(settings: Evaluate) -> Protocol:
    """Return the protocol in which solvers compete: errors are to accumulate where a protocol lets them."""
    order: tuple[Protocol, ...] = ("pdebench", "rollout_ic", "one_step")
    return next(protocol for protocol in order if protocol in settings.protocols)


def _one_step(metrics: Path) -> dict[str, Any]:
    """Return what the corrector's stage found on validation: one step ahead, on latents."""
    found = json.loads(metrics.read_text())
    return {key: found.get(key) for key in ("status", "explained_residual", "beats_zero_correction")}


def _histories(inputs: Inputs) -> dict[str, pd.DataFrame]:
    folders = [inputs[name].parent for name in ("codec", "operator", "corrector", "student", "fno")]
    files = {folder.name: folder / "history.csv" for folder in folders}
    return {stage: pd.read_csv(file) for stage, file in files.items() if file.is_file()}


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
