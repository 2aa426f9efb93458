"""Train the refinement from coefficients to a steady solution; skipped at 0 epochs.

dvc repro train_steady_prior
"""

from pathlib import Path
from typing import Any

import torch

from ups.data.dataset import read_split
from ups.data.latents import read_latents
from ups.data.reference_frame import ReferenceFrame
from ups.data.steady import as_pairs, is_steady
from ups.errors import ParameterError
from ups.models.codec import Codec
from ups.models.steady_prior import SteadyPrior
from ups.models.token_grid import token_grid
from ups.models.weights import load_model
from ups.parameters.section import Section
from ups.parameters.train_steady_prior import TrainSteadyPrior
from ups.stages.machine import project_machine
from ups.stages.runner import Inputs, main
from ups.stages.skipping import skip
from ups.stages.training import Execution
from ups.training.steady_prior import SteadyObjective

NAME = "train_steady_prior"
INPUTS = {
    "latents": "artifacts/encode_latents/latents.h5",
    "dataset": "artifacts/prepare_data/dataset.h5",
    "codec": "artifacts/train_codec/model.safetensors",
    "codec_config": "artifacts/train_codec/config.json",
}


class Params(Section):
    """What this stage reads of params/base.yaml."""

    seed: int
    train_steady_prior: TrainSteadyPrior


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    """Train on pairs of problem and solution; the metrics hold the nRMSE of the first and of the last iterate."""
    settings = params.train_steady_prior
    if settings.optimization.epochs == 0:
        return skip(NAME, outputs, "train_steady_prior.optimization.epochs is 0")
    machine = project_machine()
    train, validation = (read_latents(inputs["latents"], split).to(machine.device) for split in ("train", "validation"))
    metadata = train.metadata
    if not is_steady(metadata):
        raise ParameterError(
            f"train_steady_prior.optimization.epochs = {settings.optimization.epochs}, but {inputs['latents']} holds "
            f"trajectories of '{metadata.equation}', which has a time. Set it to 0, or choose a steady task: darcy2d."
        )
    shape, dim = token_grid(metadata.grid.points, train.tokens.shape[2]), train.tokens.shape[3]
    arguments: dict[str, Any] = {
        "tokens": shape[0] if len(shape) == 1 else list(shape),
        "dim": dim,
        "num_coefficients": train.coefficients.shape[1],
        "backbone": settings.model.model_dump(),
        "iterations": settings.iterations,
        "periodic": list(metadata.grid.periodic),
    }
    torch.manual_seed(params.seed)
    prior = SteadyPrior(**arguments)
    prior.set_statistics(train.tokens.mean((0, 1, 2)), train.tokens.std((0, 1, 2)))
    codec = load_model(inputs["codec"].parent, Codec).keep_grid().to(machine.device)
    frame = ReferenceFrame(codec.frame, metadata)
    splits = (as_pairs(read_split(inputs["dataset"], split)).to(machine.device) for split in ("train", "validation"))
    fields, held_out = (frame.observe(data.fields) for data in splits)
    objective = SteadyObjective(train, validation, fields, held_out, codec, settings)
    execution = Execution(NAME, params, inputs, outputs, machine)
    trained = execution.train(prior, objective.loss, objective.validate, len(train.tokens), settings.optimization)
    metrics = execution.finish(trained, arguments)
    return {**metrics, "val_first_nrmse": trained.history.rows[-1]["val_first_nrmse"]}


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
