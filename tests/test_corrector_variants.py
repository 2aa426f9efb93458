"""Every variant of the corrector through all the stages that it concerns, at the preset `tiny`; minutes long."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from standin import ROOT, copy_repository

UPSTREAM = ["simulate", "prepare_data", "train_codec", "encode_latents", "train_operator", "train_baseline"]
OWN = ["train_diffusion", "distill", "evaluate", "evaluate_ttc"]
VARIANTS = yaml.safe_load((ROOT / "params/sweeps/diffusion.yaml").read_text())["variants"]
ALL_BUT_GOLDEN = [name for name in VARIANTS if name != "golden"]

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]


def run(folder: Path, variant: str, stages: list[str]) -> None:
    commands = [["-c", "from ups.cli import main; main()", "params", "use", variant, "--preset", "tiny"]]
    for command in [*commands, *(["-m", f"ups.stages.{stage}"] for stage in stages)]:
        result = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
        assert result.returncode == 0, f"{variant}: {' '.join(command)}\n{result.stderr}"


def metrics(folder: Path, stage: str) -> dict:
    return json.loads((folder / "artifacts" / stage / "metrics.json").read_text())


@pytest.fixture(scope="module")
def golden(tmp_path_factory) -> Path:
    folder = copy_repository(tmp_path_factory.mktemp("golden"))
    run(folder, "golden", [*UPSTREAM, *OWN])
    return folder


@pytest.mark.parametrize("variant", ALL_BUT_GOLDEN)
def test_a_variant_runs_through_all_stages(golden, variant, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(golden, folder)
    first = ["train_operator"] if variant == "operator-longer" else []
    run(folder, variant, [*first, *OWN])
    found = metrics(folder, "evaluate")
    error = found["assembled"]["pdebench"]["nrmse"]["mean"]
    assert error is not None
    assert math.isfinite(error)
    corrector, before = metrics(folder, "train_diffusion"), metrics(golden, "train_diffusion")
    if variant in ("no-diffusion", "operator-longer"):
        assert corrector["status"] == "skipped"
        return
    assert corrector["explained_residual"] is not None
    same = variant in ("tau-beta", "corrector-depth-3")
    assert (corrector["train_loss"] == before["train_loss"]) == same
    assert ("ensemble" in found) == variant.startswith("flow")
    assert metrics(folder, "evaluate_ttc")["verdict"]["recommended"] in (True, False)
