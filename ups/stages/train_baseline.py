"""Train the learned baseline: a Fourier neural operator of the surrogate's size on the same data.

dvc repro train_baseline
"""

from pathlib import Path
from typing import Any

import torch

from ups.data.dataset import read_split
from ups.data.steady import as_pairs, is_steady
from ups.models.conditioning import conditioning_arguments
from ups.models.fno import fno_of_size
from ups.models.weights import read_config
from ups.parameters.section import Section
from ups.parameters.train_baseline import TrainBaseline
from ups.stages.machine import project_machine
from ups.stages.runner import Inputs, main
from ups.stages.skipping import skip
from ups.stages.training import Execution
from ups.training.fields import FieldStepObjective

NAME = "train_baseline"
INPUTS = {
    "dataset": "artifacts/prepare_data/dataset.h5",
    "codec_config": "artifacts/train_codec/config.json",
    "operator_config": "artifacts/train_operator/config.json",
    "prior_config": "artifacts/train_steady_prior/config.json",
}


class Params(Section):
    """What this stage reads of params/base.yaml."""

    seed: int
    train_baseline: TrainBaseline


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    """Train on the fields; the configurations of the surrogate's parts are read for their size only."""
    settings = params.train_baseline
    if settings.optimization.epochs == 0:
        return skip(NAME, outputs, "train_baseline.optimization.epochs is 0")
    machine = project_machine()
    splits = (as_pairs(read_split(inputs["dataset"], split)) for split in ("train", "validation"))
    train, validation = (data.to(machine.device) for data in splits)
    # The step of a steady problem is the prior's: one step from the problem to its solution.
    parts = ("codec_config", "prior_config" if is_steady(train.metadata) else "operator_config")
    size = settings.num_parameters or sum(read_config(inputs[key].parent).get("parameters", 0) for key in parts)
    torch.manual_seed(params.seed)
    told = conditioning_arguments(settings.conditioning, train.coefficients, train.metadata)
    model = fno_of_size(size, settings.modes, settings.layers, train.metadata, settings.frame, **told)
    objective = FieldStepObjective(train, validation, settings.frame)
    execution = Execution(NAME, params, inputs, outputs, machine)
    trained = execution.train(model, objective.loss, objective.validate, len(objective), settings.optimization)
    metrics = execution.finish(trained, model.arguments)
    return {**metrics, "size_of_surrogate": size}


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
