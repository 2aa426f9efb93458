"""The worked example of docs/extending.md: its changes apply to a copy of the project, and do what the page says."""

import json
import re
import subprocess
import sys

import pytest
import standin
from standin import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text()
VARIANTS = ("golden", "neighbour-corrector")
AFTER_THE_OPERATOR = {"train_diffusion", "distill", "train_reward", "evaluate", "evaluate_ttc"}

# Trains the variant's corrector and student on made-up latents, with the stages' own code and the variant's parameters.
_RUN = """
import json, sys
from pathlib import Path

import torch

sys.path.insert(0, "tests")
from small_surrogate import METADATA, write_models
from test_neighbour_corrector import test_a_token_moves_the_correction_of_its_neighbours_and_of_no_other as page_test

from ups.data.latents import LatentsWriter
from ups.inference.surrogate import load_surrogate
from ups.parameters.files import validate_section
from ups.parameters.selection import Selection
from ups.stages import distill, train_diffusion

for count in (0, 1, 2):
    page_test(count)
made = Path("made")
folders = write_models(made)
with LatentsWriter(made / "latents.h5", METADATA, "codec") as writer:
    for seed, split in enumerate(("train", "validation")):
        tokens = torch.randn(8, 6, 8, 4, generator=torch.Generator().manual_seed(seed)).cumsum(1)
        writer.write(split, tokens, torch.full((8, 1), 0.01))
raw = Selection(sys.argv[1], preset="tiny").resolve()
inputs = {part: folders[part] / "model.safetensors" for part in ("codec", "operator")}
inputs["latents"] = made / "latents.h5"
found = {}
for stage in (train_diffusion, distill):
    outputs = made / stage.NAME
    outputs.mkdir()
    sections = validate_section(stage.Params, {key: raw[key] for key in stage.Params.model_fields})
    found[stage.NAME] = stage.run(sections, inputs, outputs)
    (outputs / "metrics.json").write_text(json.dumps(found[stage.NAME]))
    inputs["corrector"] = outputs / "model.safetensors"
surrogate = load_surrogate(
    folders["codec"], folders["operator"], made / "train_diffusion", made / "distill", METADATA
)
forecast = surrogate.forecaster("corrected")(torch.randn(2, 1, 1, 32), 3, torch.full((2, 1), 0.01))
weights = surrogate.corrector.mlp[0].weight
print(json.dumps({
    "status": [metrics["status"] for metrics in found.values()],
    "inputs": weights.shape[1],
    "seen": [bool(part.abs().sum() > 0) for part in weights[:, :-1].split(4, dim=1)],
    "shape": list(forecast.shape),
    "finite": bool(forecast.isfinite().all()),
}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = standin.copy_repository(tmp_path_factory.mktemp("example"))
    changes = re.findall(r"^```diff\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(changes) == 3
    for change in changes:
        applied = subprocess.run(
            ["git", "apply", "--recount", "-C1", "-"],
            cwd=folder,
            input=change,
            text=True,
            capture_output=True,
            check=False,
        )
        assert applied.returncode == 0, f"docs/extending.md: {applied.stderr}\n{change}"
    for name, content in re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', PAGE, re.DOTALL | re.MULTILINE):
        if name == "dvc.yaml":  # an entry for it, not all of it
            content = (folder / name).read_text().replace("\n  evaluate:\n", f"\n{content}\n  evaluate:\n")
        else:
            assert not (folder / name).exists()
        (folder / name).write_text(content)
    assert standin.ups(folder, "deps", "--write").returncode == 0
    standin.git(folder, "add", ".")
    standin.git(folder, "commit", "-q", "-m", "the example")
    return folder


def test_the_project_takes_the_example_for_its_own(project):
    for arguments in (["deps"], ["params", "check", VARIANTS[1]]):
        result = standin.ups(project, *arguments)
        assert (result.returncode, result.stderr) == (0, "")
    shown = standin.ups(project, "params", "diff", *VARIANTS).stdout
    assert shown.splitlines()[0] == "train_diffusion.objective.neighbours: 0 -> 1"
    said = next(line for line in PAGE.splitlines() if line.startswith("ups params diff"))
    assert said.endswith("# train_diffusion.objective.neighbours: 0 -> 1")


def test_the_plan_shares_what_the_page_says(project):
    plan = json.loads(standin.ups(project, "plan", *VARIANTS, "--preset", "tiny", "--json").stdout)
    alone = [stage["stage"] for stage in plan["stages"] if len(stage["variants"]) == 1]
    assert sorted(alone) == sorted([*AFTER_THE_OPERATOR, *AFTER_THE_OPERATOR])


def test_the_stages_train_it_and_the_surrogate_uses_it(project):
    command = [sys.executable, "-c", _RUN, VARIANTS[1]]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["status"] == ["trained", "trained"]
    assert found["inputs"] == 3 * 4 + 1  # three tokens of width 4, and tau
    assert all(found["seen"])
    assert (found["shape"], found["finite"]) == ([2, 3, 1, 32], True)


def test_the_stage_of_the_page_is_one(project):
    from ups.parameters.files import read_yaml

    entry = read_yaml(project / "dvc.yaml")["stages"]["measure_codec"]
    assert entry["outs"] == ["artifacts/measure_codec"]
    assert {"artifacts/train_codec/config.json", "ups/stages/measure_codec.py"} <= set(entry["deps"])
    (project / "artifacts/train_codec").mkdir(parents=True)
    (project / "artifacts/train_codec/config.json").write_text('{"parameters": 7}')
    subprocess.run([sys.executable, *entry["cmd"].split()[1:]], cwd=project, check=True)
    assert json.loads((project / "artifacts/measure_codec/metrics.json").read_text()) == {"parameters": 7}
    assert (project / "artifacts/measure_codec/provenance.json").is_file()


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_the_whole_sweep_of_the_page_at_the_smallest_size(project):
    swept = standin.ups(project, "sweep", *VARIANTS, "--preset", "tiny", "--no-publish")
    assert swept.returncode == 0, swept.stderr[-3000:]
    assert "18 executed" in swept.stdout
    compared = standin.ups(project, "compare", *VARIANTS, "--preset", "tiny")
    assert "neighbour-corrector against golden: too few seeds to tell" in compared.stdout
    assert "CONTROLLED" in compared.stdout
