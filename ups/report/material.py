"""The files of the runs, read once, with a note of each: what is on the page can be traced to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pandas as pd

from ups.errors import UpsError
from ups.pipeline.lock import DVC_LOCK, read_lock
from ups.report.runs import Chosen, Run

P = ParamSpec("P")
T = TypeVar("T")


class Material:
    """Reads the files of runs. What is missing or broken is None, and a broken file is noted.

    Args:
        chosen: the runs.

    Attributes:
        used: every file that was read.
        problems: sentences on files that could not be read.
    """

    def __init__(self, chosen: Chosen) -> None:
        self.chosen = chosen
        self.used: dict[Path, None] = {}
        self.problems: dict[str, None] = {}
        self._content: dict[Path, Any] = {}

    def json(self, run: Run, stage: str, name: str = "metrics.json") -> dict[str, Any] | None:
        """Return the object in a JSON file of a stage."""

        def read(path: Path) -> dict[str, Any]:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError(f"it holds {type(content).__name__} instead of an object")
            return content

        return self._read(run.artifacts / stage / name, read)

    def csv(self, run: Run, stage: str, name: str) -> pd.DataFrame | None:
        """Return the table in a CSV file of a stage; None too if it is empty."""
        found = self._read(run.artifacts / stage / name, pd.read_csv)
        return None if found is None or found.empty else found

    def parquet(self, run: Run, stage: str, name: str) -> pd.DataFrame | None:
        """Return the table in a parquet file of a stage."""
        return self._read(run.artifacts / stage / name, pd.read_parquet)

    def bytes(self, run: Run, stage: str, name: str) -> bytes | None:
        """Return a file of a stage as it is."""
        return self._read(run.artifacts / stage / name, Path.read_bytes)

    def lock(self, run: Run) -> dict[str, Any] | None:
        """Return the stages in the `dvc.lock` of a run."""
        return self._read(run.folder / DVC_LOCK, read_lock)

    def note(self, path: Path) -> None:
        """Note a file that something else reads."""
        if path.is_file():
            self.used[path] = None

    def attempt(self, what: str, make: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return what `make` returns; if the files do not allow it, note why and return None."""
        try:
            return make(*args, **kwargs)
        except (UpsError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{error}" if isinstance(error, UpsError) else f"{type(error).__name__}: {error}"
            self.problems[f"{what}: {reason}"] = None
            return None

    def stages(self) -> list[str]:
        """Return the stages that any run holds results of, in the pipeline's order where it is known."""
        there = {path.name for run in self.chosen.runs for path in run.artifacts.glob("*") if path.is_dir()}
        order = list(dict.fromkeys(stage for run in self.chosen.runs for stage in run.fingerprints)) or _order()
        return [stage for stage in order if stage in there] + sorted(there - set(order))

    def _read(self, path: Path, read: Callable[[Path], T]) -> T | None:
        if path not in self._content:
            self._content[path] = None
            if path.is_file():
                self.used[path] = None
                self._content[path] = self.attempt(str(path), read, path)
        found: T | None = self._content[path]
        return found


def md5(path: Path) -> str:
    """Return the md5 of a file, as DVC names it."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _order() -> list[str]:
    from ups.pipeline.stages import stage_names

    return stage_names()
