"""A small surrogate with random weights and a small data set, as the stages leave them on disk."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ups.data.dataset import DatasetWriter
from ups.data.fields import FieldMetadata, Grid, Normalization, TrainingRange
from ups.inference.surrogate import Choice, load_surrogate
from ups.models.codec import Codec
from ups.models.corrector import ResidualCorrector
from ups.models.flow import FlowCorrector
from ups.models.operator import LatentOperator
from ups.models.weights import WEIGHTS, save_model, save_skipped

METADATA = FieldMetadata(
    equation="burgers",
    channels=("u",),
    units=("1",),
    coefficients=("viscosity",),
    grid=Grid(extent=(1.0,), points=(32,), origin=(0.0,), periodic=(True,)),
    dt=0.05,
    normalization=Normalization(mean=(0.4,), std=(2.0,)),
)
# The same, with what a prepared data set also knows.
TRAINED = METADATA.model_copy(
    update={"training": TrainingRange(coefficients=((0.01, 0.02),), trajectories=8, frames=9)}
)
CODEC = {
    "channels": 1,
    "points": 32,
    "tokens": 8,
    "dim": 4,
    "encoder": {"hidden": 8, "depth": 1, "kernel": 3},
    "decoder": {"hidden": 8, "depth": 1, "neighbours": 3, "frequencies": 2},
}
OPERATOR = {
    "tokens": 8,
    "dim": 4,
    "num_coefficients": 1,
    "dt": 0.05,
    "backbone": {
        "name": "pde_transformer",
        "hidden": 12,
        "depths": [1, 1],
        "group": 6,
        "heads": 2,
        "mlp_ratio": 2.0,
        "dropout": 0.0,
        "stem": 3,
    },
}
CORRECTOR = {"dim": 4, "hidden": 8, "depth": 2, "zero_init": False}
FLOW = {**CORRECTOR, "steps": 2, "solver": "midpoint", "noise": 0.5}
FLOW_STUDENT = {**FLOW, "steps": 1, "solver": "euler"}


def write_models(folder: Path, flow: bool = False) -> dict[str, Path]:
    """Write codec, operator, student and corrector with random weights; return the folder of each.

    With `flow` corrector and student are flows.
    """
    torch.manual_seed(0)
    parts: dict[str, tuple[nn.Module, dict]] = {
        "codec": (Codec(**CODEC), CODEC),
        "operator": (LatentOperator(**OPERATOR), OPERATOR),
        "student": (LatentOperator(**OPERATOR), OPERATOR),
        "corrector": (ResidualCorrector(**CORRECTOR), CORRECTOR),
    }
    if flow:
        parts |= {"student": (FlowCorrector(**FLOW_STUDENT), FLOW_STUDENT), "corrector": (FlowCorrector(**FLOW), FLOW)}
    for name, (model, arguments) in parts.items():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        (folder / name).mkdir(parents=True)
        save_model(folder / name, model, arguments, "key")
    return {name: folder / name for name in parts}


def write_no_reward(folder: Path) -> dict[str, Path]:
    """Write what `train_reward` leaves when it is skipped; return the inputs that `evaluate_ttc` finds there."""
    folder.mkdir()
    save_skipped(folder, "0 epochs")
    (folder / "metrics.json").write_text(json.dumps({"status": "skipped", "reason": "0 epochs"}))
    return {"reward": folder / WEIGHTS, "reward_metrics": folder / "metrics.json"}


def write_bundle(
    folder: Path, metadata: FieldMetadata = TRAINED, choice: Choice = "corrected", flow: bool = False
) -> Path:
    """Write a bundle of all the models above, those that it does not use too; `folder` is new."""
    folders = write_models(folder.with_name(f"{folder.name}-models"), flow)
    replace(load_surrogate(**folders, metadata=metadata), choice=choice).save(folder)
    return folder


def write_dataset(path: Path, rows: int = 6, frames: int = 5) -> Path:
    """Write a data set of noise; every split has `rows` trajectories, those of the test split come first."""
    generator = torch.Generator().manual_seed(0)
    with DatasetWriter(path) as writer:
        for at, split in enumerate(("train", "validation", "test")):
            first = rows * (2 - at)
            writer.begin_split(split, range(first, first + rows), frames, 1, (32,))
            fields = torch.randn(rows, frames, 1, 32, generator=generator).numpy()
            writer.append(fields, torch.full((rows, 1), 0.01).numpy())
        writer.finish(METADATA)
    return path
