"""Killed sweeps, dying stages, a rotting cache: no orphan, no stuck lock, nothing half-written, no work done twice."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import shapes
from aftermath import guards, nothing_is_left

from ups.errors import ArtifactError
from ups.pipeline import executions, jobs
from ups.pipeline import sweep as sweeping
from ups.pipeline.dvc_store import Store, run_key
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


def resumes(folder: Path) -> None:
    """Check that the same sweep now executes exactly what is missing, and leaves no rubbish."""
    shapes.executed(folder)
    shown = shapes.ups(folder, "sweep", "v0", "--no-publish")
    assert "4 executed, 0 shared, 2 cached" in shown
    assert shapes.executed(folder) == SIX[2:]
    assert not (folder / ".ups/workspaces/v0-42/artifacts/train_operator/half").exists()
    nothing_is_left(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_ended_takes_its_stage_along_and_resumes_there(project, number):
    process = start_hanging(project)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: -9}.get(number, 128 + number), err
    shapes.wait_for(lambda: not shapes.running(project) and not guards(project), 60)
    nothing_is_left(project, between_sweeps=number == signal.SIGKILL)
    if number != signal.SIGKILL:
        assert "the same command goes on from here" in err
        assert not (project / ".ups/workspaces/v0-42/artifacts/train_operator").exists()
        assert logged(project)[-1]["returncode"] == -signal.SIGTERM
    assert [line["stage"] for line in logged(project) if line["returncode"] == 0] == SIX[:2]
    resumes(project)


@pytest.mark.parametrize("victim", ["stage", "guard"])
def test_a_stage_or_guard_that_is_killed_fails_the_stage_and_leaves_no_orphan(project, victim):
    process = start_hanging(project)
    [pid] = shapes.running(project) if victim == "stage" else guards(project)
    os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "train_operator of v0-42 failed: exit code -9" in err
    nothing_is_left(project)
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


@pytest.mark.parametrize("apart_s", [0.0, 0.2])
def test_two_sweeps_that_start_together_share_stages_and_a_new_database(project, apart_s):
    mlflow = pytest.importorskip("mlflow")
    store = f"sqlite:///{project}/mlflow.db"
    first = shapes.start(project, "sweep", "v0", "v1", "v2", MLFLOW_TRACKING_URI=store)
    time.sleep(apart_s)
    second = shapes.start(project, "sweep", "v1", "v2", "v3", MLFLOW_TRACKING_URI=store)
    for process in (first, second):
        _, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, "")
    executed = shapes.executed(project)
    assert [executed.count(stage) for stage in SIX] == [1, 1, 4, 4, 4, 4]
    client = mlflow.MlflowClient(store)
    runs = client.search_runs([client.get_experiment_by_name("burgers1d").experiment_id])
    assert sorted(run.data.tags["variant"] for run in runs) == ["v0", "v1", "v2", "v3"], "none twice"
    assert {run.info.status for run in runs} == {"FINISHED"}
    nothing_is_left(project)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ups_repro_takes_dvc_and_the_stage_along(project, number):
    """The same for the working tree's own run, which DVC drives."""
    code = "from ups.pipeline import execute; execute.reproduce()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=shapes.environment(project, **HANGS), stderr=subprocess.PIPE, text=True
    )
    half = project / "artifacts/train_operator/half"
    shapes.wait_for(lambda: half.exists() or process.poll() is not None, 120)
    assert len(shapes.running(project)) == 1
    process.send_signal(number)
    process.communicate(timeout=60)
    shapes.wait_for(lambda: not shapes.running(project) and not guards(project), 60)
    shapes.executed(project)
    subprocess.run([sys.executable, "-c", code], env=shapes.environment(project), check=True, capture_output=True)
    assert shapes.executed(project) == SIX[2:]
    assert not half.exists()


def test_a_lock_is_held_until_the_stage_itself_is_dead(project):
    """Between the driver's death and its stage's, nobody else may start the same stage."""
    process = start_hanging(project)
    held = [path for path in (project / ".ups/locks").glob("run-*") if not Lock(path.name).try_acquire()]
    assert len(held) == 1
    os.kill(guards(project)[0], signal.SIGSTOP)  # it cannot end the stage now
    process.kill()
    process.communicate()
    assert not Lock(held[0].name).try_acquire()
    os.kill(guards(project)[0], signal.SIGCONT)
    shapes.wait_for(lambda: not shapes.running(project) and not guards(project), 60)
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


DAMAGE = {
    "a flipped bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "cut short": lambda content: content[:-1],
    "emptied": lambda content: b"",
    "another content": lambda content: content.replace(b"e", b"E"),
    "removed": None,
}


