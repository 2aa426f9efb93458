"""Killed sweeps, dying stages, a rotting cache: no orphan, no stuck lock, nothing half-written, no work done twice."""

import errno
import json
import os
import signal
from pathlib import Path

import pytest
import shapes

from ups.errors import ArtifactError
from ups.pipeline import jobs
from ups.pipeline import sweep as sweeping
from ups.pipeline.dvc_store import Store
from ups.pipeline.locks import Interrupted, Lock
from ups.pipeline.plan import plan

SIX = list(shapes.SIX)
HANGS = {"BEHAVIOUR_train_operator": "hang"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = shapes.make(tmp_path / "project")
    monkeypatch.chdir(folder)
    for key, value in shapes.environment(folder).items():
        monkeypatch.setenv(key, value)
    yield folder
    for pid in shapes.running(folder):  # a failing test must not leave what it is about
        os.kill(pid, signal.SIGKILL)


def start_hanging(folder: Path):
    """Start a sweep and wait until its third stage has written half of its output."""
    process = shapes.start(folder, "sweep", "v0", "--no-publish", "--json", **HANGS)
    half = folder / ".ups/workspaces/v0-42/artifacts/train_operator/half"
    shapes.wait_for(lambda: half.exists() or process.poll() is not None, 60)
    assert process.poll() is None, process.communicate()
    assert len(shapes.running(folder)) == 1
    return process


def logged(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / ".ups/executions.jsonl").read_text().splitlines()]


