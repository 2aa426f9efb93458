"""Train the refinement from coefficients to a steady solution; skipped at 0 epochs.

dvc repro train_steady_prior
"""

from pathlib import Path

from ups.parameters.optional_stages import TrainSteadyPrior
from ups.parameters.section import Section
from ups.stages.runner import Inputs, main
from ups.stages.skipping import skip

NAME = "train_steady_prior"
INPUTS = {"latents": "artifacts/encode_latents/latents.h5"}


class Params(Section):
    """What this stage reads of params/base.yaml."""

    train_steady_prior: TrainSteadyPrior


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, str]:
    """Skip: 0 epochs is the only length `ups.parameters` accepts in this version."""
    return skip(NAME, outputs, "train_steady_prior.epochs is 0")


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