@pytest.mark.parametrize("damage", list(DAMAGE))
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_corrupt_object_is_found_removed_and_made_again(project, what, damage):
    sweeping.sweep(jobs.resolve(["v0"]))
    shapes.executed(project)
    [job] = jobs.resolve(["v0"])
    [out] = plan([job]).of(job)["train_codec"].outs
    store = Store(project / ".dvc/cache")
    md5 = out["md5"] if what == "folder" else dict(store.files(out))["artifacts/train_codec/metrics.json"]
    path = store.object_path(md5)
    before = path.read_bytes()
    path.chmod(0o644)
    if DAMAGE[damage]:
        path.write_bytes(DAMAGE[damage](before))
    else:
        path.unlink()
    # v1 reads what train_codec wrote.
    assert sweeping.sweep(jobs.resolve(["v1"])).failures == {}
    assert shapes.executed(project) == ["train_codec", *SIX[2:]]
    assert what == "folder" or path.read_bytes() == before
    assert sweeping.sweep(jobs.resolve(["v0", "v1"])).executed == []
    nothing_is_left(project)


@pytest.mark.parametrize("rubbish", [b"", b"\xff\xfe\x00", b"outs: 3\n", b"\nouts:\n- {", b"\nouts:\n- path: x\n"])
def test_a_corrupt_entry_of_the_run_cache_is_made_again(project, rubbish):
    sweeping.sweep(jobs.resolve(["v0"]))
    shapes.executed(project)
    [job] = jobs.resolve(["v0"])
    made = plan([job])
    key = run_key(made.record(made.of(job)["train_diffusion"]))
    [run] = (project / ".dvc/cache/runs" / key[:2] / key).iterdir()
    run.write_bytes(rubbish)
    assert sweeping.sweep([job]).failures == {}
    assert shapes.executed(project) == ["train_diffusion"]
    nothing_is_left(project)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("writes nothing", "artifacts/train_operator/metrics.json does not exist: train_operator did not write it"),
        ("forgets", "metrics.json does not exist: train_operator did not write it, .* and train_diffusion reads it"),
        ("writes no JSON", r"artifacts/train_operator/metrics.json is not JSON \(.*\), although train_operator ended"),
        ("writes a dangling link", "artifacts/train_operator/link is neither a file nor a folder"),
    ],
)
def test_rubbish_from_a_stage_fails_it_and_is_not_kept(project, behaviour, message):
    shown = shapes.ups(project, "sweep", "v0", "--no-publish", code=1, BEHAVIOUR_train_operator=behaviour)
    assert re.search(rf"train_operator of v0-42 failed: .*{message}", shown), shown
    assert "Traceback" not in shown
    assert shapes.executed(project) == SIX[:3], "nobody reads rubbish"
    assert logged(project)[-1]["returncode"] == 1
    nothing_is_left(project)
    # The environment decides here whether it writes rubbish: had that been kept, it would now count as the result.
    resumes(project)


def test_rubbish_of_the_last_stage_counts_too(project):
    shown = shapes.ups(project, "sweep", "v0", "--no-publish", code=1, BEHAVIOUR_evaluate="writes no JSON")
    assert "artifacts/evaluate/metrics.json is not JSON" in shown
    shapes.executed(project)
    assert "1 executed" in shapes.ups(project, "sweep", "v0", "--no-publish")


def test_results_that_cannot_be_written_are_not_claimed(project):
    """What goes wrong after the last stage is a failure of the sweep, too."""
    job_list = jobs.resolve(["v0", "v1"])
    made = plan(job_list)
    (project / "params/variants/v0.yaml").unlink()  # what it varies cannot be said any more
    report = sweeping.sweep(job_list, made=made)
    assert (report.finished, report.unfinished) == (["v1-42"], ["v0-42"])
    assert list(report.failures) == ["results of v0-42"]
    assert "v0" in report.failures["results of v0-42"]


def test_an_accident_of_the_driver_is_reported_in_full(project, monkeypatch, capfd):
    def accident(*_: object) -> None:
        raise ZeroDivisionError("by accident")

    monkeypatch.setattr(Store, "save", accident)
    report = sweeping.sweep(jobs.resolve(["v0"]))
    assert "unexpected ZeroDivisionError: by accident" in report.failures["prepare_data of v0-42"]
    assert "in accident" in capfd.readouterr().err, "the traceback"
    assert report.unfinished == ["v0-42"]
    nothing_is_left(project)


def test_a_reader_of_the_output_that_is_gone_ends_nothing(project):
    process = shapes.start(project, "sweep", "v0", "--no-publish")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(120) == 0, err
    assert shapes.executed(project) == SIX


def test_a_line_of_the_log_that_was_cut_short_does_not_spoil_the_next(project):
    sweeping.sweep(jobs.resolve(["v0"]))
    executions.LOG.write_bytes(executions.LOG.read_bytes()[:-20])
    sweeping.sweep(jobs.resolve(["v1"]))
    assert [line.variant for line in executions.read()] == ["v0"] * 5 + ["v1"] * 4


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
