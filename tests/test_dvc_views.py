"""DVC's own views of this project: plots of the real dvc.yaml, experiments, differences, and a cache that travels."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import standin
import yaml
from standin import ROOT

from ups.parameters.files import read_yaml
from ups.pipeline.experiments import METRICS, dropped, kept

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def dvc(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_plots_show_every_training_with_title_and_units(tmp_path):
    """The real dvc.yaml and templates, on files such as the stages write."""
    standin.git(tmp_path, "init", "-q")
    shutil.copytree(ROOT / "params", tmp_path / "params")
    shutil.copytree(ROOT / ".dvc", tmp_path / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    named = {name: plot for entry in declared if isinstance(entry, dict) for name, plot in entry.items()}
    folders = [entry for entry in declared if isinstance(entry, str)]
    for plot in named.values():
        assert plot["title"]
        assert plot["x_label"]
        assert "[–]" in plot["y_label"]
    table = {
        "history.csv": "epoch,train_loss,val_loss\n1,0.5,0.6\n2,0.3,0.4\n",
        "error_vs_time.csv": "model,protocol,frame,time,metric,mean,stderr\nfno,rollout_ic,1,0.1,nrmse,0.25,0\n",
        "quality_vs_budget.csv": "mode,candidates,evaluations_per_step,nrmse,stderr\nsearch,1,2.0,0.35,0.05\n",
    }
    for path in {path for plot in named.values() for path in plot["y"]}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(table[Path(path).name])
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "figure.png").write_bytes(PIXEL)
    dvc(tmp_path, "plots", "show", "-o", "page")
    page = (tmp_path / "page" / "index.html").read_text()
    shown = [json.loads(spec) for spec in re.findall(r"var spec = (\{.*\});", page)]
    assert {spec["title"]["text"] if isinstance(spec["title"], dict) else spec["title"] for spec in shown} == {
        plot["title"] for plot in named.values()
    }
    assert "<DVC_METRIC" not in page
    assert len(list((tmp_path / "page" / "static").glob("*figure.png"))) == len(folders)
    text = json.dumps(shown, ensure_ascii=False)
    assert all(json.dumps(plot["y_label"], ensure_ascii=False) in text for plot in named.values())


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = standin.make(tmp_path_factory.mktemp("views"))
    with (folder / "dvc.yaml").open("a") as file:
        file.write("metrics: [artifacts/evaluate/metrics.json, artifacts/train_diffusion/metrics.json]\n")
    dvc(folder, "repro", "-q")
    standin.git(folder, "add", ".")
    standin.git(folder, "commit", "-q", "-m", "reproduced")
    assert len(standin.executed(folder)) == 4
    return folder


def test_a_clone_gets_results_and_run_cache_from_a_remote(project, tmp_path):
    """`dvc push --run-cache` and back: in the clone neither what is in dvc.lock nor an older run executes again."""
    clone, remote = tmp_path / "clone", tmp_path / "remote"
    dvc(project, "remote", "add", "--local", "-d", "-f", "store", str(remote))
    dvc(project, "push", "-q", "--run-cache")
    standin.git(tmp_path, "clone", "-q", str(project), str(clone))
    dvc(clone, "remote", "add", "--local", "-d", "store", str(remote))
    dvc(clone, "pull", "-q", "--run-cache")
    result = (clone / "artifacts/evaluate/metrics.json").read_bytes()
    assert result == (project / "artifacts/evaluate/metrics.json").read_bytes()
    dvc(clone, "repro", "-q")
    assert standin.executed(clone) == []
    # Only the run-cache knows now what was done, and its files have to come from the remote.
    (clone / "dvc.lock").unlink()
    shutil.rmtree(clone / "artifacts")
    shutil.rmtree(clone / ".dvc" / "cache")
    dvc(clone, "repro", "-q", "--pull")
    assert standin.executed(clone) == []
    assert (clone / "artifacts/evaluate/metrics.json").read_bytes() == result


def test_an_experiment_runs_what_changed_and_is_shown(project):
    key = "train_diffusion.optimization.learning_rate"
    dvc(project, "exp", "run", "-q", "--name", "faster", "-S", f"params/base.yaml:{key}=0.001")
    assert standin.executed(project) == ["train_diffusion", "evaluate"]
    (changed,) = json.loads(dvc(project, "params", "diff", "--json"))["params/base.yaml"].items()
    assert changed == (key, {"old": 5e-05, "new": 0.001, "diff": 0.00095})
    result = standin.ups(project, "experiments", "--metric", "operator.pdebench.nrmse.mean", "--md")
    assert result.returncode == 0, result.stderr
    columns = [name.strip() for name in result.stdout.splitlines()[0].strip("|").split("|")]
    assert columns == ["Experiment", "Created", "operator.pdebench.nrmse.mean", key]
    assert "[faster]" in result.stdout
    shown = dvc(project, "metrics", "show", "--json")
    assert json.loads(shown)[""]["data"]["artifacts/train_diffusion/metrics.json"]["data"] == {
        "explained_residual": -0.25
    }


def test_columns_that_are_kept_and_left_out():
    for name in ("Experiment", "Created", "seed", "train_operator.model.hidden", "params/base.yaml:seed"):
        assert not re.match(dropped(), name), name
    for name in ("ups/errors.py", "artifacts/evaluate", "student.one_step.rmse.mean", "seconds", "data.dvc"):
        assert re.match(dropped(), name) or name == "data.dvc"
    assert all(re.match(kept(), name) for name in (*METRICS, f"artifacts/evaluate/metrics.json:{METRICS[0]}"))
    assert not re.match(kept(), f"{METRICS[0]}x")
    known = read_yaml(ROOT / "params/base.yaml")
    assert all(not re.match(dropped(), section) for section in known)
