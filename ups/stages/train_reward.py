"""Train the learned reward of the test-time search; skipped at 0 epochs.

dvc repro train_reward
"""

from pathlib import Path

from ups.parameters.optional_stages import TrainReward
from ups.parameters.section import Section
from ups.stages.runner import Inputs, main
from ups.stages.skipping import skip

NAME = "train_reward"
INPUTS = {"latents": "artifacts/encode_latents/latents.h5"}


class Params(Section):
    """What this stage reads of params/base.yaml."""

    train_reward: TrainReward


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, str]:
    """Skip: 0 epochs is the only length `ups.parameters` accepts in this version."""
    return skip(NAME, outputs, "train_reward.epochs is 0")


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
