"""Several processes that train one model: the same training as one process alone, and nothing left behind."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from standin import ROOT

from ups.training.team import ALONE, Team

SCRIPT = Path(__file__).with_name("team_training.py")


def trained(folder, processes, *arguments, launcher=(), micro_batches=1):
    folder.mkdir()
    words = [*launcher, str(SCRIPT), str(folder), str(processes), str(micro_batches), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, timeout=120)


def rows(folder):
    with (folder / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("team") / "alone"
    assert trained(folder, 1, micro_batches=2).returncode == 0
    return folder


def assert_same_training(folder, alone):
    for mine, theirs in zip(rows(folder), rows(alone), strict=True):
        for name in mine.keys() - {"seconds"}:
            # Sums over parts of a batch round differently; twelve updates of Muon amplify 1e-7 to about 1e-5.
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-6), name
    weights, expected = (torch.load(place / "weights.pt") for place in (folder, alone))
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("processes", "micro_batches"), [(2, 1), (4, 1), (2, 2)])
def test_a_team_trains_what_one_process_trains(tmp_path, alone, processes, micro_batches):
    done = trained(tmp_path / "team", processes, micro_batches=micro_batches)
    assert done.returncode == 0, done.stderr
    assert_same_training(tmp_path / "team", alone)
    members = [tmp_path / "team" / f"member-{rank}" for rank in range(1, processes)]
    assert all(member.is_dir() and not any(member.iterdir()) for member in members)  # they took part, and wrote nothing


def test_torchrun_makes_a_team_too(tmp_path, alone):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = trained(tmp_path / "team", 1, launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert_same_training(tmp_path / "team", alone)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_training_and_leaves_none_behind(tmp_path, lost):
    done = trained(tmp_path / "team", 2, lost)
    assert done.returncode != 0
    assert not (tmp_path / "team" / "weights.pt").exists()
    if lost == 1:
        assert "lost the others" in done.stderr
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in listed


def test_parts_of_a_batch_are_all_of_it():
    indices = torch.arange(10)
    parts = [part for rank in range(4) for part in Team(rank, 4).parts(indices, 1)]
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
    assert sum(len(Team(rank, 16).parts(indices, 1)) for rank in range(16)) == 10  # some have nothing to do
    assert [part.tolist() for part in ALONE.parts(indices, 3)] == [part.tolist() for part in indices.chunk(3)]


def test_members_draw_their_own_numbers_and_the_leader_those_of_a_training_alone():
    assert ALONE.seed(42) == Team(0, 3).seed(42) == 42
    assert len({Team(rank, 3).seed(42) for rank in range(3)}) == 3
