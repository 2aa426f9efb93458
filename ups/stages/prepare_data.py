"""Stage `prepare_data`: the one file that everything later reads.

    python -m ups.stages.prepare_data        (or: dvc repro prepare_data)

Reads the file at `data.path` in chunks, sub-samples it, splits it by initial condition, alike in all regimes, computes
the normalisation from the training split alone, and audits the result. Writes `dataset.h5` (`ups.data.dataset`) and
`audit.json`.
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

from ups.data import regimes
from ups.data.audit import SplitAudit, check_overlap
from ups.data.catalogue import check_published
from ups.data.dataset import DatasetWriter
from ups.data.fields import FieldMetadata, Normalization, Split, TrainingRange
from ups.data.progress import Progress
from ups.data.quantities import change, conserved
from ups.data.readers import Source, open_source
from ups.data.regime_kind import kind
from ups.data.regimes import Rows, Samples
from ups.errors import DataError
from ups.parameters.equations import EQUATIONS
from ups.parameters.prepare_data import PrepareData
from ups.parameters.section import Section
from ups.parameters.shared import Data, Task
from ups.stages.runner import Inputs, main

NAME = "prepare_data"
INPUTS = {"source": "{data.path}"}

SPLITS: tuple[Split, ...] = regimes.SPLITS


class Params(Section):
    task: Task
    data: Data
    prepare_data: PrepareData


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    data = params.data
    with open_source(inputs["source"], data.space_stride, data.time_stride) as source:
        samples, notes = regimes.assign(source, params.task, data)
        rows = regimes.split(source, samples, data)
        published = check_published(source.path)
        if published == "differs":
            notes.append(f"{source.path} has the name of a published file, but another MD5: it is not that file.")
        _check_fields(source, params.task)
        changes = _changes(source, params.task.equation)
        audits = {name: SplitAudit(rows[name].tolist(), changes, all(source.grid.periodic)) for name in SPLITS}
        with DatasetWriter(outputs / "dataset.h5") as writer:
            _copy(source, samples, rows, audits, writer)
            overlap = check_overlap(audits, params.prepare_data.min_distance)
            trained = samples.coefficients[rows["train"]]
            metadata = _metadata(source, params.task.equation, trained, audits["train"])
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
        **_coefficients(metadata, samples, rows),
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
    samples: Samples,
    rows: dict[Split, Rows],
    audits: dict[Split, SplitAudit],
    writer: DatasetWriter,
) -> None:
    with Progress(NAME, sum(map(len, rows.values())), "trajectories") as progress:
        for name in SPLITS:
            writer.begin_split(name, rows[name].tolist(), source.num_frames, len(source.channels), source.grid.points)
            for run, fields in regimes.chunks(source, rows[name]):
                table = samples.coefficients[run.start : run.stop]
                audits[name].update(fields, table)
                writer.append(fields, table.astype(np.float32))
                progress.update(len(fields))


def _check_fields(source: Source, task: Task) -> None:
    equation = EQUATIONS[task.equation]
    if (source.grid.rank, source.channels) != (equation.rank, equation.channel_names):
        raise DataError(
            f"{source.path} has the fields {', '.join(source.channels)} in {source.grid.rank} dimension(s); "
            f"'{task.equation}' has {', '.join(equation.channel_names)} in {equation.rank}. Choose the task that fits "
            "the file, or another data.path."
        )


def _changes(source: Source, equation: str) -> Callable[[npt.NDArray[np.float32], Any], dict[str, float]]:
    """Return what measures how far conserved quantities change in a chunk (B, T, C, *space), coefficients (B, P)."""
    ones = (1.0,) * len(source.channels)
    metadata = _described(source, equation, Normalization(mean=ones, std=ones))
    quantities = conserved(metadata)

    def measure(fields: npt.NDArray[np.float32], coefficients: Any) -> dict[str, float]:
        u = torch.from_numpy(fields).double()
        table = torch.from_numpy(coefficients)
        return {
            name: float(change(quantity, u, u[:, :1].expand_as(u), table, metadata).abs().max())
            for name, quantity in quantities.items()
        }

    return measure


def _coefficients(metadata: FieldMetadata, samples: Samples, rows: dict[Split, Rows]) -> dict[str, Any]:
    """Return what the audit says on coefficients: their values, or for several regimes each with its trajectories."""
    names, table = metadata.coefficients, samples.coefficients
    every = np.unique(table, axis=0)
    if len(every) == 1:
        return {"coefficients": dict(zip(names, every[0].tolist(), strict=True))}
    trained = np.unique(table[rows["train"]], axis=0)
    found = [
        {
            "coefficients": dict(zip(names, regime.tolist(), strict=True)),
            "kind": kind(regime.tolist(), trained.tolist()),
            "trajectories": {name: int((table[rows[name]] == regime).all(1).sum()) for name in SPLITS},
        }
        for regime in every
    ]
    return {"regimes": found}


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


def _metadata(source: Source, equation: str, coefficients: Any, train: SplitAudit) -> FieldMetadata:
    std = train.statistics.std
    if not (std > 0).all():
        raise DataError(
            f"{source.path}: channel '{source.channels[int(std.argmin())]}' is constant over the training split, so "
            "there is nothing to learn and nothing to normalise by. Check data.splits.train and the file."
        )
    normalization = Normalization(mean=tuple(train.statistics.mean.tolist()), std=tuple(std.tolist()))
    trained = np.unique(coefficients, axis=0)
    covered = TrainingRange(
        coefficients=tuple(zip(trained.min(0).tolist(), trained.max(0).tolist(), strict=True)),
        trajectories=len(train.initial),
        frames=source.num_frames,
        regimes=tuple(map(tuple, trained.tolist())) if len(trained) > 1 else (),
    )
    return _described(source, equation, normalization).model_copy(update={"training": covered})


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
