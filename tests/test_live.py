"""Publishing while a sweep runs: curves early, results once, nothing left open."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import standin

from ups.tracking import close_abandoned, store

mlflow = pytest.importorskip("mlflow")

SWEEP = [sys.executable, "-c", "from ups.cli import main; main()", "sweep", "golden", "light-diffusion"]
# The stand-in's training, one epoch at a time, until the file `go` is there; the runner's temporary folder included.
_SLOW = """
import os, shutil
def slow(out, header, rows):
    fresh = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    fresh.mkdir()
    lines = [header]
    for row in rows:
        lines.append(row)
        (fresh / "history.csv").write_text("\\n".join(lines) + "\\n")
    while not pathlib.Path(ROOT, "go").exists():
        time.sleep(0.05)
    (fresh / "history.csv").rename(out / "history.csv")
    shutil.rmtree(fresh)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = standin.make(tmp_path / "project")
    code = (folder / "stage.py").read_text()
    written = '    (out / "history.csv").write_text("epoch,val_loss,not_measured\\n" + rows)\n'
    assert written in code
    slowly = '    slow(out, "epoch,val_loss,not_measured", rows.split())\n'
    code = code.replace(written, slowly).replace("import yaml\n", "import yaml\n" + _SLOW, 1)
    (folder / "stage.py").write_text(f"ROOT = {str(folder)!r}\n{code}")
    standin.git(folder, "commit", "-qam", "slow")
    monkeypatch.chdir(folder)
    close_abandoned()  # makes the database: two first users of it would crash in its migrations
    return folder


def runs(folder):
    client = mlflow.MlflowClient(tracking_uri=store())
    experiment = client.get_experiment_by_name("burgers1d")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    return client, {run.info.run_name: run for run in found}


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


def curve_of_a_running_run(folder):
    client, found = runs(folder)
    for run in found.values():
        points = client.get_metric_history(run.info.run_id, "train_operator/val_loss")
        if run.info.status == "RUNNING" and len(points) == 3:
            return run
    return None


def test_a_curve_is_there_before_its_stage_ends_and_only_once_after_it(project):
    process = subprocess.Popen(SWEEP, cwd=project, stdout=subprocess.PIPE, text=True)
    live = wait_for(lambda: curve_of_a_running_run(project))
    assert live.data.tags["variant"] == "golden"
    assert live.data.params["train_operator.optimization.learning_rate"] == "0.001"
    (project / "go").touch()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    client, found = runs(project)
    assert {name: run.info.status for name, run in found.items()} == {
        "golden-seed42": "FINISHED",
        "light-diffusion-seed42": "FINISHED",
    }
    golden, light = found["golden-seed42"], found["light-diffusion-seed42"]
    assert golden.info.run_id == live.info.run_id
    for run in (golden, light):
        for stage in ("train_operator", "train_diffusion"):
            points = client.get_metric_history(run.info.run_id, f"{stage}/val_loss")
            assert [point.step for point in points] == [0, 1, 2]
        assert run.data.metrics["evaluate/operator/pdebench/nrmse"] == 0.25
    # The shared stages were executed for golden; light-diffusion shows them and says where they come from.
    assert {key for key in golden.data.tags if key.startswith("cached_from.")} == set()
    assert light.data.tags["cached_from.train_operator"] == golden.info.run_id
    assert "made.train_diffusion" in light.data.tags
    names = [file.path for file in client.list_artifacts(light.info.run_id, "weights")]
    assert names == ["weights/train_diffusion"]
    checkpoints = mlflow.artifacts.load_dict(f"{light.info.artifact_uri}/checkpoints.json")
    assert {entry["stage"]: entry["run_id"] for entry in checkpoints} == {
        "train_operator": golden.info.run_id,
        "train_diffusion": light.info.run_id,
    }
    weights = client.download_artifacts(golden.info.run_id, checkpoints[0]["artifact"])
    assert Path(weights).read_bytes() == b"weights"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_run_stays_open_when_the_driver_is_stopped(project, number):
    process = subprocess.Popen(SWEEP, cwd=project, start_new_session=True, env={**os.environ, "UPS_GRACE_S": "1"})
    live = wait_for(lambda: curve_of_a_running_run(project))
    process.send_signal(number)
    process.wait(60)
    closed = wait_for(lambda: runs(project)[1]["golden-seed42"].info.status != "RUNNING")
    assert closed
    client, _ = runs(project)
    run = client.get_run(live.info.run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["mlflow.note.content"]
    (project / "go").touch()
    again = standin.ups(project, "sweep", "golden")
    assert again.returncode == 0, again.stderr
    statuses = sorted(run.info.status for run in client.search_runs([live.info.experiment_id]))
    assert statuses == ["FINISHED", "KILLED"]


def test_a_failing_stage_closes_its_run_as_failed_with_the_reason(project):
    (project / "go").touch()
    code = (project / "stage.py").read_text()
    asked = 'raw["train_reward"].get("fail") == name'
    assert asked in code
    (project / "stage.py").write_text(code.replace(asked, 'name == "train_diffusion"'))
    result = standin.ups(project, "sweep", "golden")
    assert result.returncode == 1
    _, found = runs(project)
    assert found["golden-seed42"].info.status == "FAILED"
    assert "train_diffusion failed" in found["golden-seed42"].data.tags["mlflow.note.content"]


def test_a_store_that_is_away_costs_no_result_and_is_caught_up_later(project, monkeypatch):
    (project / "go").touch()
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    result = standin.ups(project, "sweep", "golden", "light-diffusion", **away)
    assert result.returncode == 0
    assert "ups publish --all" in result.stderr
    assert {path.name for path in (project / ".ups/results").iterdir()} == {"golden-42", "light-diffusion-42"}
    later = standin.ups(project, "publish", "--all")
    assert later.returncode == 0, later.stderr
    _, found = runs(project)
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert len(found) == 2
