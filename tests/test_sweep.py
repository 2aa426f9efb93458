"""`ups sweep`: every distinct stage once, nothing of the user's touched, results of every variant readable."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import shapes
import standin
import yaml

from ups.parameters.files import BASE, read_yaml
from ups.pipeline import jobs
from ups.pipeline.plan import Action, plan

HEAVY = ("torch", "prefect", "mlflow", "dvc", "pandas")
SIX = list(shapes.SIX)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(shapes.make(tmp_path / "project"))
    return tmp_path / "project"


def sweep(folder: Path, *arguments: str, code: int = 0, **environment: str) -> dict:
    output = shapes.ups(folder, "sweep", *arguments, "--json", "--no-publish", code=code, **environment)
    return json.loads(output[: output.rindex("}") + 1])


def logged(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / ".ups/executions.jsonl").read_text().splitlines()]


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("workers", ["2", "8"])
def test_every_distinct_stage_runs_once_and_the_plan_said_so(project, workers):
    planned = json.loads(shapes.ups(project, "plan", "--sweep", "all", "--json"))
    report = sweep(project, "--sweep", "all", "--workers", workers)
    executed = shapes.executed(project)
    assert len(executed) == planned["executions"] == len(report["executed"]) == 34
    assert {s["fingerprint"] for s in planned["stages"]} == {line["fingerprint"] for line in logged(project)}
    assert [executed.count(stage) for stage in SIX] == [1, 1, 8, 8, 8, 8]
    assert {line["returncode"] for line in logged(project)} == {0}
    first = [stage for stage, job in report["executed"] if job == "v0-42"]
    assert first == SIX
    if workers == "2":  # the first variant does not wait for the others; with a worker for each, any may be done first
        assert report["executed"].index(["evaluate", "v0-42"]) < report["executed"].index(["evaluate", "v7-42"])

    again = sweep(project, "--sweep", "all", "--workers", workers)
    assert (again["executed"], again["cached"], again["copied"]) == ([], 34, 0)
    assert shapes.executed(project) == []
    for number in range(8):
        folder = project / f".ups/results/v{number}-42"
        metrics = json.loads((folder / "artifacts/train_operator/metrics.json").read_text())
        assert metrics["section"]["train_operator"]["optimization"]["weight_decay"] == 0.001 * (number + 1)
        assert json.loads((folder / "artifacts/evaluate/metrics.json").read_text())["direct"] == 1


def test_two_sweeps_at_the_same_time_share(project):
    processes = [shapes.start(project, "sweep", "--sweep", "all", "--workers", "2", "--no-publish", "--json")]
    time.sleep(0.1)
    processes.append(shapes.start(project, "sweep", "--sweep", "all", "--workers", "2", "--no-publish", "--json"))
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    reports = [json.loads(out) for out, _ in outputs]
    assert len(shapes.executed(project)) == 34
    assert len(logged(project)) == sum(len(report["executed"]) for report in reports) == 34
    assert all(len(report["finished"]) == 8 for report in reports)


def test_dvc_agrees_with_what_a_sweep_leaves(project):
    """The run-cache entries are DVC's own: `dvc repro` of the same parameters restores everything and runs nothing."""
    sweep(project, "v1", "v2", "--workers", "2")
    shapes.executed(project)
    workspace = project / ".ups/workspaces/v2-42"
    for folder, lines in ((workspace, ["didn't change", "is cached"]), (project, ["is cached"])):
        if folder == project:
            shapes.ups(project, "params", "use", "v2")
        command = [sys.executable, "-m", "dvc", "repro"]
        shown = subprocess.run(
            command, cwd=folder, env=shapes.environment(project), capture_output=True, text=True, check=True
        ).stdout
        assert sum(any(text in line for text in lines) for line in shown.splitlines()) == 6, shown
    assert shapes.executed(project) == []
    assert read_yaml(project / "dvc.lock") == read_yaml(project / ".ups/results/v2-42/dvc.lock")
    assert plan(jobs.resolve([])).executions == 0
    status = [sys.executable, "-m", "dvc", "status"]
    assert "up to date" in subprocess.run(status, cwd=project, capture_output=True, text=True, check=True).stdout


