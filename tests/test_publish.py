"""What is published is what the stages wrote: read back from a real MLflow store."""

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest
import standin
from standin import executed, set_parameter

from ups.errors import ArtifactError
from ups.parameters import selection
from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import flatten
from ups.parameters.overlay import complete
from ups.pipeline import execute, jobs, lock, publish, results
from ups.pipeline.sweep import sweep
from ups.tracking import FINGERPRINT_TAG, Point, Run, TrackingError, log, metric_key, store

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(standin.make(tmp_path))
    return tmp_path


@pytest.fixture
def client(project):
    return mlflow.MlflowClient(tracking_uri=store())


def test_an_edited_selection_does_not_go_by_the_variants_name(project, client):
    selection.use(selection.Selection("light-diffusion"))
    BASE.write_text(BASE.read_text().replace("hidden: 96", "hidden: 48", 1))
    assert list(selection.edits()) == ["train_operator.model.hidden"]
    execute.reproduce()
    run = client.get_run(publish.publish().run_id)
    assert run.info.run_name == "light-diffusion-edited-seed42"
    assert run.data.tags["variant"] == "light-diffusion-edited"
    assert run.data.params["varies.train_operator.model.hidden"] == "48"


def test_everything_is_in_the_run(project, client):
    selection.use(selection.Selection("light-diffusion", seed=3))
    execute.reproduce()
    link = publish.publish()
    run = client.get_run(link.run_id)

    resolved = flatten(complete(read_yaml(BASE)))
    logged = run.data.params
    assert {key for key in logged if not key.startswith("varies.")} == set(resolved)
    assert json.loads(logged["train_diffusion.optimization.learning_rate"]) == 2e-5
    assert json.loads(logged["train_operator.model.depths"]) == [1, 1, 1]
    assert logged["task.equation"] == "burgers"
    assert logged["varies.train_diffusion.optimization.epochs"] == "3"
    assert "varies.latent.dim" not in logged

    curve = [(p.step, p.value) for p in client.get_metric_history(link.run_id, "train_diffusion/val_loss")]
    assert curve == [(0, 2e-5), (1, 1e-5), (2, 2e-5 / 3)]
    metrics = run.data.metrics
    assert metrics["evaluate/operator/pdebench/nrmse"] == 0.25
    assert metrics["evaluate/operator/pdebench/nrmse_stderr"] == 0.125
    assert metrics["evaluate/operator/pdebench/nrmse_h16"] == 0.5
    assert metrics["evaluate/by_regime/viscosity_0.01/nrmse"] == 0.75
    assert metrics["train_operator/val_loss/final"] == 0.5  # beside the curve of the same name, not in it
    assert not any("not_measured" in key or "passed" in key or "status" in key for key in metrics)

    tags = run.data.tags
    assert (tags["task"], tags["variant"], tags["preset"], tags["seed"]) == (
        "burgers1d",
        "light-diffusion",
        "default",
        "3",
    )
    assert tags["git_dirty"] == "true"  # base.yaml was rewritten
    assert len(tags["git_commit"]) == 40
    assert json.loads(tags["versions"])["torch"] == "2.13.0"
    assert tags[FINGERPRINT_TAG] == lock.fingerprint(lock.read_lock())
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.name == "burgers1d"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "u_t + (u^2/2)_x = (viscosity/pi) u_xx" in experiment.tags["mlflow.note.content"]
    assert "| operator | 2.500e-01 ± 1.2e-01 |" in tags["mlflow.note.content"]
    assert "from the cache" not in tags["mlflow.note.content"]
    assert run.info.status == "FINISHED"

    downloaded = project / "downloaded"
    downloaded.mkdir()
    figure = client.download_artifacts(link.run_id, "rollout.png", str(downloaded))
    assert Path(figure).read_bytes().startswith(b"\x89PNG")
    checkpoints = json.loads(Path(client.download_artifacts(link.run_id, "checkpoints.json")).read_text())
    assert [(c["stage"], c["bytes"]) for c in checkpoints] == [("train_operator", 7), ("train_diffusion", 7)]
    assert {c["md5"] for c in checkpoints} == {hashlib.md5(b"weights").hexdigest()}


def test_a_run_is_published_once(project, client):
    execute.reproduce()
    first = publish.publish()
    again = publish.publish()
    assert (again.run_id, first.was_there, again.was_there) == (first.run_id, False, True)
    publish.RECORD.unlink()  # without the shortcut, MLflow itself knows
    assert publish.publish() == again
    assert len(client.search_runs([first.experiment_id])) == 1


