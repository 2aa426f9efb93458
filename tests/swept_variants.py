"""Variants through all stages at the preset `tiny`, one after the other in one project: what they share is run once."""

import json
import os
import sys
from pathlib import Path

from standin import ups


def run(project: Path, variant: str) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    result = ups(project, "sweep", variant, "--seeds", "42", "--preset", "tiny", "--no-publish", PATH=path)
    assert result.returncode == 0, f"{variant}: {result.stdout[-3000:]}\n{result.stderr[-3000:]}"


def metrics(project: Path, variant: str, stage: str) -> dict:
    return json.loads((project / f".ups/results/{variant}-42.tiny/artifacts/{stage}/metrics.json").read_text())
