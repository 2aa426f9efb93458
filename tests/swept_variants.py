"""Variants through all stages at the preset `tiny`, one after the other in one project: what they share is run once."""

import json
import os
import sys
from pathlib import Path

from standin import ups


def run(project: Path, variant: str, task: str | None = None) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    chosen = ["--task", task] if task else []
    result = ups(project, "sweep", variant, "--seeds", "42", "--preset", "tiny", "--no-publish", *chosen, PATH=path)
    assert result.returncode == 0, f"{variant}: {result.stdout[-3000:]}\n{result.stderr[-3000:]}"


def artifacts(project: Path, variant: str, task: str | None = None) -> Path:
    """Return the folder of what a variant's stages wrote."""
    return project / f".ups/results/{variant}-42.tiny{f'.{task}' if task else ''}/artifacts"


def metrics(project: Path, variant: str, stage: str, task: str | None = None) -> dict:
    return json.loads((artifacts(project, variant, task) / stage / "metrics.json").read_text())