def test_a_run_of_the_base_takes_the_name_of_the_variant_that_shares_it(project, client):
    execute.reproduce()
    first = publish.publish()
    assert client.get_run(first.run_id).info.run_name == "base-seed42"
    (project / "params/variants/same.yaml").write_text("hypothesis: The base under a name.\nvaries: []\n")
    report = sweep(jobs.resolve(["same"]))
    assert report.executed == []
    link = publish.publish_results(project / results.FOLDER / "same-42")
    assert (link.run_id, link.was_there) == (first.run_id, True)
    run = client.get_run(link.run_id)
    assert (run.info.run_name, run.data.tags["variant"], run.data.tags["also"]) == ("same-seed42", "same", "base")
    publish.publish()  # the base again does not take the name back
    assert client.get_run(link.run_id).info.run_name == "same-seed42"


def test_restored_stages_are_published_like_executed_ones(project, client):
    execute.reproduce()
    first = publish.publish()
    set_parameter(project, "learning_rate: 0.00005", "learning_rate: 0.0004")
    execute.reproduce()
    second = publish.publish()
    assert second.run_id != first.run_id
    said = client.get_run(second.run_id).data.tags["mlflow.note.content"]
    link = f"first in [base-seed42](#/experiments/{first.experiment_id}/runs/{first.run_id})"
    assert f"* prepare_data, train_operator: from the cache, {link}" in said
    executed(project)
    for run_id, rate in ((first.run_id, 5e-5), (second.run_id, 4e-4)):
        assert client.get_metric_history(run_id, "train_diffusion/val_loss")[0].value == rate
        assert len(client.get_metric_history(run_id, "train_operator/val_loss")) == 3  # not run again the second time
    set_parameter(project, "learning_rate: 0.0004", "learning_rate: 0.00005")
    execute.reproduce()
    assert executed(project) == []
    assert publish.publish().run_id == first.run_id


def test_a_deleted_store_is_written_anew(project):
    execute.reproduce()
    # In processes of their own: mlflow keeps a store open.
    assert standin.ups(project, "publish").stdout.startswith("Published")
    assert standin.ups(project, "publish").stdout.startswith("Already published")
    (project / "mlflow.db").unlink()
    assert standin.ups(project, "publish").stdout.startswith("Published")


def test_a_run_left_running_by_a_crash_is_closed_and_repeated(project, client):
    execute.reproduce()
    first = publish.publish()
    publish.RECORD.unlink()
    with sqlite3.connect("mlflow.db") as database:
        database.execute("UPDATE runs SET status = 'RUNNING', end_time = NULL")
    second = publish.publish()
    assert second.run_id != first.run_id
    assert client.get_run(first.run_id).info.status == "KILLED"
    assert client.get_run(second.run_id).info.status == "FINISHED"


def test_a_failure_while_writing_leaves_no_running_run(project, client, monkeypatch):
    execute.reproduce()
    log_artifact = mlflow.MlflowClient.log_artifact
    monkeypatch.setattr(mlflow.MlflowClient, "log_artifact", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(TrackingError, match="no space"):
        publish.publish()
    monkeypatch.setattr(mlflow.MlflowClient, "log_artifact", log_artifact)
    runs = client.search_runs([client.get_experiment_by_name("burgers1d").experiment_id])
    assert [run.info.status for run in runs] == ["FAILED"]
    assert not publish.publish().was_there


def test_an_absent_server_is_reported_and_nothing_is_lost(project, monkeypatch):
    execute.reproduce()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"run `ups publish`") as caught:
        publish.publish()
    assert "secret" not in str(caught.value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert not publish.publish().was_there


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: set_parameter(p, "learning_rate: 0.00005", "learning_rate: 0.0004"), "optimization.learning_rate"),
        (lambda p: (p / "stage.py").write_text((p / "stage.py").read_text() + "#"), r"stage\.py"),
        (lambda p: (p / "artifacts" / "evaluate").rename(p / "moved"), "artifacts/evaluate is missing"),
        (lambda p: (p / "dvc.lock").unlink(), "nothing was reproduced"),
    ],
)
def test_results_of_another_working_tree_are_not_published(project, change, message):
    execute.reproduce()
    change(project)
    with pytest.raises(ArtifactError, match=message):
        publish.publish()


def test_ten_thousand_points_are_sent_in_batches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    points = [Point("a/b", step, float(step), 1e9 + step) for step in range(10_000)]
    link = log(Run("e", "r", "f" * 32, 1e9, 1e9, points=points))
    history = mlflow.MlflowClient(tracking_uri=store()).get_metric_history(link.run_id, "a/b")
    assert [p.value for p in history] == [float(step) for step in range(10_000)]


def test_metric_keys_are_valid():
    assert metric_key("evaluate", "nrmse@h16") == "evaluate/nrmse_h16"
