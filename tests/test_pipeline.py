"""The whole pipeline at the preset `tiny`, through the real DVC, in a copy of the repository.

The first run is what costs time, so all tests share one copy. Each finds it as the first run left it, whatever ran
before: any subset in any order has the same outcome.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import standin
from standin import ROOT, set_parameter

from ups.pipeline.stages import stage_names

pytestmark = pytest.mark.timeout(1800)  # against hanging; the first run takes 90 s on two idle cores, more on busy ones
AFTER_DIFFUSION = ["train_diffusion", "distill", "train_reward", "evaluate", "evaluate_ttc"]


# What decides which results are in the working tree, and which it is published as.
STATE = ("params/base.yaml", "dvc.lock", ".ups/base.yaml", ".ups/published.json")


@dataclass
class FirstRun:
    """A copy of the repository in which everything was run once.

    Attributes:
        folder: the copy.
        executed: the stages that ran.
        output: what it printed.
        contents: MD5 of every artifact, by path.
        state: the text of the files named by `STATE`.
    """

    folder: Path
    executed: list[str] = field(default_factory=list)
    output: str = ""
    contents: dict[str, str] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)

    def put_back(self) -> None:
        """Undo what a test changed."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        for name, text in self.state.items():
            (self.folder / name).write_text(text)
        if contents(self.folder) != self.contents:
            outs = [f"artifacts/{name}" for name in stage_names()]
            command = [sys.executable, "-m", "dvc", "checkout", "--quiet", "--force", *outs]
            subprocess.run(command, cwd=self.folder, check=True)
        assert contents(self.folder) == self.contents


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    folder = standin.copy_repository(tmp_path_factory.mktemp("pipeline") / "project")
    ups(folder, "params", "use", "base", "--preset", "tiny")
    executed, output = repro(folder)
    state = {name: (folder / name).read_text() for name in STATE}
    return FirstRun(folder, executed, output, contents(folder), state)


@pytest.fixture
def project(first_run):
    first_run.put_back()
    return first_run.folder


def ups(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run `ups`; returns stdout and stderr together."""
    result = standin.ups(folder, *arguments, OMP_NUM_THREADS="1", MLFLOW_TRACKING_URI="")
    output = result.stdout + result.stderr
    assert result.returncode == code, output[-3000:]
    return output


def repro(folder: Path, code: int = 0) -> tuple[list[str], str]:
    """Run the pipeline; returns the stages that were executed, and the output."""
    output = ups(folder, "repro", code=code)
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE), output


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in (folder / "artifacts").rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def in_order_of(names: list[str]) -> list[str]:
    return sorted(names, key=stage_names().index)


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_first_run_executes_every_stage_and_shows_the_table(first_run, project):
    output = first_run.output
    assert in_order_of(first_run.executed) == stage_names()
    for row in (
        "persistence",
        "spatial mean",
        "zero correction",
        "finite volumes",
        "FNO",
        "operator",
        "student",
        "TTC",
    ):
        assert row in output
    assert "Published as MLflow run" in output
    for name in stage_names():
        for file in ("metrics.json", "provenance.json"):
            assert json.loads((project / "artifacts" / name / file).read_text()), f"{name}/{file}"
    leftovers = [path.name for path in (project / "artifacts").iterdir() if path.name not in stage_names()]
    assert set(leftovers) <= {".gitignore"}


def test_second_run_executes_nothing_and_publishes_nothing(project):
    before = contents(project)
    executed, output = repro(project)
    assert executed == []
    assert "Already published" in output
    assert contents(project) == before


def test_a_change_of_the_corrector_reruns_what_follows_and_back_restores_everything(project):
    before = contents(project)
    base = (project / "params/base.yaml").read_text()
    set_parameter(project, "depth: 3\n", "depth: 2\n")
    assert in_order_of(repro(project)[0]) == AFTER_DIFFUSION
    assert contents(project) != before
    (project / "params/base.yaml").write_text(base)
    executed, output = repro(project)
    assert executed == []
    assert "Already published" in output
    assert contents(project) == before


def test_without_the_corrector_the_pipeline_still_runs(project):
    without = "hypothesis: h\nvaries: [train_diffusion]\ntrain_diffusion: {optimization: {epochs: 0}}\n"
    (project / "params/variants/without.yaml").write_text(without)
    ups(project, "params", "use", "without", "--preset", "tiny")
    assert in_order_of(repro(project)[0]) == AFTER_DIFFUSION
    ups(project, "params", "use", "base", "--preset", "tiny")
    assert repro(project)[0] == []


def test_another_machine_setting_is_no_reason_to_run(project):
    set_parameter(project, "num_threads: 1", "num_threads: 2")
    assert repro(project)[0] == []
    set_parameter(project, "num_threads: 2", "num_threads: 1")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("blocks: 6, kernel: 3", "blocks: 6, kernel: 4", r"kernel = 4 must be odd"),
        (
            "hidden: 48, blocks",
            "hiden: 48, blocks",
            r"'train_operator\.model\.hiden'.*'train_operator\.model\.hidden'",
        ),
        (
            "path: artifacts/simulate/data.h5",
            "path: data/absent.h5",
            r"data/absent\.h5.* does not exist.*ups data list",
        ),
    ],
)
def test_bad_input_is_explained_and_leaves_earlier_artifacts(project, old, new, message):
    before = contents(project)
    set_parameter(project, old, new)
    _, output = repro(project, code=1)
    assert re.search(message, output), output[-2000:]
    assert "Traceback" not in output
    assert contents(project) == before
    set_parameter(project, new, old)
    assert repro(project)[0] == []
    assert contents(project) == before


def test_a_file_of_ones_own_needs_no_simulation_and_no_other_change(project):
    (project / "data").mkdir(exist_ok=True)
    shutil.copy(project / "artifacts/simulate/data.h5", project / "data/own.h5")
    set_parameter(project, "path: artifacts/simulate/data.h5", "path: data/own.h5")
    executed, _ = repro(project)
    # The same numbers from another place: everything after prepare_data is what it was.
    assert in_order_of(executed) == ["simulate", "prepare_data"]
    assert json.loads((project / "artifacts/simulate/metrics.json").read_text())["status"] == "skipped"


def test_what_was_published_can_be_read_back(first_run, project):
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    published = re.search(r"Published as MLflow run (\w+)", first_run.output)
    assert published
    run = client.get_run(published.group(1))
    assert client.get_experiment(run.info.experiment_id).name == "burgers1d"
    assert run.data.tags["variant"] == "base"
    assert run.info.status == "FINISHED"
    assert run.data.params["train_operator.model.hidden"] == "48"
    for stage in ("train_codec", "train_operator", "train_diffusion", "distill", "train_baseline"):
        assert len(client.get_metric_history(run.info.run_id, f"{stage}/val_loss")) >= 2, stage
    assert run.data.metrics["evaluate/operator/pdebench/nrmse"] > 0
    assert run.data.metrics["evaluate_ttc/search/pdebench/nrmse"] > 0
    figures = [entry.path for entry in client.list_artifacts(run.info.run_id) if entry.path.endswith(".png")]
    assert len(figures) >= 4
    assert any(entry.path == "checkpoints.json" for entry in client.list_artifacts(run.info.run_id))
