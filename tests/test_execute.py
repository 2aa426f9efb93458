"""What is run through DVC, and what a failing stage leaves behind."""

import hashlib
from pathlib import Path

import pytest
import standin
from standin import executed, set_parameter

from ups.pipeline import execute
from ups.pipeline.execute import Outcome, StageFailed


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(standin.make(tmp_path))
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def test_outcomes(project):
    assert execute.run_stage("prepare_data") is Outcome.RAN
    assert execute.run_stage("prepare_data") is Outcome.UNCHANGED
    assert execute.run_stage("train_operator") is Outcome.RAN
    set_parameter(project, "learning_rate: 0.0015\n", "learning_rate: 0.002\n")
    assert execute.run_stage("train_operator") is Outcome.RAN
    set_parameter(project, "learning_rate: 0.002\n", "learning_rate: 0.0015\n")
    assert execute.run_stage("train_operator") is Outcome.RESTORED
    assert executed(project) == ["prepare_data", "train_operator", "train_operator"]


@pytest.mark.parametrize("stage", ["prepare_data", "train_diffusion", "evaluate"])
def test_a_failing_stage_leaves_earlier_artifacts_as_they_were(project, stage):
    execute.reproduce()
    before = contents(project / "artifacts")
    executed(project)
    # Changing the stage's own parameters makes it run; the flag makes it fail after DVC removed its outputs.
    set_parameter(project, "train_reward:", f"train_reward:\n  fail: {stage}")
    path = project / "stage.py"
    path.write_text(path.read_text() + f"\n# {stage}\n")
    with pytest.raises(StageFailed, match=rf"artifacts/{stage}"):
        execute.reproduce([stage])
    assert executed(project)[-1] == stage
    after = contents(project / "artifacts")
    same_stage = {name: md5 for name, md5 in before.items() if name.startswith(stage)}
    assert {name: md5 for name, md5 in after.items() if name.startswith(stage)} == same_stage
    assert set(after) == set(before)


def test_a_first_run_that_fails_has_nothing_to_restore(project):
    set_parameter(project, "train_reward:", "train_reward:\n  fail: prepare_data")
    with pytest.raises(StageFailed, match="as they were"):
        execute.reproduce()


def test_the_exit_code_of_a_failure_is_one(project):
    (project / "dvc.yaml").write_text("stages: 3\n")
    result = standin.ups(project, "publish")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
