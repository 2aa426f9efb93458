"""A comparison that stays: its figure, and an MLflow run with its text, its numbers and its verdicts."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

from ups import tracking
from ups.evaluation.comparison import Question
from ups.evaluation.figures.paired_differences import draw_paired_differences
from ups.parameters.selection import DEFAULT_PRESET
from ups.report.comparison import Report, as_dict, find, report, text

FIGURES = Path(".ups/comparisons")


def compare(
    variants: Sequence[str],
    seeds: Sequence[int] | None = None,
    question: Question | None = None,
    preset: str = DEFAULT_PRESET,
    task: str | None = None,
    figure: Path | None = None,
) -> tuple[Report, Path]:
    """Compare variants with the first one and draw the differences; returns the report and the figure's path.

    Raises:
        UpsError: as `ups.report.comparison.find` and `report`.
    """
    question = question or Question()
    found = report(find(list(variants), seeds, preset=preset, task=task), question)
    name = "_".join(["_vs_".join(variants), question.protocol, question.model, question.metric, question.horizon])
    path = figure or FIGURES / f"{name}.png"
    draw_paired_differences(path, found.comparisons)
    return found, path


def publish(found: Report, figure: Path) -> tracking.Link:
    """Keep a comparison in MLflow, in an experiment beside that of the runs; the same one is kept once.

    Raises:
        TrackingError: if the store cannot be reached.
    """
    content, now = as_dict(found), time.time()
    question, names = found.comparisons[0].question, [each.method for each in found.comparisons]
    reference = found.comparisons[0].reference
    points = [
        tracking.Point(tracking.metric_key(each.method, key), 0, value, now)
        for each in found.comparisons
        for key, value in {"difference": each.difference, "low": each.low, "high": each.high}.items()
        if value is not None and math.isfinite(value)
    ]
    verdicts = {f"verdict.{each.method}": str(each.verdict) for each in found.comparisons}
    return tracking.log(
        tracking.Run(
            experiment=f"{found.task}-comparisons",
            name=f"{' and '.join(names)} against {reference}",
            fingerprint=hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest(),
            started=now,
            finished=now,
            params={"question": str(question), "seeds": [pair.seed for pair in found.comparisons[0].pairs]},
            tags={"task": found.task, "reference": reference, **verdicts},
            points=points,
            files=[(figure, "")],
            summary="```\n" + "\n".join(text(found)) + "\n```",
            documents={"comparison.txt": "\n".join(text(found)) + "\n", "comparison.json": content},
        )
    )
