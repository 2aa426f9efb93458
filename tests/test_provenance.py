"""What a result says about where it came from."""

import subprocess
import time

import pytest

from ups.stages.provenance import provenance


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("dvc.lock", "code.py"):
        (tmp_path / name).write_text("1\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *arguments], check=True)
    return tmp_path


def test_a_tree_is_dirty_when_something_else_than_the_lock_of_runs_changed(repository):
    assert provenance("toy", time.time())["git_dirty"] is False
    (repository / "dvc.lock").write_text("2\n")
    assert provenance("toy", time.time())["git_dirty"] is False
    (repository / "code.py").write_text("2\n")
    assert provenance("toy", time.time())["git_dirty"] is True


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance("toy", time.time())["git_commit"] is None
