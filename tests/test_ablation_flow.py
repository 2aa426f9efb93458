"""The flow `ablation-sweep` on a real (temporary) Prefect server, with real DVC, git and MLflow."""

import json

import pytest
import standin
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter, TaskRunFilterFlowRunId
from prefect.testing.utilities import prefect_test_harness

from flows.ablation_sweep import ablation_sweep
from ups.pipeline import executions

SHARED = ("prepare_data", "train_operator")
OWN = ("train_diffusion", "evaluate")


@pytest.fixture(scope="module")
def server():
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(standin.make(tmp_path))
    return tmp_path


def run(**parameters):
    """Run the flow; returns its state, its task runs' states by name, and its artifacts by key."""
    state = ablation_sweep(return_state=True, compare_variants=False, **parameters)
    flow_run_id = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        chosen = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id]))
        tasks = {task.name: task.state.name for task in client.read_task_runs(task_run_filter=chosen)}
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        artifacts = {artifact.key: artifact for artifact in client.read_artifacts(flow_run_filter=wanted)}
    return state, tasks, artifacts


def test_each_distinct_stage_is_a_task_run_named_by_who_shares_it(server, project):
    state, tasks, artifacts = run(sweep="golden-vs-light", workers=2)
    assert state.is_completed(), state
    golden, light = "golden", "light-diffusion"
    expected = {f"{stage} (all)" for stage in SHARED} | {f"{s} ({v})" for s in OWN for v in (golden, light)}
    assert tasks == dict.fromkeys(expected, "Completed")
    counts = state.result()
    assert (counts["executed"], counts["shared"], counts["cached"]) == (6, 0, 0)
    assert set(counts["mlflow_runs"]) == {"golden-42", "light-diffusion-42"}
    assert len(executions.read()) == 6

    plan = json.loads(artifacts["plan"].data)
    assert sorted(f"{row['stage']} ({row['for']})" for row in plan) == sorted(expected)
    assert {row["action"] for row in plan} == {"run"}
    results = json.loads(artifacts["results"].data)
    assert [row["operator"] for row in results] == [0.25, 0.25]

    state, tasks, artifacts = run(sweep="golden-vs-light")
    assert state.is_completed()
    assert tasks == dict.fromkeys(expected, "Cached")
    assert {row["action"] for row in json.loads(artifacts["plan"].data)} == {"cached"}
    assert len(executions.read()) == 6


def test_a_failed_stage_fails_its_task_run_and_the_flow_and_costs_no_other_variant(server, project):
    code = (project / "stage.py").read_text()
    asked = 'raw["train_reward"].get("fail") == name'
    assert asked in code
    failing = 'name == "train_diffusion" and raw[name]["optimization"]["epochs"] == 3'  # light-diffusion
    (project / "stage.py").write_text(code.replace(asked, failing))
    state, tasks, artifacts = run(variants=["light-diffusion", "golden"])
    assert state.is_failed()
    assert "light-diffusion-42" in state.message
    assert tasks["train_diffusion (light-diffusion)"] == "Failed"
    assert "evaluate (light-diffusion)" not in tasks
    assert tasks["evaluate (golden)"] == "Completed"
    assert [row["result"] for row in json.loads(artifacts["results"].data)] == ["golden-42"]
    assert [e.stage for e in executions.read() if e.returncode] == ["train_diffusion"]  # and not tried again
