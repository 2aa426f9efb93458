"""Train the latent operator, which steps the tokens in time.

dvc repro train_operator
"""

from pathlib import Path
from typing import Any

import torch

from ups.data.dataset import read_split
from ups.data.latents import read_latents
from ups.data.reference_frame import ReferenceFrame
from ups.data.steady import is_steady
from ups.errors import ParameterError
from ups.models.codec import Codec
from ups.models.operator import LatentOperator, operator_arguments
from ups.models.weights import is_skipped, load_model
from ups.parameters.section import Section
from ups.parameters.train_operator import TrainOperator
from ups.stages.machine import project_machine
from ups.stages.runner import Inputs, main
from ups.stages.skipping import STEADY, skip
from ups.stages.training import Execution
from ups.training.machine import Machine
from ups.training.operator import FieldSpace, OperatorObjective
from ups.training.symmetries import check

NAME = "train_operator"
INPUTS = {
    "latents": "artifacts/encode_latents/latents.h5",
    "dataset": "artifacts/prepare_data/dataset.h5",
    "codec": "artifacts/train_codec/model.safetensors",
    "codec_config": "artifacts/train_codec/config.json",
    "joint_operator": "artifacts/train_codec/operator/model.safetensors",
    "joint_operator_config": "artifacts/train_codec/operator/config.json",
}


class Params(Section):
    """What this stage reads of params/base.yaml."""

    seed: int
    train_operator: TrainOperator


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    """Train on rollouts from true frames; the metrics hold one-step and rollout errors in latent space."""
    machine = project_machine()
    train, validation = (read_latents(inputs["latents"], split).to(machine.device) for split in ("train", "validation"))
    if is_steady(train.metadata):
        return skip(NAME, outputs, STEADY)
    settings = params.train_operator
    tokens, dim = train.tokens.shape[2:]
    arguments: dict[str, Any] = {
        **operator_arguments(
            settings.model.model_dump(), tokens, dim, train.coefficients, train.metadata, settings.conditioning
        ),
        "reencode": settings.reencode,
        "frames_per_call": settings.frames_per_call,
    }
    torch.manual_seed(params.seed)
    operator = LatentOperator(**arguments)
    if settings.initial == "joint":
        _start_from(operator, inputs["joint_operator"].parent)
    else:
        operator.set_statistics(train.tokens.mean((0, 1, 2)), train.tokens.std((0, 1, 2)))
    check(settings.symmetries, train.metadata)
    objective = OperatorObjective(
        train, validation, settings.losses, settings.rollout, _fields(inputs, machine), settings.symmetries
    )
    execution = Execution(NAME, params, inputs, outputs, machine)
    trained = execution.train(operator, objective.loss, objective.validate, len(objective.train), settings.optimization)
    metrics = execution.finish(trained, arguments)
    last = trained.history.rows[-1]
    return {**metrics, **{key: last[key] for key in ("val_rollout_loss", "val_rollout_nrmse") if key in last}}


def _start_from(operator: LatentOperator, folder: Path) -> None:
    """Take the weights of the operator that was trained with the codec, the scale of the latents included."""
    if is_skipped(folder):
        raise ParameterError(
            "train_operator.initial = 'joint', but train_codec trained no operator. Set train_codec.joint_operator, as "
            "the variant joint-operator does, or train_operator.initial to 'fresh'."
        )
    try:
        operator.load_state_dict(load_model(folder, LatentOperator).state_dict())
    except RuntimeError as error:
        raise ParameterError(
            f"train_operator.initial = 'joint': the operator in {folder} is of another kind ({error}). Give "
            "train_codec.joint_operator.model and train_operator.model the same values, or start 'fresh'."
        ) from None


def _fields(inputs: Inputs, machine: Machine) -> FieldSpace:
    """Return the codec, frozen, and the fields as it sees them, for losses and rollouts that decode."""
    codec = load_model(inputs["codec"].parent, Codec).keep_grid().to(machine.device)
    splits = (read_split(inputs["dataset"], split).to(machine.device) for split in ("train", "validation"))
    train, validation = (ReferenceFrame(codec.frame, data.metadata).observe(data.fields) for data in splits)
    return FieldSpace(codec, train, validation)


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
