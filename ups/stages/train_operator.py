"""Train the latent operator: one physical time step of the tokens.

dvc repro train_operator
"""

from pathlib import Path
from typing import Any

import torch

from ups.data.latents import read_latents
from ups.models.operator import LatentOperator
from ups.parameters.section import Section
from ups.parameters.train_operator import TrainOperator
from ups.stages.machine import project_machine
from ups.stages.runner import Inputs, main
from ups.stages.training import Execution
from ups.training.operator import OperatorObjective

NAME = "train_operator"
INPUTS = {"latents": "artifacts/encode_latents/latents.h5"}


class Params(Section):
    """What this stage reads of params/base.yaml."""

    seed: int
    train_operator: TrainOperator


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    """Train on rollouts from true frames; the metrics hold one-step and rollout errors in latent space."""
    machine = project_machine()
    train, validation = (read_latents(inputs["latents"], split).to(machine.device) for split in ("train", "validation"))
    settings = params.train_operator
    tokens, dim = train.tokens.shape[2:]
    arguments: dict[str, Any] = {
        "tokens": tokens,
        "dim": dim,
        "num_coefficients": train.coefficients.shape[1],
        "dt": train.metadata.dt,
        "backbone": settings.model.model_dump(),
    }
    torch.manual_seed(params.seed)
    operator = LatentOperator(**arguments)
    operator.set_statistics(train.tokens.mean((0, 1, 2)), train.tokens.std((0, 1, 2)))
    objective = OperatorObjective(train, validation, settings.losses, settings.rollout)
    execution = Execution(NAME, params, inputs, outputs, machine)
    trained = execution.train(operator, objective.loss, objective.validate, len(objective.train), settings.optimization)
    metrics = execution.finish(trained, arguments)
    return {**metrics, "val_rollout_loss": trained.history.rows[-1]["val_rollout_loss"]}


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
