"""Train the codec: fields <-> latent tokens.

dvc repro train_codec            # or, without DVC: python -m ups.stages.train_codec
"""

from pathlib import Path
from typing import Any

import torch

from ups.data.dataset import read_split
from ups.data.reference_frame import ReferenceFrame
from ups.data.steady import as_pairs, is_steady
from ups.errors import ParameterError
from ups.models.codec import Codec
from ups.parameters.section import Section
from ups.parameters.shared import Latent
from ups.parameters.train_codec import TrainCodec
from ups.stages.machine import project_machine
from ups.stages.runner import Inputs, main
from ups.stages.training import Execution
from ups.training.codec import CodecObjective

NAME = "train_codec"
INPUTS = {"dataset": "artifacts/prepare_data/dataset.h5"}


class Params(Section):
    """What this stage reads of params/base.yaml."""

    seed: int
    latent: Latent
    train_codec: TrainCodec


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    """Train on single frames; the metrics hold the reconstruction nRMSE on train and validation.

    The frames of a steady sample are the problem and its solution.
    """
    machine = project_machine()
    splits = (as_pairs(read_split(inputs["dataset"], split)) for split in ("train", "validation"))
    train, validation = (data.to(machine.device) for data in splits)
    grid = train.metadata.grid
    # A steady field that is 0 on its boundary is continuous where the ends of an axis meet.
    if not all(grid.periodic) and not is_steady(train.metadata):
        raise ParameterError(
            f"the grid codec takes periodic axes, but {inputs['dataset']} has a grid of {grid.points} points, "
            f"periodic: {grid.periodic}. Choose a task on a periodic domain."
        )
    frame = ReferenceFrame(params.latent.frame, train.metadata)
    arguments: dict[str, Any] = {
        "channels": len(train.metadata.channels),
        "points": grid.points[0] if grid.rank == 1 else list(grid.points),
        "tokens": params.latent.tokens,
        "dim": params.latent.dim,
        "encoder": params.train_codec.encoder.model_dump(),
        "decoder": params.train_codec.decoder.model_dump(),
        "frame": params.latent.frame,
    }
    torch.manual_seed(params.seed)
    objective = CodecObjective(
        frame.observe(train.fields), frame.observe(validation.fields), params.train_codec.inverse_losses
    )
    execution = Execution(NAME, params, inputs, outputs, machine)
    trained = execution.train(
        Codec(**arguments), objective.loss, objective.validate, len(objective.train), params.train_codec.optimization
    )
    metrics = execution.finish(trained, arguments)
    return {**metrics, "reconstruction_nrmse": metrics["val_loss"]}


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
