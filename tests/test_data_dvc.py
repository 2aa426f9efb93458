"""`data.dvc` with the real DVC: what works without the file, and the two ways of getting it, against a test server."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from file_server import CONTENT, server  # noqa: F401

from ups.data.catalogue import CATALOGUE

ROOT = Path(__file__).parent.parent
NAME = "1D_Burgers_Sols_Nu0.001.hdf5"

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="DVC needs git")


@pytest.fixture
def repository(tmp_path):
    """An empty DVC repository with this project's data.dvc, one unrelated stage, and a remote."""

    def run(command, *arguments, check=True):
        environment = os.environ | {"DVC_NO_ANALYTICS": "true", "GIT_CONFIG_GLOBAL": os.devnull}
        result = subprocess.run(
            command.split() if command != "dvc" else [sys.executable, "-m", "dvc", *arguments],
            cwd=tmp_path / "work",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    work = tmp_path / "work"
    work.mkdir()
    run("git init -q")
    run("dvc", "init", "-q")
    run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    (work / ".gitignore").write_text("/data/\n/out\n")
    (work / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"other": {"cmd": "echo 1 > out", "outs": ["out"]}}}))
    shutil.copy(ROOT / "data.dvc", work)
    return work, run


def use_server(work, url, md5):
    """Point data.dvc at another address and content; everything else stays as it is."""
    text = (work / "data.dvc").read_text()
    text = text.replace(CATALOGUE[NAME].url, url).replace(CATALOGUE[NAME].md5, md5)
    (work / "data.dvc").write_text(text)


def stage_checksum(folder):
    """Return DVC's checksum of the stage that data.dvc in `folder` describes."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        return repo.stage.load_one(str(folder / "data.dvc")).compute_md5()


def test_agrees_with_the_catalogue(repository):
    content = yaml.safe_load((ROOT / "data.dvc").read_text())
    assert content["deps"][0]["path"] == CATALOGUE[NAME].url
    assert content["outs"][0]["path"] == f"data/{NAME}"
    assert content["outs"][0]["md5"] == CATALOGUE[NAME].md5
    # A wrong one would make DVC ask the server each time a stage reads the file.
    assert content["md5"] == stage_checksum(repository[0])


def test_bare_commands_work_without_the_file_and_the_network(repository):
    work, run = repository
    use_server(work, "http://127.0.0.1:9/1", CATALOGUE[NAME].md5)
    run("dvc", "repro", "-q")
    assert (work / "out").exists()
    run("dvc", "push")
    run("dvc", "pull")
    assert "other" not in run("dvc", "status")
    assert not (work / "data").exists()


def test_dvc_update_downloads(repository, server):  # noqa: F811
    work, run = repository
    use_server(work, f"http://127.0.0.1:{server.server_port}/1", CATALOGUE[NAME].md5)
    run("dvc", "update", "data.dvc")
    assert (work / "data" / NAME).read_bytes() == CONTENT
    text = (work / "data.dvc").read_text()
    assert hashlib.md5(CONTENT).hexdigest() in text
    assert text.startswith("# PDEBench")  # DVC keeps the comments
    run("dvc", "push")
    stored = sum(path.stat().st_size for path in (work / ".dvc" / "cache").rglob("*") if path.is_file())
    assert stored < len(CONTENT)  # not cached: 8 GB are on the disk once


def test_a_file_fetched_by_other_means_is_taken_without_a_request(repository, server):  # noqa: F811
    """`ups data fetch` writes the file itself; a stage that reads it must then run without the network."""
    work, run = repository
    # The last line of data.dvc is DVC's checksum of the rest; other content needs another.
    use_server(work, "http://127.0.0.1:9/1", hashlib.md5(CONTENT).hexdigest())
    text = (work / "data.dvc").read_text().splitlines(keepends=True)[:-1]
    (work / "data.dvc").write_text("".join([*text, f"md5: {stage_checksum(work)}\n"]))
    (work / "data").mkdir()
    (work / "data" / NAME).write_bytes(CONTENT)
    stage = {"cmd": f"wc -c < data/{NAME} > out", "deps": [f"data/{NAME}"], "outs": ["out"]}
    (work / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"reader": stage}}))
    run("dvc", "repro")
    assert (work / "out").read_text().strip() == str(len(CONTENT))
    assert "didn't change" in run("dvc", "repro")
