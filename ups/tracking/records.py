"""What goes to the tracking store and what comes from it. Plain values, without mlflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Point:
    """One value of a curve at one step; `timestamp` in seconds since the epoch."""

    key: str
    step: int
    value: float
    timestamp: float


@dataclass(frozen=True)
class Weights:
    """A stage's file of weights: where it is, its place in the project, its md5 and size in bytes."""

    stage: str
    file: Path
    path: str
    md5: str
    bytes: int


@dataclass(frozen=True)
class Run:
    """All that one MLflow run is to hold.

    Attributes:
        experiment: the experiment's name.
        name: the run's name.
        fingerprint: of the pipeline whose results these are.
        started, finished: seconds since the epoch.
        params: values by dotted key.
        tags: text by name.
        points: curves and final metrics.
        files: (path, folder among the run's artifacts).
        documents: text, or JSON content, by file name among the run's artifacts.
        outputs: what identifies the output of each stage. The first run to hold an output holds its weights too; later
            ones say in the tag `cached_from.<stage>` which run that is.
        weights: files of weights.
        about: Markdown of what the experiment's runs have in common.
        summary: Markdown of what came out.
        tables: column -> values, by file name among the run's artifacts; MLflow shows those of several runs beside
            each other.
    """

    experiment: str
    name: str
    fingerprint: str
    started: float
    finished: float
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    points: Sequence[Point] = ()
    files: Sequence[tuple[Path, str]] = ()
    documents: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    weights: Sequence[Weights] = ()
    about: str = ""
    summary: str = ""
    tables: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Link:
    """Where a run is: store, id, and whether it was there before."""

    store: str
    run_id: str
    experiment_id: str
    was_there: bool


@dataclass(frozen=True)
class Published:
    """A run as the store holds it; of a curve, `metrics` has the last value."""

    run_id: str
    experiment: str
    name: str
    status: str
    started: float
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
