"""Encode every frame of every split once, so that later stages train on latents alone.

Of a steady problem the two frames are the problem and its solution.

dvc repro encode_latents
"""

from pathlib import Path
from typing import Any

import torch

from ups.data.dataset import read_metadata, read_split
from ups.data.fields import Split
from ups.data.latents import LatentsWriter
from ups.data.reference_frame import ReferenceFrame
from ups.data.steady import as_pairs
from ups.models.codec import Codec
from ups.models.weights import load_model, weights_hash
from ups.parameters.section import Section
from ups.stages.machine import project_machine
from ups.stages.runner import Inputs, main

NAME = "encode_latents"
INPUTS = {
    "dataset": "artifacts/prepare_data/dataset.h5",
    "codec": "artifacts/train_codec/model.safetensors",
    "codec_config": "artifacts/train_codec/config.json",
}
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Params(Section):
    """This stage has no parameters of its own."""


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    """Write `latents.h5`; the metrics hold the size and the spread of the latents."""
    machine = project_machine()
    folder = inputs["codec"].parent
    codec = load_model(folder, Codec).to(machine.device)
    metadata = read_metadata(inputs["dataset"])
    frame = ReferenceFrame(codec.frame, metadata)
    metrics: dict[str, Any] = {}
    with LatentsWriter(outputs / "latents.h5", metadata, weights_hash(folder)) as writer:
        for split in SPLITS:
            data = as_pairs(read_split(inputs["dataset"], split))
            frames = frame.observe(data.fields).fields.flatten(0, 1).split(1024)
            with torch.no_grad():
                tokens = torch.cat([codec.encode(u.to(machine.device)).cpu() for u in frames])
            writer.write(split, tokens.unflatten(0, data.fields.shape[:2]), data.coefficients)
            metrics[split] = {"trajectories": len(data), "std": float(tokens.std())}
    return metrics


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
