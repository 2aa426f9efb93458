"""`ups prune` takes what nobody asks for and nothing else: not the cache, not what is kept, not what is in use."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import shapes

from ups.errors import UpsError
from ups.pipeline import jobs, prune
from ups.pipeline import sweep as sweeping
from ups.pipeline.locks import SWEEP, Lock

SIX = list(shapes.SIX)


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = shapes.make(tmp_path / "project")
    monkeypatch.chdir(folder)
    for key, value in shapes.environment(folder).items():
        monkeypatch.setenv(key, value)
    yield folder
    for pid in shapes.running(folder):
        os.kill(pid, signal.SIGKILL)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def run(*variants: str) -> list[str]:
    report = sweeping.sweep(jobs.resolve(variants))
    assert report.failures == {}
    return [stage for stage, _ in report.executed]


def files(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def named(items: list[prune.Item]) -> set[str]:
    return {f"{item.kind} {item.name}" for item in items}


def test_without_yes_nothing_is_touched(project):
    run("v0")
    before = files("."), git("for-each-ref"), git("worktree", "list")
    shown = json.loads(shapes.ups(project, "prune", "--json"))
    assert shown["dry_run"]
    assert shown["removed"] == []
    kinds = [item["kind"] for item in shown["items"]]
    assert {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)} == {
        "workspace": 1,
        "results": 1,
        "log": 1,
        "description": 6,
        "snapshot": 1,  # of the parameters; the working tree was that of HEAD
    }
    workspace = next(item for item in shown["items"] if item["kind"] == "workspace")
    listed = [path for path in Path(".ups/workspaces").rglob("*") if path.is_file() or path.is_symlink()]
    assert workspace["bytes"] == sum(path.lstat().st_size for path in listed) > 10_000
    assert shown["bytes"] == sum(item["bytes"] for item in shown["items"])
    assert (files("."), git("for-each-ref"), git("worktree", "list")) == before
    assert "would go. Add --yes" in shapes.ups(project, "prune")


def test_what_is_kept_stays_and_the_rest_comes_back_from_the_cache(project):
    (project / "README.md").write_text("not committed\n")
    run("v1")  # all that v0 shares was executed for v1
    run("v0", "v2")
    cache, log = files(".dvc/cache"), Path(".ups/executions.jsonl").read_bytes()
    user = git("status", "--porcelain"), git("branch", "-v"), Path(".git/index").read_bytes()
    kept = files(".ups/workspaces/v0-42"), files(".ups/results/v0-42")
    shown = shapes.ups(project, "prune", "--keep", "v0", "--yes")
    assert "Removed" in shown
    for folder in ("workspaces", "results", "logs"):
        assert [path.name for path in Path(".ups", folder).iterdir() if path.is_dir()] == ["v0-42"]
    assert git("worktree", "list").count("\n") == 2
    assert (files(".ups/workspaces/v0-42"), files(".ups/results/v0-42")) == kept
    assert (files(".dvc/cache"), Path(".ups/executions.jsonl").read_bytes()) == (cache, log)
    assert (git("status", "--porcelain"), git("branch", "-v"), Path(".git/index").read_bytes()) == user
    # Every snapshot that made something of v0: its own, v1's for the shared stages, and the one both were cut from.
    refs = git("for-each-ref", "--format=%(refname)", "refs/ups").split()
    assert sorted(ref.split("/")[2] for ref in refs) == ["snapshots", "v0-42", "v1-42"]
    result = json.loads(Path(".ups/results/v0-42/result.json").read_text())
    assert "not committed" in git("show", f"{result['snapshot']}:README.md")
    descriptions = {path.stem for path in Path(".ups/descriptions").iterdir()}
    assert set(result["fingerprints"].values()) <= descriptions
    assert len(descriptions) == 10, "v0's six, and what v1 executed at the snapshot that stays"
    # Nothing has to run again, and a change finds its way through a workspace that is made anew.
    shapes.executed(project)
    assert run("v0", "v1", "v2") == []
    assert Path(".ups/results/v2-42/artifacts/evaluate/metrics.json").is_file()
    (project / "indirect.py").write_text("VALUE = 2\n")
    assert run("v2") == SIX


def test_everything_goes_and_half_made_things_too(project):
    run("v0", "v1")
    (project / ".ups/workspaces/v0-42/.git").write_text("gitdir: nowhere")  # a damaged worktree
    (project / ".ups/workspaces/.v3-42.kept").mkdir()
    (project / ".ups/results/.v0-42.999999999.abc.tmp").mkdir()
    (project / ".ups/index.999999999.abcdef12").write_text("x")
    mine = project / f".ups/index.{os.getpid()}.abcdef12"
    mine.write_text("x")
    items = prune.survey([])
    assert {"workspace v3-42", "leftover index.999999999.abcdef12", "leftover .v0-42.999999999.abc.tmp"} <= named(items)
    assert named(prune.remove(items)) == named(items)
    assert git("for-each-ref", "refs/ups") == ""
    assert git("worktree", "list").count("\n") == 1
    assert mine.exists()
    mine.unlink()
    assert prune.survey([]) == []
    left = [path for path in Path(".ups").rglob("*") if path.is_file() and path.parent.name != "locks"]
    assert {path.name for path in left} == {".gitignore", "executions.jsonl"}
    assert run("v0", "v1") == []


def test_data_that_a_workspace_links_to_survives(project):
    (project / "data").mkdir()
    (project / "data/own.txt").write_text("precious")
    text = (project / "dvc.yaml").read_text().replace("- direct.py\n", "- direct.py\n    - data/own.txt\n", 1)
    (project / "dvc.yaml").write_text(text)
    run("v0")
    assert (project / ".ups/workspaces/v0-42/data/own.txt").is_symlink()
    prune.remove(prune.survey([]))
    assert not (project / ".ups/workspaces/v0-42").exists()
    assert (project / "data/own.txt").read_text() == "precious"


def test_a_slip_in_a_name_removes_nothing(project):
    run("v0")
    before = files(".")
    assert "Did you mean 'v0'" in shapes.ups(project, "prune", "--keep", "v0x", "--yes", code=1)
    assert files(".") == before


@pytest.mark.parametrize(
    ("keep", "stays"),
    [
        ("light-diffusion", {"light-diffusion-0.tiny", "light-diffusion-1"}),
        ("light-diffusion-1", {"light-diffusion-1"}),
    ],
)
def test_a_variant_stands_for_all_its_seeds_and_for_no_other_variant(tmp_path, monkeypatch, keep, stays):
    monkeypatch.chdir(tmp_path)
    names = {"light-diffusion-0.tiny", "light-diffusion-1", "light-0", "light-diffusion-2-0"}
    for name in names:
        (tmp_path / ".ups/workspaces" / name).mkdir(parents=True)
    assert {item.name for item in prune.survey([keep])} == names - stays


def test_nothing_is_taken_from_under_a_sweep(project):
    run("v1")
    process = shapes.start(project, "sweep", "v0", "--no-publish", BEHAVIOUR_train_operator="hang")
    shapes.wait_for((project / ".ups/workspaces/v0-42/artifacts/train_operator/half").exists, 60)
    before = git("for-each-ref"), git("worktree", "list")
    assert "v0-42  in use, stays" in shapes.ups(project, "prune")
    assert "A sweep is running" in shapes.ups(project, "prune", "--yes", code=1)
    assert (git("for-each-ref"), git("worktree", "list")) == before
    # Its driver is gone, but its stage is not dead yet: everything but that workspace may go.
    [stage] = shapes.running(project)
    guard = int(Path(f"/proc/{stage}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(guard, signal.SIGSTOP)
    process.kill()
    process.communicate()
    shapes.ups(project, "prune", "--yes")
    assert [path.name for path in Path(".ups/workspaces").iterdir() if path.is_dir()] == ["v0-42"]
    os.kill(guard, signal.SIGCONT)
    shapes.wait_for(lambda: not shapes.running(project), 60)
    shapes.executed(project)
    assert run("v0") == SIX[2:]


def test_a_lock_of_a_sweep_is_shared_among_sweeps_only(project):
    with Lock(SWEEP).held(shared=True):
        assert run("v0") == SIX
        with pytest.raises(UpsError, match="A sweep is running"):
            prune.remove(prune.survey([]))
    assert prune.remove(prune.survey([]))
