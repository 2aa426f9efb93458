"""Train the learned reward of the test-time search, and say whether it ranks candidates better than chance.

dvc repro train_reward
"""

from pathlib import Path
from typing import Any

import torch

from ups.data.dataset import read_split
from ups.evaluation.significance import paired_test
from ups.inference.ranking import draw_triplets
from ups.inference.surrogate import load_surrogate
from ups.models.reward import RewardNetwork
from ups.parameters.evaluate_ttc import SearchedCandidates
from ups.parameters.section import Section
from ups.parameters.train_reward import TrainReward
from ups.stages.machine import project_machine
from ups.stages.runner import Inputs, main
from ups.stages.skipping import STEADY, is_for_steady, skip
from ups.stages.training import Execution
from ups.training.reward import CHANCE, RewardObjective

NAME = "train_reward"
INPUTS = {
    "dataset": "artifacts/prepare_data/dataset.h5",
    "codec": "artifacts/train_codec/model.safetensors",
    "codec_config": "artifacts/train_codec/config.json",
    "operator": "artifacts/train_operator/model.safetensors",
    "operator_config": "artifacts/train_operator/config.json",
    "corrector": "artifacts/train_diffusion/model.safetensors",
    "corrector_config": "artifacts/train_diffusion/config.json",
}


class Params(Section):
    """What this stage reads of params/base.yaml."""

    seed: int
    train_reward: TrainReward
    evaluate_ttc: SearchedCandidates


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    """Rank candidates of training trajectories by their true errors, and train a network to do so without the truth."""
    settings = params.train_reward
    if settings.optimization.epochs == 0:
        return skip(NAME, outputs, "train_reward.optimization.epochs is 0")
    if is_for_steady(inputs["operator"].parent):
        return skip(NAME, outputs, STEADY)
    machine = project_machine()
    splits = {name: read_split(inputs["dataset"], name) for name in ("train", "validation")}
    metadata = splits["train"].metadata
    codec, operator, corrector = (inputs[part].parent for part in ("codec", "operator", "corrector"))
    surrogate = load_surrogate(codec, operator, corrector, None, metadata).to(machine.device)
    if surrogate.corrector is None:
        return skip(NAME, outputs, "train_diffusion was skipped, and candidates are drawn from the corrector")
    train, validation = (
        draw_triplets(
            surrogate, data.select(slice(settings.trajectories)).to(machine.device), params.evaluate_ttc, params.seed
        )
        for data in splits.values()
    )
    objective = RewardObjective(train, validation)
    arguments = {
        "channels": len(metadata.channels),
        "rank": metadata.grid.rank,
        "num_coefficients": len(metadata.coefficients),
        "hidden": settings.hidden,
        "depth": settings.depth,
        "kernel": settings.kernel,
    }
    torch.manual_seed(params.seed)
    network = RewardNetwork(**arguments)
    network.set_statistics(train.previous.cpu(), train.candidates[:, 0].cpu())
    execution = Execution(NAME, params, inputs, outputs, machine)
    trained = execution.train(
        network.to(machine.device), objective.loss, objective.validate, len(train), settings.optimization
    )
    metrics = execution.finish(trained, arguments)
    # Steps of one trajectory are not independent, trajectories are.
    with torch.no_grad():
        accuracy = objective.by_trajectory(trained.model).cpu()
    gate = paired_test(1 - accuracy, torch.full_like(accuracy, 1 - CHANCE))
    if not gate["better"]:
        print(f"{NAME}: the learned reward ranks candidates no better than chance on validation trajectories")
    return {
        **metrics,
        "samples": len(train),
        "val_accuracy": float(accuracy.mean()),
        "chance": CHANCE,
        "beats_chance": gate["better"],
        "gate": gate,
    }


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
