"""Stage `prepare_data`: the one file that everything later reads.

    python -m ups.stages.prepare_data        (or: dvc repro prepare_data)

Reads the file at `data.path` in chunks, sub-samples it, splits it by trajectory, computes the normalisation from the
training split alone, and audits the result. Writes `dataset.h5` (`ups.data.dataset`) and `audit.json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ups.data.audit import SplitAudit, check_overlap
from ups.data.catalogue import check_published
from ups.data.dataset import DatasetWriter
from ups.data.fields import FieldMetadata, Normalization, Split, TrainingRange
from ups.data.progress import Progress
from ups.data.quantities import change, conserved
from ups.data.readers import Source, open_source
from ups.data.splits import resolve_splits
from ups.errors import DataError
from ups.parameters.equations import EQUATIONS
from ups.parameters.prepare_data import PrepareData
from ups.parameters.section import Section
from ups.parameters.shared import Data, Task
from ups.stages.runner import Inputs, main

NAME = "prepare_data"
INPUTS = {"source": "{data.path}"}

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Params(Section):
    task: Task
    data: Data
    prepare_data: PrepareData


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    data = params.data
    with open_source(inputs["source"], data.space_stride, data.time_stride) as source:
        coefficients, notes = _coefficients(source, params.task)
        ranges = {name: getattr(data.splits, name) for name in SPLITS}
        rows = resolve_splits(ranges, source.num_samples, str(source.path))
        published = check_published(source.path)
        if published == "differs":
            notes.append(f"{source.path} has the name of a published file, but another MD5: it is not that file.")
        _check_fields(source, params.task)
        changes = _changes(source, params.task.equation, coefficients)
        audits = {name: SplitAudit(rows[name].start, changes, all(source.grid.periodic)) for name in SPLITS}
        with DatasetWriter(outputs / "dataset.h5") as writer:
            _copy(source, coefficients, rows, audits, writer)
            overlap = check_overlap(audits, params.prepare_data.min_distance)
            metadata = _metadata(source, params.task.equation, coefficients, audits["train"])
            writer.finish(metadata)
    for note in notes:
        print(f"{NAME}: {note}", file=sys.stderr)
    audit = {
        "source": {
            "path": str(source.path),
            "layout": source.layout,
            "samples": source.num_samples,
            "published_md5": published,
        },
        "notes": notes,
        "metadata": metadata.model_dump(mode="json"),
        "coefficients": dict(zip(metadata.coefficients, coefficients, strict=True)),
        "frames": source.num_frames,
        "splits": {name: split.report() for name, split in audits.items()},
        "overlap": overlap,
    }
    (outputs / "audit.json").write_text(json.dumps(audit, indent=2) + "\n")
    return {
        "trajectories": {name: len(rows[name]) for name in SPLITS},
        "points": list(source.grid.points),
        "frames": source.num_frames,
        "nearest_initial_conditions": min(pair["distance"] for pair in overlap["nearest"].values()),
        "largest_change_of_mean": max(split.largest_drift for split in audits.values()),
    }


def _copy(
    source: Source,
    coefficients: list[float],
    rows: dict[Split, range],
    audits: dict[Split, SplitAudit],
    writer: DatasetWriter,
) -> None:
    with Progress(NAME, sum(map(len, rows.values())), "trajectories") as progress:
        for name in SPLITS:
            writer.begin_split(name, rows[name], source.num_frames, len(source.channels), source.grid.points)
            for fields in source.chunks(rows[name].start, rows[name].stop):
                audits[name].update(fields)
                writer.append(fields, np.tile(np.array(coefficients, dtype=np.float32), (len(fields), 1)))
                progress.update(len(fields))


def _check_fields(source: Source, task: Task) -> None:
    equation = EQUATIONS[task.equation]
    if (source.grid.rank, source.channels) != (equation.rank, equation.channel_names):
        raise DataError(
            f"{source.path} has the fields {', '.join(source.channels)} in {source.grid.rank} dimension(s); "
            f"'{task.equation}' has {', '.join(equation.channel_names)} in {equation.rank}. Choose the task that fits "
            "the file, or another data.path."
        )


def _changes(
    source: Source, equation: str, coefficients: list[float]
) -> Callable[[npt.NDArray[np.float32]], dict[str, float]]:
    """Return what measures how far conserved quantities change in a chunk (B, T, C, *space)."""
    ones = (1.0,) * len(source.channels)
    metadata = _described(source, equation, Normalization(mean=ones, std=ones))
    quantities = conserved(metadata)

    def measure(fields: npt.NDArray[np.float32]) -> dict[str, float]:
        u = torch.from_numpy(fields).double()
        table = torch.tensor([coefficients], dtype=torch.float64).expand(len(u), -1)
        return {
            name: float(change(quantity, u, u[:, :1].expand_as(u), table, metadata).abs().max())
            for name, quantity in quantities.items()
        }

    return measure


def _coefficients(source: Source, task: Task) -> tuple[list[float], list[str]]:
    """Return the coefficients in the equation's order, the file's before the task's, and notes on where they differ."""
    names = EQUATIONS[task.equation].coefficient_names
    notes = []
    if source.equation is None:
        notes.append(f"{source.path} does not say which equation it holds; task.equation = '{task.equation}' is taken.")
    elif source.equation != task.equation:
        raise DataError(
            f"{source.path} holds the equation '{source.equation}' ({source.coefficients}), but task.equation is "
            f"'{task.equation}'. Choose the task that fits the file, or another data.path."
        )
    stated = {name: value for name, value in source.coefficients.items() if name in names}
    notes += [
        f"{source.path} was made with {name} = {value:g}, task.coefficients.{name} is {task.coefficients[name]:g}; the "
        "file's value is used."
        for name, value in stated.items()
        if not np.isclose(value, task.coefficients[name], rtol=1e-6, atol=0)
    ]
    notes += [
        f"{source.path} does not state its {name}; task.coefficients.{name} = {task.coefficients[name]:g} is taken."
        for name in names
        if name not in stated
    ]
    others = ", ".join(f"{name} = {value:g}" for name, value in source.coefficients.items() if name not in stated)
    if others:
        notes.append(f"{source.path} also states {others}, which are no coefficients of '{task.equation}'.")
    return [stated.get(name, task.coefficients[name]) for name in names], notes


def _described(source: Source, equation: str, normalization: Normalization) -> FieldMetadata:
    return FieldMetadata(
        equation=equation,
        channels=source.channels,
        units=source.units,
        coefficients=EQUATIONS[equation].coefficient_names,
        grid=source.grid,
        dt=source.dt,
        time_unit=source.time_unit,
        normalization=normalization,
    )


def _metadata(source: Source, equation: str, coefficients: list[float], train: SplitAudit) -> FieldMetadata:
    std = train.statistics.std
    if not (std > 0).all():
        raise DataError(
            f"{source.path}: channel '{source.channels[int(std.argmin())]}' is constant over the training split, so "
            "there is nothing to learn and nothing to normalise by. Check data.splits.train and the file."
        )
    normalization = Normalization(mean=tuple(train.statistics.mean.tolist()), std=tuple(std.tolist()))
    covered = TrainingRange(
        coefficients=tuple((value, value) for value in coefficients),
        trajectories=len(train.initial),
        frames=source.num_frames,
    )
    return _described(source, equation, normalization).model_copy(update={"training": covered})


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
