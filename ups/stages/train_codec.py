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
from ups.models.operator import LatentOperator, operator_arguments
from ups.models.weights import save_model, save_skipped
from ups.parameters.section import Section
from ups.parameters.shared import Latent
from ups.parameters.train_codec import TrainCodec
from ups.stages.machine import project_machine
from ups.stages.runner import Inputs, main
from ups.stages.training import Execution
from ups.training.codec import CodecObjective
from ups.training.joint import JointModel, JointObjective
from ups.training.loop import Trained

NAME = "train_codec"
INPUTS = {"dataset": "artifacts/prepare_data/dataset.h5"}
OPERATOR = "operator"  # the folder, beside the codec's weights, of the operator that was trained with it


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
    codec, joint, optimization = Codec(**arguments), params.train_codec.joint_operator, params.train_codec.optimization
    (outputs / OPERATOR).mkdir(exist_ok=True)  # the processes of a team share it
    if joint is None:
        trained = execution.train(codec, objective.loss, objective.validate, len(objective.train), optimization)
        save_skipped(outputs / OPERATOR, "train_codec.joint_operator is null")
        metrics = execution.finish(trained, arguments)
        return {**metrics, "reconstruction_nrmse": metrics["val_loss"]}
    operator = operator_arguments(
        joint.model.model_dump(), params.latent.tokens, params.latent.dim, train.coefficients, train.metadata
    )
    model = JointModel(codec, LatentOperator(**operator)).to(machine.device)
    both = JointObjective(objective, (train.coefficients, validation.coefficients), train.num_frames, joint.weight)
    together = execution.train(model, both.loss, both.validate, len(objective.train), optimization)
    save_model(outputs / OPERATOR, together.model.operator, operator, execution.fingerprint)
    trained = Trained(together.model.codec, together.history, together.updates, together.seconds)
    metrics = execution.finish(trained, arguments)
    one_step = together.history.rows[-1]["val_one_step_nrmse"]
    return {**metrics, "reconstruction_nrmse": metrics["val_loss"], "val_one_step_nrmse": one_step}


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
