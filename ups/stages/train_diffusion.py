"""Train the corrector on the residual of the frozen operator, and say how much of it is explained one step ahead.

dvc repro train_diffusion
"""

from pathlib import Path
from typing import Any

import torch

from ups.data.latents import read_latents
from ups.evaluation.overfitting_alarm import correlation_in_words, epoch_correlation
from ups.evaluation.significance import paired_test
from ups.models.codec import Codec
from ups.models.corrector import ResidualCorrector
from ups.models.flow import FlowCorrector
from ups.models.operator import LatentOperator
from ups.models.weights import load_model
from ups.parameters.section import Section
from ups.parameters.train_diffusion import TrainDiffusion
from ups.stages.machine import project_machine
from ups.stages.runner import Inputs, main
from ups.stages.skipping import STEADY, is_for_steady, skip
from ups.stages.training import Execution
from ups.training.corrector import DecodedRollouts, FlowObjective, ResidualObjective
from ups.training.residuals import Residuals
from ups.training.tau import follow_losses, forget_losses

NAME = "train_diffusion"
INPUTS = {
    "latents": "artifacts/encode_latents/latents.h5",
    "operator": "artifacts/train_operator/model.safetensors",
    "operator_config": "artifacts/train_operator/config.json",
    "codec": "artifacts/train_codec/model.safetensors",
    "codec_config": "artifacts/train_codec/config.json",
}


class Params(Section):
    """What this stage reads of params/base.yaml."""

    seed: int
    train_diffusion: TrainDiffusion


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    """Train the corrector; `beats_zero_correction` in the metrics is about single steps on latents.

    Whether the surrogate uses it is decided by `evaluate`, on decoded rollouts.
    """
    settings = params.train_diffusion
    if is_for_steady(inputs["operator"].parent):
        return {**skip(NAME, outputs, STEADY), "beats_zero_correction": False}
    if settings.optimization.epochs == 0:
        return {**skip(NAME, outputs, "train_diffusion.optimization.epochs is 0"), "beats_zero_correction": False}
    machine = project_machine()
    train, validation = (read_latents(inputs["latents"], split).to(machine.device) for split in ("train", "validation"))
    operator = load_model(inputs["operator"].parent, LatentOperator).to(machine.device)
    codec = load_model(inputs["codec"].parent, Codec).keep_grid().to(machine.device)
    residuals, held_out = (Residuals(operator, latents, codec) for latents in (train, validation))
    arguments: dict[str, Any] = {
        "dim": train.tokens.shape[-1],
        "hidden": settings.hidden,
        "depth": settings.depth,
        "zero_init": settings.zero_init,
        "skip": settings.skip,
        "norm": settings.norm,
        "dropout": settings.dropout,
        "mixing": settings.mixing,
        "shape": list(operator.shape),
        **settings.objective.model_dump(exclude={"name"}),
    }
    is_flow = settings.objective.name == "flow"
    torch.manual_seed(params.seed)
    corrector = (FlowCorrector if is_flow else ResidualCorrector)(**arguments).to(machine.device)
    spread = residuals.residual.square().mean((0, 1)).sqrt().clamp_min(1e-12)
    corrector.set_statistics(
        operator.mean, operator.std, spread if settings.standardize_residual else torch.ones_like(spread)
    )
    kind: type[FlowObjective | ResidualObjective] = FlowObjective if is_flow else ResidualObjective
    objective = kind(residuals, held_out, settings, codec)
    rollouts = DecodedRollouts(operator, codec, validation)
    follow_losses(corrector, settings.tau)
    execution = Execution(NAME, params, inputs, outputs, machine)
    trained = execution.train(
        corrector,
        objective.loss,
        lambda model: {**objective.validate(model), "val_rollout_error": rollouts.error(model)},
        len(objective.train),
        settings.optimization,
    )
    forget_losses(trained.model)
    last = trained.history.rows[-1]
    metrics = execution.finish(trained, arguments)
    # More than a mean below the baseline: the gain has to stand out from trajectory to trajectory.
    with torch.no_grad():
        error, zero = objective.by_trajectory(trained.model)
    gate = paired_test(error.cpu(), zero.cpu())
    if not gate["better"]:
        print(f"{NAME}: one step ahead the corrector does not beat the zero correction on validation")
    history = trained.history
    correlation = epoch_correlation(history.column("train_loss"), history.column("val_rollout_error"))
    alarm = correlation_in_words(correlation)
    return {
        **metrics,
        "alarms": [*metrics["alarms"], *([alarm] if alarm else [])],
        "rollout_error": {"corrected": last["val_rollout_error"], "zero_correction": rollouts.error(None)},
        "loss_against_rollouts": correlation,
        "zero_correction_loss": last["val_zero_correction"],
        "explained_residual": last["val_explained"],
        **{key: last[key] for key in ("val_flow_loss", "val_flow_loss_shuffled") if key in last},
        "beats_zero_correction": gate["better"],
        "gate": gate,
    }


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