def test_the_working_tree_as_it_is_counts_and_is_not_touched(project):
    (project / "indirect.py").write_text("from new import VALUE\n")
    (project / "new.py").write_text("VALUE = 'new and not in git'\n")
    (project / "README.md").write_text("staged\n")
    standin.git(project, "add", "README.md")
    (project / "README.md").write_text("staged and changed\n")
    before = [git(project, *words) for words in (["status", "--porcelain"], ["branch", "-v"], ["diff"], ["log"])]
    index = (project / ".git/index").read_bytes()
    sweep(project, "v0")
    assert [
        git(project, *words) for words in (["status", "--porcelain"], ["branch", "-v"], ["diff"], ["log"])
    ] == before
    assert (project / ".git/index").read_bytes() == index
    result = project / ".ups/results/v0-42"
    assert json.loads((result / "artifacts/evaluate/metrics.json").read_text())["direct"] == "new and not in git"
    commit = json.loads((result / "result.json").read_text())["snapshot"]
    assert "staged and changed" in git(project, "show", f"{commit}:README.md")
    assert commit in git(project, "for-each-ref", "refs/ups")
    assert read_yaml(result / BASE) == yaml.safe_load(git(project, "show", f"{commit}:params/base.yaml"))
    assert git(project / ".ups/workspaces/v0-42", "status", "--porcelain", "--untracked-files=no") == ""
    # The same tree is the same snapshot.
    refs = git(project, "for-each-ref", "refs/ups/snapshots")
    sweep(project, "v1")
    assert git(project, "for-each-ref", "refs/ups/snapshots") == refs


def test_a_change_reruns_exactly_what_depends_on_it(project):
    """The mutation table, really executed."""
    sweep(project, "v0")
    shapes.executed(project)
    changes = {
        "an unrelated file": ("README.md", "changed\n", []),
        "a module imported directly": ("direct.py", "from indirect import VALUE  # changed\n", SIX[:1]),
        "a module imported indirectly": ("indirect.py", "VALUE = 2\n", SIX),
        "a parameter": ("params/variants/v0.yaml", None, SIX[3:]),
        "back again": ("indirect.py", "VALUE = 1\n", SIX[3:]),
    }
    for what, (path, text, expected) in changes.items():
        if text is None:
            overlay = yaml.safe_load((project / path).read_text())
            overlay["varies"] = ["train_diffusion", "train_operator"]
            overlay["train_diffusion"] = {"hidden": 97}
            text = yaml.safe_dump(overlay)
        (project / path).write_text(text)
        planned = plan(jobs.resolve(["v0"]))
        sweep(project, "v0")
        executed = shapes.executed(project)
        if what == "a module imported directly":
            # Every stage depends on it; but the first one writes the same bytes again, and so does each after it.
            assert planned.executions == 6
            assert executed == SIX, what
        else:
            assert executed == expected, what
            assert [node.stage for node in planned.nodes if node.action is Action.RUN] == expected, what


def test_the_same_output_stops_the_chain(project):
    """A change of the first stage's command alone, whose output stays the same: the others are found in the cache."""
    sweep(project, "v0")
    shapes.executed(project)
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(
        text.replace("cmd: python stage.py prepare_data", "cmd: python -B stage.py prepare_data")
    )
    assert plan(jobs.resolve(["v0"])).executions == 6
    report = sweep(project, "v0")
    assert shapes.executed(project) == ["prepare_data"]
    assert [stage for stage, _ in report["shared"]] == SIX[1:]


