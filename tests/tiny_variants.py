"""Variants of a sweep through the stages that they concern, at the preset `tiny`, from what golden left: minutes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from standin import ROOT, copy_repository

UPSTREAM = ["simulate", "prepare_data", "train_codec", "encode_latents", "train_operator", "train_baseline"]
FROM_THE_CORRECTOR_ON = ["train_diffusion", "distill", "train_reward", "evaluate", "evaluate_ttc"]


def variants_of(sweep: str) -> list[str]:
    return yaml.safe_load((ROOT / f"params/sweeps/{sweep}.yaml").read_text())["variants"]


def make_golden(folder: Path) -> Path:
    """Copy the repository and run golden in it."""
    copy_repository(folder)
    _run(folder, "golden", [*UPSTREAM, *FROM_THE_CORRECTOR_ON])
    return folder


def run_variant(golden: Path, folder: Path, variant: str, stages: list[str]) -> Path:
    """Run stages of a variant in a copy of golden's project."""
    shutil.copytree(golden, folder)
    _run(folder, variant, stages)
    return folder


def metrics(folder: Path, stage: str) -> dict:
    return json.loads((folder / "artifacts" / stage / "metrics.json").read_text())


def _run(folder: Path, variant: str, stages: list[str]) -> None:
    commands = [["-c", "from ups.cli import main; main()", "params", "use", variant, "--preset", "tiny"]]
    for command in [*commands, *(["-m", f"ups.stages.{stage}"] for stage in stages)]:
        result = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
        assert result.returncode == 0, f"{variant}: {' '.join(command)}\n{result.stderr}"
