"""What a run cost, from the files of its stages: seconds of training per stage, and time per forecast."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ups.errors import ArtifactError
from ups.evaluation.comparison import Question


@dataclass(frozen=True)
class Costs:
    """Costs of one run, or their means over runs.

    Attributes:
        training_seconds: stage -> wall seconds in its training loop, for the stages that trained.
        milliseconds_per_trajectory: of one forecast, batched as evaluated; None where it was not measured.
        evaluations_per_trajectory: network evaluations of one forecast; None for a model without a network.
    """

    training_seconds: Mapping[str, float]
    milliseconds_per_trajectory: float | None
    evaluations_per_trajectory: float | None

    @property
    def total_seconds(self) -> float:
        """Seconds of training in all stages together."""
        return sum(self.training_seconds.values())


def read_costs(artifacts: Path, question: Question) -> Costs:
    """Read the costs of the run in `artifacts`, of the forecasts those of the question's model and protocol.

    Raises:
        ArtifactError: if the run was not evaluated.
    """
    results = _json(artifacts / "evaluate" / "metrics.json").get(question.model, {}).get(question.protocol, {})
    seconds = results.get("seconds_per_trajectory")
    return Costs(
        {path.parent.name: _training_seconds(path) for path in sorted(artifacts.glob("*/history.csv"))},
        None if seconds is None else 1e3 * seconds,
        results.get("evaluations_per_trajectory"),
    )


def read_train_loss(artifacts: Path, stage: str) -> float | None:
    """Return the training loss at the end of a stage; None if the stage was skipped or is not there."""
    path = artifacts / stage / "metrics.json"
    loss = _json(path).get("train_loss") if path.is_file() else None
    return None if loss is None else float(loss)


def mean_costs(runs: Sequence[Costs]) -> Costs:
    """Return the means over runs; a stage that trained in some of them counts as zero in the others."""
    stages = dict.fromkeys(stage for run in runs for stage in run.training_seconds)
    return Costs(
        {stage: sum(run.training_seconds.get(stage, 0.0) for run in runs) / len(runs) for stage in stages},
        _mean([run.milliseconds_per_trajectory for run in runs]),
        _mean([run.evaluations_per_trajectory for run in runs]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _training_seconds(history: Path) -> float:
    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return float(rows[-1]["seconds"]) if rows else 0.0


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; run its stage first.") from None
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path} is not valid JSON: {error}. Run its stage again.") from None
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} must hold an object, not {type(content).__name__}.")
    return content
