"""What the claims are answered from: the files of the runs at hand, and a note of every file that was read."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ups.errors import ArtifactError
from ups.evaluation.comparison import PER_TRAJECTORY, Comparison, Question, compare, select_values

PROTOCOLS = ("pdebench", "rollout_ic", "one_step")
# Where benchmarks keep their answers to claims on what no run of a sweep records, one file for each claim.
BENCHMARKS = Path("docs/results/benchmarks")


class Missing(Exception):
    """A claim cannot be measured with these runs; says what would be needed."""


class Evidence:
    """The runs a report is about.

    Args:
        runs: variant -> seed -> its folder `artifacts`.

    Attributes:
        used: the files that were read since the last `begin`.
    """

    def __init__(self, runs: Mapping[str, Mapping[int, Path]]) -> None:
        self.runs = {variant: dict(known) for variant, known in runs.items() if known}
        self.used: dict[Path, None] = {}
        self._tables: dict[Path, pd.DataFrame] = {}

    def begin(self) -> None:
        """Forget which files were read."""
        self.used = {}

    def need(self, *variants: str) -> None:
        """Ask for variants.

        Raises:
            Missing: naming those that are not among the runs.
        """
        absent = [name for name in variants if name not in self.runs]
        if absent:
            raise Missing(f"needs the variant{'s' if len(absent) > 1 else ''} {', '.join(absent)}")

    def seeds(self, *variants: str) -> list[int]:
        """Return the seeds that all these variants were run with.

        Raises:
            Missing: if there are none.
        """
        self.need(*variants)
        shared = set.intersection(*(set(self.runs[name]) for name in variants))
        if not shared:
            raise Missing(f"needs {' and '.join(variants)} with the same seeds")
        return sorted(shared)

    def protocol(self, variant: str, stage: str = "evaluate") -> str:
        """Return the protocol that this variant was evaluated on, the first of `PROTOCOLS`.

        Raises:
            Missing: if the stage has no results.
        """
        for seed in self.seeds(variant):
            metrics = self.metrics(variant, seed, stage)
            for name in PROTOCOLS:
                if any(isinstance(found, Mapping) and name in found for found in metrics.values()):
                    return name
        raise Missing(f"needs results of the stage {stage} of {variant}")

    def compare(self, method: str, reference: str, model: str, level: float) -> Comparison:
        """Compare the forecasts of two variants over their shared seeds, see `ups.evaluation.comparison`.

        Raises:
            Missing: if a run was not evaluated on this.
        """
        seeds = self.seeds(method, reference)
        question = Question(protocol=self.protocol(reference), model=model)
        values = {}
        for name in (reference, method):
            values[name] = {seed: self._values(self.runs[name][seed], "evaluate", question) for seed in seeds}
        return compare(values, reference, question, level)[0]

    def compare_models(
        self, variant: str, stage: str, method: str, reference: str, level: float
    ) -> tuple[Comparison, Question]:
        """Compare two models, or two modes of the search, of the same runs."""
        question = Question(protocol=self.protocol(variant, stage), model=method)
        values = {
            name: {
                seed: self._values(self.runs[variant][seed], stage, Question(protocol=question.protocol, model=name))
                for seed in self.seeds(variant)
            }
            for name in (reference, method)
        }
        return compare(values, reference, question, level)[0], question

    def metrics(self, variant: str, seed: int, stage: str) -> dict[str, Any]:
        """Return the `metrics.json` of a stage; empty if it is not there."""
        path = self.runs[variant][seed] / stage / "metrics.json"
        return self._json(path) if path.is_file() else {}

    def config(self, variant: str, seed: int, stage: str) -> dict[str, Any]:
        """Return the arguments that the model of a stage was built with; empty if it was skipped."""
        path = self.runs[variant][seed] / stage / "config.json"
        content = self._json(path) if path.is_file() else {}
        arguments = content.get("arguments", {})
        return arguments if isinstance(arguments, dict) else {}

    def benchmark(self, claim: str) -> dict[str, str] | None:
        """Return what a benchmark found out about a claim: verdict, measured, command, commit, machine.

        None if no benchmark was kept.

        Raises:
            ArtifactError: if the file lacks one of these.
        """
        path = BENCHMARKS / f"{claim}.json"
        if not path.is_file():
            return None
        found = self._json(path)
        lacking = [key for key in ("verdict", "measured", "command", "commit", "machine") if key not in found]
        if lacking:
            raise ArtifactError(f"{path} lacks {', '.join(lacking)}: run the benchmark again.")
        return found

    def audit(self) -> list[dict[str, Any]]:
        """Return every distinct audit of the data."""
        found: list[dict[str, Any]] = []
        for known in self.runs.values():
            for artifacts in known.values():
                path = artifacts / "prepare_data" / "audit.json"
                if path.is_file() and (content := self._json(path)) not in found:
                    found.append(content)
        return found

    def history(self, variant: str, seed: int, stage: str) -> list[dict[str, float]]:
        """Return the rows of a stage's `history.csv`; empty if it was skipped. A cell that is no number is NaN."""
        path = self.runs[variant][seed] / stage / "history.csv"
        if not path.is_file():
            return []
        self.used[path] = None
        with path.open(newline="") as file:
            return [{key: _number(text) for key, text in row.items()} for row in csv.DictReader(file)]

    def by_seed(self, variant: str, read: Iterable[tuple[int, float | None]], what: str) -> dict[int, float]:
        """Collect one number per seed.

        Raises:
            Missing: if no seed has it.
        """
        found = {seed: value for seed, value in read if value is not None}
        if not found:
            raise Missing(f"needs {what} of {variant}")
        return found

    def error(self, variant: str, seed: int, model: str, protocol: str) -> float:
        """Return the mean nRMSE of one run; NaN where a forecast diverged.

        Raises:
            Missing: if the run was not evaluated on this.
        """
        values = self._values(self.runs[variant][seed], "evaluate", Question(protocol=protocol, model=model))
        return float(values.mean(skipna=False))

    def _values(self, artifacts: Path, stage: str, question: Question) -> pd.Series:
        path = artifacts / stage / PER_TRAJECTORY
        if path not in self._tables:
            if not path.is_file():
                raise Missing(f"needs {path}, which the stage {stage} makes")
            self._tables[path] = pd.read_parquet(path)
        self.used[path] = None
        try:
            return select_values(self._tables[path], question, path)
        except ArtifactError as error:
            raise Missing(f"needs more than these runs hold: {error}") from None

    def _json(self, path: Path) -> dict[str, Any]:
        self.used[path] = None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ArtifactError(f"{path} is not valid JSON ({error}). Run its stage again.") from None
        return content if isinstance(content, dict) else {}


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
