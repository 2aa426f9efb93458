"""From an MLflow run id back to its results, and the order of all runs."""

import json

import pytest
import standin
import yaml

from ups import tracking
from ups.pipeline.leaderboard import leaderboard
from ups.tracking import Published

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(standin.make(tmp_path / "project"))
    return tmp_path / "project"


def published(project, *arguments):
    """Run a sweep with an uncommitted change in the code; returns run ids by name of the result."""
    result = standin.ups(project, "sweep", *arguments)
    assert result.returncode == 0, result.stderr
    return {run.name: run.run_id for run in tracking.finished_runs()}


def test_a_run_is_reproduced_from_its_id_though_code_and_parameters_went_on(project):
    (project / "stage.py").write_text((project / "stage.py").read_text() + "# not committed\n")
    ids = published(project, "golden", "light-diffusion")
    code = (project / "stage.py").read_text()
    (project / "stage.py").write_text(code.replace('"mean": 0.25', '"mean": 0.75'))
    standin.set_parameter(project, "learning_rate: 0.00005", "learning_rate: 0.0004")
    standin.git(project, "commit", "-qam", "went on")
    standin.executed(project)

    found = standin.ups(project, "reproduce", ids["light-diffusion-seed42"])
    assert found.returncode == 0, found.stdout + found.stderr
    assert "REPRODUCED" in found.stdout
    assert "executed: nothing" in found.stdout

    again = standin.ups(project, "reproduce", ids["light-diffusion-seed42"], "--rerun", "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    content = json.loads(again.stdout[again.stdout.index("\n{") :])
    assert content["executed"] == list(standin.STAGES)
    assert content["differences"] == []
    assert content["compared"] == 9
    workspace = project / ".ups/workspaces" / f"reproduce-{ids['light-diffusion-seed42'][:12]}"
    assert (workspace / "stage.py").read_text().endswith("# not committed\n")
    raw = yaml.safe_load((workspace / "params/base.yaml").read_text())
    assert float(raw["train_diffusion"]["optimization"]["learning_rate"]) == 2e-5


def test_what_does_not_come_out_again_is_named(project):
    # A stage whose result depends on something that nothing tracks: reproduction finds it out.
    (project / "outside.txt").write_text("0.25")
    with (project / ".gitignore").open("a") as file:
        file.write("/outside.txt\n")
    code = (project / "stage.py").read_text()
    value = f"float(open({str(project / 'outside.txt')!r}).read())"
    outside = f'METRICS["evaluate"]["operator"]["pdebench"]["nrmse"]["mean"] = {value}\n'
    (project / "stage.py").write_text(code.replace("name = sys.argv[1]\n", outside + "name = sys.argv[1]\n"))
    ids = published(project, "golden")
    (project / "outside.txt").write_text("0.5")
    assert standin.ups(project, "reproduce", ids["golden-seed42"]).returncode == 0  # from the cache
    found = standin.ups(project, "reproduce", ids["golden-seed42"], "--rerun")
    assert found.returncode == 1
    assert "NOT REPRODUCED" in found.stdout
    assert "evaluate/operator/pdebench/nrmse: published 0.25, now 0.5" in found.stdout
    assert standin.ups(project, "reproduce", ids["golden-seed42"], "--rerun", "--tolerance", "0.6").returncode == 0


def test_what_cannot_be_reproduced_is_refused_with_a_reason(project):
    ids = published(project, "base")
    client = mlflow.MlflowClient(tracking_uri=tracking.store())
    unknown = standin.ups(project, "reproduce", "0" * 32)
    assert unknown.returncode == 1
    assert "cannot be read" in unknown.stderr
    client.set_tag(ids["base-seed42"], "snapshot", "f" * 40)
    lost = standin.ups(project, "reproduce", ids["base-seed42"])
    assert "refs/ups" in lost.stderr
    head = standin.git_output(project, "rev-parse", "HEAD")
    client.set_tag(ids["base-seed42"], "snapshot", head)
    standin.set_parameter(project, "learning_rate: 0.00005", "learning_rate: 0.0004")
    standin.git(project, "commit", "-qam", "another")
    client.set_tag(ids["base-seed42"], "snapshot", standin.git_output(project, "rev-parse", "HEAD"))
    other = standin.ups(project, "reproduce", ids["base-seed42"])
    assert "train_diffusion.optimization.learning_rate" in other.stderr


def run(variant, seed, value, started, data="d1", task="burgers1d", preset="default"):
    tags = {"task": task, "data_md5": data, "preset": preset, "variant": variant, "seed": str(seed)}
    return Published(f"{variant}{seed}{started}", task, "n", "FINISHED", started, tags, {}, {"m": value})


def test_the_leaderboard_orders_means_over_seeds_and_mixes_nothing():
    runs = [
        run("a", 0, 1.0, 9),
        run("a", 0, 7.0, 1),  # an older run of the same seed
        run("a", 1, 3.0, 8),
        run("b", 0, 1.5, 7),
        run("b", 0, 0.1, 6, data="d2"),  # easier data
        run("b", 0, 0.2, 5, preset="tiny"),
        Published("x", "e", "n", "FINISHED", 1.0, {"variant": "a"}, {}, {"other": 1.0}),
    ]
    rows = leaderboard(runs, "m")
    assert [(r.data_md5, r.preset, r.variant, r.seeds, r.mean, r.best, r.older) for r in rows] == [
        ("d1", "tiny", "b", (0,), 0.2, 0.2, 0),
        ("d1", "default", "b", (0,), 1.5, 1.5, 0),
        ("d1", "default", "a", (0, 1), 2.0, 1.0, 1),
        ("d2", "default", "b", (0,), 0.1, 0.1, 0),
    ]
    assert rows[2].deviation == pytest.approx(2**0.5)
    assert rows[0].deviation is None
    assert leaderboard(runs, "m", task="advection") == []


def test_the_leaderboard_of_published_runs(project):
    ids = published(project, "golden", "light-diffusion")
    metric = "evaluate/operator/pdebench/nrmse"
    shown = standin.ups(project, "leaderboard", "--metric", metric)
    assert shown.returncode == 0, shown.stderr
    assert "golden" in shown.stdout
    assert "2.5000e-01" in shown.stdout
    rows = json.loads(standin.ups(project, "leaderboard", "--metric", metric, "--json").stdout)
    assert {row["variant"]: row["seeds"] for row in rows} == {"golden": [42], "light-diffusion": [42]}
    assert set(rows[0]["run_ids"]) | set(rows[1]["run_ids"]) == set(ids.values())
    wrong = standin.ups(project, "leaderboard", "--metric", "nonsense")
    assert wrong.returncode == 1
    assert metric in wrong.stderr
