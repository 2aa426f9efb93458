"""The arithmetic of `benchmarks/pipeline/`: what is least possible, what is counted, what is written."""

import os
import subprocess
import sys
import time

import pytest
import shapes
from standin import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
sys.path.insert(0, str(ROOT / "benchmarks/pipeline"))

import document
import measure
import peers
import tools
from shape import Shape

CHAIN = ("a", "b", "c")


def test_least_numbers_of_the_two_shapes():
    """By hand: 2 + 8 x 4 of 48; and 1, three codecs with 5 stages, 2 + 2 x 3 below the base's codec, 1 + 3 x 2 below
    its corrector."""
    first, second = peers.SHAPES
    assert (len(first.parents), first.naive) == (2 + 8 * 4, 48)
    assert (len(second.parents), second.naive) == (1 + 3 * 5 + 2 + 2 * 3 + 1 + 3 * 2, 48) == (31, 48)
    # Two alone, then 32 by twos or four rounds of eight; one alone, then 30 by twos.
    assert [first.least_rounds(workers) for workers in (1, 2, 8, 100)] == [34, 18, 6, 6]
    assert [second.least_rounds(workers) for workers in (1, 2, 100)] == [31, 16, 6]


def test_the_longest_chain_goes_first():
    shape = Shape("s", CHAIN, {"x": "a", "y": "a", "z": "a"})
    assert len(shape.parents) == 9
    # ax ay | az bx | by bz | cx cy | cz. Ending two chains first would leave the third alone for three rounds: six.
    assert shape.least_rounds(2) == 5
    assert shape.executions("y")[-1] == ("c", ("y", "base", "base"))


def test_the_plan_finds_the_same_least_number(tmp_path, monkeypatch):
    """The benchmark's own count, made without the engine, against the engine's."""
    from ups.pipeline import jobs
    from ups.pipeline.plan import plan

    for number, shape in enumerate(peers.SHAPES):
        project = tools.Project(shape, tmp_path / str(number), 0.0)
        monkeypatch.chdir(project.folder)
        made = plan(jobs.resolve(list(shape.variants)))
        assert (made.executions, made.naive_executions) == (len(shape.parents), shape.naive)


def test_the_snakefile_has_one_path_per_execution():
    """Variants share a result exactly where they share its settings."""
    text = tools.snakefile(Shape("s", CHAIN, {"x": "c", "w": "b"}))
    assert "'x': 'artifacts/c/base-base-x/metrics.json'" in text
    assert "'w': 'artifacts/c/base-w-base/metrics.json'" in text
    rule = text[text.index("rule b:") : text.index("rule c:")]
    assert 'upstream="artifacts/a/{s0}/metrics.json"' in rule
    assert '"artifacts/b/{s0}-{s1}/metrics.json"' in rule
    assert 'value="{s1}"' in rule


def test_executions_are_counted_from_what_the_stages_write(tmp_path):
    project = tools.Project(Shape("s", ("prepare_data",), {"v0": "train_codec"}), tmp_path / "p", 0.0)
    assert measure.starts(project.log) == []
    before = time.time()
    project.run([sys.executable, "stage.py", "prepare_data"])
    with project.log.open("a") as file:
        file.write("train_codec 1")  # being written
    [start] = measure.starts(project.log)
    assert start.stage == "prepare_data"
    assert before <= start.time <= time.time()
    assert not start.alive
    assert measure.Start("x", os.getpid(), 0.0).alive
    # `tests/shapes.py` reads the same log.
    assert shapes.executed(project.folder) == ["prepare_data", "train_codec"]


def test_a_process_that_is_only_unburied_is_not_alive():
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not measure.Start("x", process.pid, 0.0).alive
    process.wait()


def test_a_stage_whose_folder_the_tool_names(tmp_path):
    """With OUT it writes there, whoever made the folder, and VALUE reaches the result; else it insists on no folder."""
    project = tools.Project(Shape("s", ("prepare_data",), {"v0": "train_codec"}), tmp_path / "p", 0.0)
    (project.folder / "elsewhere").mkdir()
    command = [sys.executable, "stage.py", "prepare_data"]
    project.environment |= {"OUT": "elsewhere", "VALUE": "v7"}
    project.run(command)
    assert '"value": "v7"' in (project.folder / "elsewhere/metrics.json").read_text()
    del project.environment["OUT"]
    project.run(command)
    assert project.run(command, check=False)[1] != 0


def test_times_and_counts_as_written():
    assert measure.spread([2.0, 1.0, 4.0]) == "2.0 (1.0–4.0)"
    assert measure.spread([2.04], 2) == "2.04"
    assert (measure.counts([34, 34]), measure.counts([36, 34])) == ("34", "34–36")


def test_the_tables_say_what_was_measured():
    found = {
        (shape.name, workers, name): [
            peers.Measured(wall * factor, count, {}) for wall, count in ((10.0, 34), (12.0, 35))
        ]
        for shape in peers.SHAPES
        for workers in (2, 8)
        for name, factor in (("ups sweep", 1), (peers.PAIR, 2), ("Snakemake", 2), ("DVC queue", 2))
    }
    text = peers.sweeps_section(found, [2, 8], 1.0)
    assert "Every variant had its result" in text
    label = f"| {peers.SHAPES[0].name}, 2 workers |"
    assert f"{label} 34–35 | 34–35 | 34–35 | 34–35 | 34 of 48 |" in text
    assert f"{label} 11.0 (10.0–12.0) | 22.0 (20.0–24.0) | 22.0 (20.0–24.0) | 22.0 (20.0–24.0) | 18 | 0.50 |" in text
    found[peers.SHAPES[0].name, 8, "DVC queue"].append(peers.Measured(1.0, 40, {"v5": "ERROR: x"}))
    text = peers.sweeps_section(found, [2, 8], 1.0)
    assert f"DVC queue, {peers.SHAPES[0].name}, 8 workers: variant v5 failed: ERROR: x" in text
    run = {"resumed_s": 0.5, "orphan": False, "second_copy": False, "refused": ""}
    refused = {"resumed_s": None, "orphan": True, "second_copy": True, "refused": "LockException"}
    text = peers.kills_section({"ups sweep": [run, run], "Snakemake": [refused], "DVC queue": [run, refused]})
    assert "| ups sweep | 0.50 (0.50–0.50) | 0 of 2 | 0 of 2 |" in text
    assert "| Snakemake | 1 of 1 refused: LockException | 1 of 1 | 1 of 1 |" in text
    assert "| `dvc repro` | 0.50, 1 of 2 refused: LockException | 1 of 2 | 1 of 2 |" in text


def test_what_a_tool_says_is_wrong():
    said = "starting\nValueError: in '/tmp/x/y/metrics.json'\nmore\nlast\n"
    assert measure.error_line(said) == "ValueError: in 'metrics.json' more"
    assert measure.error_line("one\nlast") == "last"
    assert measure.error_line("") == "nothing said"


def test_tables_are_written_between_their_markers(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- m -->\nold\n<!-- /m -->\nafter\n")
    document.write(path, "m", document.table([["", "x"], ["a", "1"]]))
    assert path.read_text() == "before\n<!-- m -->\n|  | x |\n|---|---:|\n| a | 1 |\n<!-- /m -->\nafter\n"
    with pytest.raises(SystemExit, match="no place for the tables"):
        document.write(path, "other", "text")
    document.write(tmp_path / "new.md", "m", "text")
    assert (tmp_path / "new.md").read_text() == "<!-- m -->\ntext\n<!-- /m -->\n"
