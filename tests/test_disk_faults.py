"""Disks that are really full or read-only: a message, nothing half-written, and going on once there is room.

The disks are mounted in a mount namespace of the command's own, so nothing of the machine is touched and nothing stays.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import shapes
from aftermath import nothing_is_left

SIX = list(shapes.SIX)
# An ordinary user may mount in a user namespace, where the system allows that.
PRIVATE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
UPS = [sys.executable, "-c", "from ups.cli import main; main()"]


def mounting_works() -> bool:
    command = [*PRIVATE, "sh", "-ec", "mount -t tmpfs -o size=64k full /mnt"]
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not mounting_works(), reason="this system allows no mounts in a namespace of one's own")


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = shapes.make(tmp_path / "project")
    monkeypatch.chdir(folder)
    yield folder
    for pid in shapes.running(folder):
        os.kill(pid, signal.SIGKILL)


def in_private(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which `ups` is that command with these arguments, mounts being its own."""
    ups = " ".join(f"'{word}'" for word in [*UPS, *arguments])
    command = [*PRIVATE, "sh", "-c", f"ups() {{ {ups}; }}\n{script}"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=500, env=shapes.environment(folder), check=False
    )


def read_only(path: str) -> str:
    return f"mount --bind {path} {path} && mount -o remount,bind,ro {path} || exit 99"


def explained(result: subprocess.CompletedProcess[str], words: str) -> None:
    """Check that a command failed with one sentence of `ups` that names the reason."""
    assert result.returncode == 1, result
    said = [line for line in result.stderr.splitlines() if line.startswith("ups: ")]
    assert said, result.stderr
    assert re.search(words, result.stderr)
    # A stage may show its own; it is a line of its message then.
    assert not any(line.startswith("Traceback") for line in result.stderr.splitlines()), result.stderr


@pytest.mark.parametrize("place", [".ups", ".ups/workspaces", ".dvc/cache", ".git", "."])
def test_a_read_only_disk_is_named_and_costs_nothing(project, place):
    shapes.ups(project, "sweep", "v1", "--no-publish")
    shapes.executed(project)
    explained(in_private(project, f"{read_only(place)}\nups", "sweep", "v0", "--no-publish"), "(?i)read-only")
    assert set(shapes.executed(project)) <= {"train_operator"}, "the stages before it are in the cache"
    nothing_is_left(project)
    shapes.ups(project, "sweep", "v0", "--no-publish")
    assert shapes.executed(project) == SIX[2:]
    nothing_is_left(project)


def test_what_is_cached_can_be_planned_and_swept_on_a_read_only_disk(project):
    shapes.ups(project, "sweep", "v0", "--no-publish")
    shapes.executed(project)
    for command in (["plan", "v0", "v1"], ["sweep", "v0", "--no-publish"]):
        result = in_private(project, f"{read_only('.')}\nups", *command)
        assert (result.returncode, result.stderr) == (0, ""), result
    assert "0 executed, 0 shared, 6 cached" in result.stdout
    assert shapes.executed(project) == []


@pytest.mark.parametrize("kilobytes", [16, 40, 64])
def test_a_cache_on_a_full_disk(project, kilobytes):
    """It fails at some stage; with more room, everything is done that was missing, and nothing twice."""
    script = f"""
        mkdir -p .dvc/cache && mount -t tmpfs -o size={kilobytes}k full .dvc/cache || exit 99
        ups; test $? = 1 || exit 98
        cp "$EXECUTIONS" first; mount -o remount,size=10m .dvc/cache || exit 97
        ups || exit 96
        mkdir copy && cp -a .dvc/cache/. copy
    """
    result = in_private(project, script, "sweep", "v0", "--no-publish")
    assert result.returncode == 0, result
    assert "No space left on device" in result.stderr
    first = [line.split()[0] for line in (project / "first").read_text().splitlines()]
    assert 1 <= len(first) < 6, "the disk was full in the middle"
    assert shapes.executed(project) == [*first, *SIX[len(first) - 1 :]], "the stage that failed, and those after it"
    assert [line["returncode"] for line in logged(project)] == [0] * (len(first) - 1) + [1] + [0] * (7 - len(first))
    (project / ".dvc/cache").rmdir()
    (project / "copy").rename(project / ".dvc/cache")
    nothing_is_left(project)


@pytest.mark.parametrize("kilobytes", [16, 170, 200, 230])  # the whole sweep needs some 240
def test_a_full_disk_under_workspaces_logs_and_results(project, kilobytes):
    """Wherever it strikes: index, worktree, outputs or log. What reached the cache is not run again."""
    script = f"""
        mkdir -p .ups && mount -t tmpfs -o size={kilobytes}k full .ups || exit 99
        ups; test $? = 1 || exit 98
        touch "$EXECUTIONS"; cp "$EXECUTIONS" first; mount -o remount,size=50m .ups || exit 97
        ups || exit 96
        mkdir copy && cp -a .ups/. copy
    """
    result = in_private(project, script, "sweep", "v0", "--no-publish")
    assert result.returncode == 0, result
    assert re.search(
        "No space left on device|unable to write file|Out of diskspace", result.stderr
    )  # the latter are git's words
    first = [line.split()[0] for line in (project / "first").read_text().splitlines()]
    everything = shapes.executed(project)
    assert everything[: len(first)] == first == SIX[: len(first)]
    rest = everything[len(first) :]
    assert rest in (SIX[len(first) :], SIX[max(len(first) - 1, 0) :]), "at most the stage it struck runs again"
    (project / ".ups").rmdir()
    (project / "copy").rename(project / ".ups")
    nothing_is_left(project)


def logged(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / ".ups/executions.jsonl").read_text().splitlines()]