def guards() -> list[int]:
    """Return the guards that are alive on this machine and belong to this test's projects."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text().split("\0")
            cwd = os.readlink(folder / "cwd")
        except OSError:
            continue
        if any(word.endswith("pipeline/guard.py") for word in words) and cwd.startswith(str(Path.cwd())):
            found.append(int(folder.name))
    return found


def resumes(folder: Path) -> None:
    """Check that the same sweep now executes exactly what is missing, and leaves no rubbish."""
    shapes.executed(folder)
    shown = shapes.ups(folder, "sweep", "v0", "--no-publish")
    assert "4 executed, 0 shared, 2 cached" in shown
    assert shapes.executed(folder) == SIX[2:]
    assert not (folder / ".ups/workspaces/v0-42/artifacts/train_operator/half").exists()
    leftovers = [path for path in (folder / ".dvc/cache").rglob("*") if path.name.endswith((".tmp", ".checkout"))]
    assert leftovers == []
    assert list((folder / ".ups").glob("index.*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_ended_takes_its_stage_along_and_resumes_there(project, number):
    process = start_hanging(project)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: -9}.get(number, 128 + number), err
    shapes.wait_for(lambda: not shapes.running(project) and not guards(), 60)
    if number != signal.SIGKILL:
        assert "the same command goes on from here" in err
        assert not (project / ".ups/workspaces/v0-42/artifacts/train_operator").exists()
        assert logged(project)[-1]["returncode"] == -signal.SIGTERM
    assert [line["stage"] for line in logged(project) if line["returncode"] == 0] == SIX[:2]
    resumes(project)


@pytest.mark.parametrize("victim", ["stage", "guard"])
def test_a_stage_or_guard_that_is_killed_fails_the_stage_and_leaves_no_orphan(project, victim):
    process = start_hanging(project)
    [pid] = shapes.running(project) if victim == "stage" else guards()
    os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "train_operator of v0-42 failed: exit code -9" in err
    shapes.wait_for(lambda: not shapes.running(project) and not guards(), 60)
    assert logged(project)[-1]["returncode"] == -9
    resumes(project)


def test_a_sweep_that_waits_for_another_takes_over_when_that_is_killed(project):
    first = start_hanging(project)
    second = shapes.start(project, "sweep", "v0", "--no-publish")
    shapes.wait_for(lambda: (project / ".ups/locks").exists(), 10)
    first.kill()
    first.communicate()
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert "4 executed" in out
    assert shapes.executed(project) == [*SIX[:3], *SIX[2:]]
    assert shapes.running(project) == []


def test_a_lock_is_held_until_the_stage_itself_is_dead(project):
    """Between the driver's death and its stage's, nobody else may start the same stage."""
    process = start_hanging(project)
    held = [path for path in (project / ".ups/locks").glob("run-*") if not Lock(path.name).try_acquire()]
    assert len(held) == 1
    os.kill(guards()[0], signal.SIGSTOP)  # it cannot end the stage now
    process.kill()
    process.communicate()
    assert not Lock(held[0].name).try_acquire()
    os.kill(guards()[0], signal.SIGCONT)
    shapes.wait_for(lambda: not shapes.running(project) and not guards(), 60)
    assert Lock(held[0].name).try_acquire()


def test_checkpoints_of_a_variant_survive_a_change_of_code(project):
    sweeping.sweep(jobs.resolve(["v0"]))
    checkpoint = project / ".ups/workspaces/v0-42/.ups/checkpoints/train_operator.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("epoch 7")
    (project / "indirect.py").write_text("VALUE = 2\n")
    assert len(sweeping.sweep(jobs.resolve(["v0"])).executed) == 6
    assert checkpoint.read_text() == "epoch 7"
    # Also when the worktree itself was damaged.
    (project / ".ups/workspaces/v0-42/.git").write_text("gitdir: nowhere")
    (project / "indirect.py").write_text("VALUE = 3\n")
    assert len(sweeping.sweep(jobs.resolve(["v0"])).executed) == 6
    assert checkpoint.read_text() == "epoch 7"


@pytest.mark.parametrize("file", ["metrics.json", ".dir"])
def test_a_corrupt_object_is_found_removed_and_made_again(project, file):
    sweeping.sweep(jobs.resolve(["v0"]))
    shapes.executed(project)
    node = plan(jobs.resolve(["v0"])).of(jobs.resolve(["v0"])[0])["train_codec"]
    store = Store(project / ".dvc/cache")
    md5 = (
        node.outs[0]["md5"] if file == ".dir" else dict(store.files(node.outs[0]))["artifacts/train_codec/metrics.json"]
    )
    path = store.object_path(md5)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"e", b"E"))
    # v1 reads what train_codec wrote.
    report = sweeping.sweep(jobs.resolve(["v1"]))
    assert report.failures == {}
    assert [stage for stage, _ in report.executed] == ["train_codec", *SIX[2:]]
    assert store.has(node.outs[0]) or file == ".dir"


def test_a_full_disk_fails_the_stage_and_keeps_the_cache_whole(project, monkeypatch):
    sweeping.sweep(jobs.resolve(["v0"]))
    monkeypatch.setattr(
        Store, "_publish", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device"))
    )
    report = sweeping.sweep(jobs.resolve(["v1"]))
    assert list(report.failures) == ["train_operator of v1-42"]
    assert "No space left" in report.failures["train_operator of v1-42"]
    assert list((project / ".dvc/cache/files/md5").glob("*.tmp")) == []
    monkeypatch.undo()
    monkeypatch.chdir(project)
    for key, value in shapes.environment(project).items():
        monkeypatch.setenv(key, value)
    assert [stage for stage, _ in sweeping.sweep(jobs.resolve(["v1"])).executed] == SIX[2:]


def test_what_killed_processes_left_in_the_cache_is_cleared(project):
    folder = project / ".dvc/cache/files/md5"
    folder.mkdir(parents=True)
    left = folder / f"{os.uname().nodename}.999999999.abc.tmp"
    mine = folder / f"{os.uname().nodename}.{os.getpid()}.abc.tmp"
    left.touch()
    mine.touch()
    Store(project / ".dvc/cache").clear_leftovers()
    assert not left.exists()
    assert mine.exists()


def test_rubbish_as_output_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to("nowhere")
    with pytest.raises(ArtifactError, match="neither a file nor a folder"):
        Store(tmp_path / "cache").add("out", tmp_path)
    with pytest.raises(ArtifactError, match="does not exist, although"):
        Store(tmp_path / "cache").add("missing", tmp_path)


def test_a_file_changed_after_planning_is_noticed(project):
    wanted = jobs.resolve(["v0"])
    made = plan(wanted)
    (project / "indirect.py").write_text("VALUE = 'changed meanwhile'\n")
    report = sweeping.sweep(wanted, made=made)
    assert "indirect.py was changed" in report.failures["prepare_data of v0-42"]
    assert not (project / ".dvc/cache").exists()


def test_locks_are_exclusive_shared_and_given_up(tmp_path):
    one, two, three = (Lock("x", tmp_path) for _ in range(3))
    assert one.try_acquire()
    assert not two.try_acquire(shared=True)
    with pytest.raises(Interrupted):
        two.acquire(stopping=lambda: True)
    one.release()
    assert two.try_acquire(shared=True)
    assert three.try_acquire(shared=True)
    assert not one.try_acquire()
