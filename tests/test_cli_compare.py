"""`ups compare`, as a process, on folders of runs with a planted truth."""

import json
import shutil

import numpy as np
import pytest
from recorded_runs import make_run
from standin import ROOT, ups

from ups import tracking
from ups.evaluation.comparison import Question, compare
from ups.evaluation.figures.paired_differences import draw_paired_differences
from ups.evaluation.simulated_runs import Spread, as_runs, simulate

SEEDS = range(6)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Six seeds of golden; light-diffusion is truly 30 % better, no-diffusion is the same."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "params", root / "params")
    generator = np.random.default_rng(0)
    light, golden = simulate(Spread(seed_sd=0.05, trajectories=16), len(SEEDS), generator, effect=-0.3, mean=0.004)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for name, errors in (("golden", golden), ("light-diffusion", light), ("no-diffusion", golden)):
            for seed in SEEDS:
                folder = root / ".ups" / "results" / f"{name}-{seed}"
                make_run(folder, name, seed, errors[seed], train_loss=0.1 + 0.01 * float(generator.random()))
    return root


def test_text_says_verdict_control_costs_and_alarm(project, tmp_path):
    result = ups(project, "compare", "golden", "light-diffusion", "--figure", str(tmp_path / "seeds.png"))
    assert result.stderr == ""
    shown = result.stdout
    assert shown.startswith("nrmse, pdebench, assembled (lower is better); seeds 0, 1, 2, 3, 4, 5\n")
    assert "light-diffusion against golden: better\n" in shown
    assert "CONTROLLED: " in shown
    assert "NOT CONTROLLED" not in shown
    assert "Smallest true difference" in shown
    assert "Overfitting alarm: silent" in shown
    row = next(line for line in shown.splitlines() if line.startswith("golden  "))
    assert row.split() == ["golden", *["7", "s"] * 5, "35", "s", "4", "ms/trajectory", "31"]
    assert (tmp_path / "seeds.png").read_bytes().startswith(b"\x89PNG")


def test_json_holds_the_same(project):
    result = ups(project, "compare", "golden", "light-diffusion", "no-diffusion", "--json")
    found = json.loads(result.stdout)
    light, none = found["comparisons"]
    assert (light["verdict"], none["verdict"]) == ("better", "no difference shown")
    assert light["controlled"] is none["controlled"] is True
    assert -0.4 < light["relative_difference"] < -0.2
    assert light["p_holm"] == pytest.approx(2 * light["p_value"])
    assert [pair["seed"] for pair in light["pairs"]] == list(SEEDS)
    assert found["costs"]["golden"]["total_training_seconds"] == 35.0
    assert found["overfitting_alarm"]["runs"] == 18
    assert (project / found["figure"]).is_file()


def test_fewer_seeds_give_no_verdict(project):
    shown = ups(project, "compare", "golden", "light-diffusion", "--seeds", "0-3,5").stdout
    assert "light-diffusion against golden: too few seeds to tell\n" in shown
    assert "run 1 more" in shown
    assert "p =" not in shown


def test_a_run_on_another_machine_is_not_controlled(project, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    record = copy / ".ups/results/light-diffusion-2/artifacts/train_operator/provenance.json"
    record.write_text(record.read_text().replace("node1", "node2"))
    shown = ups(copy, "compare", "golden", "light-diffusion").stdout
    assert "NOT CONTROLLED, undeclared differences golden -> light-diffusion: 1\n" in shown
    assert "    environment host: node1 -> node2 (in train_operator), seeds 2\n" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("golden",), "at least two different variants"),
        (("golden", "golden"), "at least two different variants"),
        (("golden", "light-difusion"), "Did you mean 'light-diffusion'?"),
        (("golden", "base"), "There is no run of 'base'"),
        (("golden", "light-diffusion", "--seeds", "0,7,9"), "golden with 7, 9; light-diffusion with 7, 9"),
        (("golden", "light-diffusion", "--seeds", "a"), "expected whole numbers"),
        (("golden", "light-diffusion", "--model", "corrected"), "no model 'corrected' here. It has: assembled"),
    ],
)
def test_errors_are_one_paragraph(project, arguments, message):
    result = ups(project, "compare", *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_seed_is_named(project, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    shutil.rmtree(copy / ".ups/results/light-diffusion-4")
    result = ups(copy, "compare", "golden", "light-diffusion")
    assert "light-diffusion lacks 4. Run them or compare the seeds they share: `--seeds 0,1,2,3,5`." in result.stderr


def test_a_workspace_with_another_seed_inside_is_an_error(project, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    (copy / ".ups/results/golden-5").rename(copy / ".ups/results/golden-6")
    (copy / ".ups/results/light-diffusion-5").rename(copy / ".ups/results/light-diffusion-6")
    result = ups(copy, "compare", "golden", "light-diffusion")
    assert "golden-6 should hold golden with seed 6, but was run with seed 5" in result.stderr


def test_the_figure_is_drawn_with_one_seed_with_divergence_and_with_identical_runs(tmp_path):
    one = as_runs(np.ones((1, 3)))
    same = as_runs(np.ones((6, 3)))
    lost = as_runs(np.where(np.eye(6, 3) > 0, np.nan, 1.0))
    for name, methods in (("one", (one, one)), ("same", (same, same)), ("lost", (lost, same))):
        comparisons = compare({"golden": methods[1], "light": methods[0]}, "golden", Question("rmse"))
        draw_paired_differences(tmp_path / f"{name}.png", comparisons)
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_a_report_is_kept_in_mlflow_once(project, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first, again = (
        json.loads(ups(copy, "compare", "golden", "light-diffusion", "--publish", "--json").stdout)["mlflow_run"]
        for _ in range(2)
    )
    assert first == again
    monkeypatch.chdir(copy)
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=tracking.store())
    run = client.get_run(first)
    assert client.get_experiment(run.info.experiment_id).name == "burgers1d-comparisons"
    assert run.data.tags["verdict.light-diffusion"] == "better"
    names = {file.path for file in client.list_artifacts(first)}
    assert {"comparison.txt", "comparison.json"} < names
    assert any(name.endswith(".png") for name in names)