def test_data_that_git_ignores_reaches_the_stages(project):
    (project / "data").mkdir()
    (project / "data/own.txt").write_text("1")
    content = yaml.safe_load((project / "dvc.yaml").read_text())
    content["stages"]["prepare_data"]["deps"].append("data/own.txt")
    content["stages"]["prepare_data"]["cmd"] += " data/own.txt"
    (project / "dvc.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    sweep(project, "v0", "v1")
    metrics = project / ".ups/results/v1-42/artifacts/prepare_data/metrics.json"
    assert json.loads(metrics.read_text())["of"] == {"data/own.txt": "1"}
    (project / "data/own.txt").write_text("2")
    shapes.executed(project)
    sweep(project, "v0", "v1")
    assert len(shapes.executed(project)) == 10
    assert json.loads(metrics.read_text())["of"] == {"data/own.txt": "2"}


def test_only_what_is_read_is_copied(project):
    sweep(project, "v0")
    shapes.executed(project)
    report = sweep(project, "v1")
    size = sum(p.stat().st_size for p in (project / ".ups/results/v0-42/artifacts/train_codec").iterdir())
    assert report["copied"] == size, "train_operator reads train_codec, and nobody reads prepare_data any more"
    assert not (project / ".ups/workspaces/v1-42/artifacts/prepare_data").exists()


def test_a_failed_variant_does_not_stop_the_others(project):
    report = sweep(project, "v0", "v1", code=1, BEHAVIOUR_distill="fail")
    assert sorted(report["failures"]) == ["distill of v0-42", "distill of v1-42"]
    assert "failing as asked" in report["failures"]["distill of v0-42"]
    assert report["unfinished"] == ["v0-42", "v1-42"]
    assert [line["returncode"] for line in logged(project) if line["stage"] == "distill"] == [1, 1]
    assert shapes.executed(project).count("train_diffusion") == 2
    # Mended: it goes on where it failed.
    assert sweep(project, "v0", "v1")["failures"] == {}
    assert shapes.executed(project) == ["distill", "evaluate"] * 2


def test_the_other_variants_finish(project):
    stage = (project / "stage.py").read_text()
    bad = 'bad = raw["train_operator"]["optimization"]["weight_decay"] == 0.001 and name == "distill"\n'
    (project / "stage.py").write_text(stage.replace("behaviour = ", f'{bad}behaviour = "fail" if bad else '))
    report = sweep(project, "v0", "v1", code=1)
    assert (report["finished"], report["unfinished"]) == (["v1-42"], ["v0-42"])
    assert list(report["failures"]) == ["distill of v0-42"]


def test_a_stage_that_writes_nothing_fails(project):
    report = sweep(project, "v0", code=1, BEHAVIOUR_train_codec="forgets")
    assert "did not write it" in report["failures"]["train_codec of v0-42"]


def test_the_environment_is_recorded_and_may_be_a_reason_to_run(project):
    sweep(project, "v0")
    shapes.executed(project)
    log = project / ".ups/executions.jsonl"
    assert set(logged(project)[0]["environment"]) >= {"python", "torch", "device", "precision"}
    log.write_text(log.read_text().replace('"precision": "fp32"', '"precision": "bf16"'))
    made = plan(jobs.resolve(["v0"]))
    assert made.executions == 0
    assert made.nodes[0].reason == "in the cache; made with precision bf16, now fp32"
    assert plan(jobs.resolve(["v0"]), strict_environment=True).executions == 6
    sweep(project, "v0", "--strict-env")
    assert shapes.executed(project) == SIX
    assert sweep(project, "v0", "--strict-env")["executed"] == []


def test_a_cached_sweep_loads_nothing_heavy(project):
    arguments = ["sweep", "--sweep", "all", "--seeds", "0"]
    sweep(project, *arguments[1:], "--workers", "4")
    code = (
        f"import sys; from ups.cli.app import app; app({[*arguments, '--no-publish']!r}, standalone_mode=False); "
        f"print('LOADED', *[m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=shapes.environment(project)
    )
    assert result.stdout.splitlines()[-1] == "LOADED"
    assert "0 executed, 0 shared, 34 cached" in result.stdout


def test_results_are_published_with_their_variant_and_seed(project, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    store = f"sqlite:///{project}/mlflow.db"
    shown = shapes.ups(project, "sweep", "v0", "v1", "--seeds", "0,1", MLFLOW_TRACKING_URI=store)
    assert shown.count("Published as MLflow run") == 4
    client = mlflow.MlflowClient(store)
    runs = client.search_runs([client.get_experiment_by_name("burgers1d").experiment_id])
    names = {(run.info.run_name, run.data.tags["variant"], run.data.tags["seed"]) for run in runs}
    assert names == {(f"v{v}-seed{s}", f"v{v}", str(s)) for v in (0, 1) for s in (0, 1)}
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_name = {run.info.run_name: run for run in runs}
    assert by_name["v1-seed1"].data.params["train_operator.optimization.weight_decay"] == "0.002"
    assert by_name["v1-seed1"].data.params["varies.train_operator.optimization.weight_decay"] == "0.002"
    # Once more: linked, without asking MLflow.
    code = (
        "import sys; from ups.cli.app import app; app(['sweep', 'v0', 'v1', '--seeds', '0,1'], standalone_mode=False); "
        f"print('LOADED', *[m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=shapes.environment(project, MLFLOW_TRACKING_URI=store),
    )
    assert result.stdout.splitlines()[-1] == "LOADED"
    assert result.stdout.count("Already published") == 4
    assert "v0-1" in shapes.ups(project, "publish", "--all", MLFLOW_TRACKING_URI=store)


def test_a_sweep_whose_store_is_away_succeeds_and_says_how_to_repeat(project):
    process = shapes.start(project, "sweep", "v0", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert "6 executed" in out
    assert "Repeat with `ups publish --all`" in err


def test_it_must_be_a_git_repository(project):
    os.rename(project / ".git", project / "not.git")
    assert "must be a git repository" in shapes.ups(project, "sweep", "v0", code=1)
