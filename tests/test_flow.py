"""The flow `experiment` on a real (temporary) Prefect server, with real DVC and MLflow."""

import pytest
import standin
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterFlowRunId
from prefect.testing.utilities import prefect_test_harness

from flows.experiment import experiment
from ups.pipeline import lock

STAGES = list(standin.STAGES)


@pytest.fixture(scope="module")
def server():
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(standin.make(tmp_path))
    return tmp_path


def task_states(flow_run_id) -> dict[str, str]:
    with get_client(sync_client=True) as client:
        chosen = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id]))
        runs = client.read_task_runs(task_run_filter=chosen)
    return {run.name: run.state.name for run in runs}


def run() -> tuple[str, dict[str, str]]:
    state = experiment(return_state=True)
    return state.name, task_states(state.state_details.flow_run_id)


def test_stages_run_once_and_cached_ones_are_shown_as_cached(server, project):
    state, tasks = run()
    assert (state, tasks) == ("Completed", {**dict.fromkeys(STAGES, "Completed"), "publish": "Completed"})
    assert standin.executed(project) == STAGES
    assert lock.outdated(lock.read_lock()) == []

    state, tasks = run()
    assert (state, tasks) == ("Completed", {**dict.fromkeys(STAGES, "Cached"), "publish": "Completed"})
    assert standin.executed(project) == []

    standin.set_parameter(project, "learning_rate: 0.00005", "learning_rate: 0.0004")
    _, tasks = run()
    assert {name for name, shown in tasks.items() if shown == "Cached"} == {"prepare_data", "train_operator"}
    assert standin.executed(project) == ["train_diffusion", "evaluate"]

    standin.set_parameter(project, "learning_rate: 0.0004", "learning_rate: 0.00005")
    _, tasks = run()
    assert tasks == {**dict.fromkeys(STAGES, "Cached"), "publish": "Completed"}
    assert standin.executed(project) == []


def test_a_failing_stage_fails_the_flow_is_not_retried_and_keeps_earlier_results(server, project):
    run()
    standin.executed(project)
    before = (project / "artifacts/train_diffusion/history.csv").read_text()
    path = project / "stage.py"
    path.write_text(path.read_text() + "# changed, so every stage has to run\n")
    standin.set_parameter(project, "train_reward:", "train_reward:\n  fail: train_diffusion")
    state = experiment(return_state=True)
    assert state.is_failed()
    assert task_states(state.state_details.flow_run_id)["train_diffusion"] == "Failed"
    assert standin.executed(project) == ["prepare_data", "train_operator", "train_diffusion"]
    assert (project / "artifacts/train_diffusion/history.csv").read_text() == before
