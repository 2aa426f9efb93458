"""`ups plan`: totals, reasons, what it costs to ask."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import shapes
import standin
from standin import ROOT

from ups.errors import ParameterError
from ups.parameters.sweeps import parse_seeds, read_sweep
from ups.pipeline import executions, jobs
from ups.pipeline.executions import Execution
from ups.pipeline.plan import plan

KEYS = ["executions", "naive_executions", "cached", "predicted_s", "saved_s", "stages"]
HEAVY = ("torch", "prefect", "mlflow", "dvc", "pandas", "ruamel")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(shapes.make(tmp_path / "project"))
    return tmp_path / "project"


def test_shared_stages_count_once(project):
    shown = json.loads(shapes.ups(project, "plan", "--sweep", "all", "--json"))
    assert list(shown) == KEYS
    assert (shown["executions"], shown["naive_executions"], shown["cached"]) == (34, 48, 0)
    keys = ["stage", "fingerprint", "action", "reason", "variants", "predicted_s"]
    assert all(list(stage) == keys for stage in shown["stages"])
    assert len({stage["fingerprint"] for stage in shown["stages"]}) == 34
    assert shown["stages"][0]["variants"] == [f"v{i}" for i in range(8)]
    # Depth first: all of the first variant before anything of the second.
    assert [stage["stage"] for stage in shown["stages"]][:6] == list(shapes.SIX)


def test_seeds_multiply_what_depends_on_them(project):
    shown = json.loads(shapes.ups(project, "plan", "v0", "v1", "--seeds", "0,1,2", "--json"))
    assert (shown["executions"], shown["naive_executions"]) == (3 * (2 + 2 * 4), 36)


def test_text_says_what_json_says(project):
    text = shapes.ups(project, "plan", "v0", "v1")
    assert "10 executions instead of 12, 0 cached" in text
    assert text.count("never run here") == 10
    assert "all: never run here" in text


def test_reasons_name_what_changed(project):
    made = plan(jobs.resolve(["v0"]))
    for node in made.nodes:
        line = Execution(node.stage, node.fingerprint, "key", "v0", 42, 100.0, 104.0, 0)
        executions.append(line, node.description)
    # Same inputs, nothing in the cache.
    assert {node.reason for node in plan(jobs.resolve(["v0"])).nodes[:1]} == {"its result is no longer in the cache"}
    reasons = {node.stage: node.reason for node in plan(jobs.resolve(["v1"])).nodes}
    key = "train_operator.optimization.weight_decay"
    assert reasons["train_operator"] == f"{key}: 0.001 -> 0.002; runs after train_codec"
    assert reasons["distill"] == "train_diffusion upstream changed; runs after train_diffusion"
    (project / "indirect.py").write_text("VALUE = 2\n")
    assert plan(jobs.resolve(["v0"])).nodes[0].reason == "indirect.py changed"
    assert plan(jobs.resolve(["v0"])).predicted_s == 24.0


def _logged(nodes, seconds: float, code: int = 0) -> None:
    for node in nodes:
        line = Execution(node.stage, node.fingerprint, "key", "v0", 42, 0.0, seconds, code)
        executions.append(line, node.description)


def test_predictions_are_medians_of_what_took_how_long(project):
    nodes = plan(jobs.resolve(["v0"])).nodes
    for seconds in (1000.0, 5.0, 6.0, 7.0, 8.0, 900.0):
        _logged(nodes, seconds)
    _logged(nodes, 999.0, code=1)
    assert {node.seconds for node in plan(jobs.resolve(["v0"])).nodes} == {7.0}  # of the latest five that succeeded
    # Another variant and another seed are other executions of the same size.
    assert {node.seconds for node in plan(jobs.resolve(["v1"], [7])).nodes} == {7.0}


def test_predictions_take_the_execution_most_alike(project):
    _logged(plan(jobs.resolve(["v0"])).nodes, 10.0)
    _logged(plan(jobs.resolve(["v1"])).nodes, 20.0)  # the latest, but of another variant
    again = {node.stage: node.seconds for node in plan(jobs.resolve(["v0"], [7])).nodes}
    assert again["train_operator"] == again["evaluate"] == 10.0


def test_another_size_predicts_nothing(project):
    _logged(plan(jobs.resolve(["v0"], preset="tiny")).nodes, 3.0)
    larger = plan(jobs.resolve(["v0"], preset="default"))
    # The presets set nothing that this project's `prepare_data` reads: it is the same execution.
    assert {node.stage for node in larger.nodes if node.predicted_s is not None} == {"prepare_data"}
    assert "5 of them have run in no sweep at this size" in larger.summary()
    assert {node.predicted_s for node in plan(jobs.resolve(["v1"], [7], preset="tiny")).nodes} == {3.0}


def test_a_torn_line_of_the_log_is_left_out(project):
    node = plan(jobs.resolve(["v0"])).nodes[0]
    for _ in range(2):
        executions.append(Execution("s", node.fingerprint, "k", "v", 0, 0.0, 1.0, 0), node.description)
    executions.LOG.write_bytes(executions.LOG.read_bytes()[:-20])
    assert len(executions.read()) == 1


@pytest.mark.parametrize("arguments", [["--sweep", "diffusion", "--seeds", "0-2"], ["golden", "--preset", "tiny"], []])
def test_asking_costs_no_heavy_import(arguments):
    code = (
        f"import sys; from ups.cli.app import app; app({['plan', *arguments]!r}, standalone_mode=False); "
        f"print('LOADED', *[m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.splitlines()[-1] == "LOADED"


def test_sweep_files_are_checked(project):
    assert read_sweep("golden-vs-light").variants == ("golden", "light-diffusion")
    assert read_sweep("diffusion").variants[:3] == ("golden", "no-diffusion", "operator-longer")
    for content, message in {
        "variants: golden": "expected names",
        "variants: [golden]\nseed: [1]": "Did you mean 'seeds'",
        "variants: [golden]\nseeds: [-1]": "whole numbers",
    }.items():
        Path("params/sweeps/bad.yaml").write_text(content)
        with pytest.raises(ParameterError, match=message):
            read_sweep("bad")
    with pytest.raises(ParameterError, match="Did you mean 'diffusion'"):
        read_sweep("difusion")


def test_seeds_are_lists_or_ranges():
    assert parse_seeds("0,2, 5-7,2") == (0, 2, 5, 6, 7)
    for text in ("", "a", "1,", "-1", "1--2", "1-", "5-2"):
        with pytest.raises(ParameterError, match="--seeds"):
            parse_seeds(text)


def test_without_variants_the_parameters_in_use_are_planned(project):
    assert "plan" in shapes.ups(project, "plan", "--help")
    shapes.ups(project, "params", "use", "v3", "--seed", "7")
    [job] = jobs.resolve([])
    assert (job.variant, job.seed, job.name) == ("v3", 7, "v3-7")
    assert shapes.ups(project, "plan", "--json") == shapes.ups(project, "plan", "v3", "--seeds", "7", "--json")
    assert [job.name for job in jobs.resolve(["base"], [1], preset="tiny", task="burgers1d")] == [
        "base-1.tiny.burgers1d"
    ]


def test_edits_of_the_parameters_in_use_count(project):
    """What `dvc repro` would read is planned, even where the preset `default` has a value of its own."""
    key = ("train_operator", "optimization", "pairs_per_update")
    for select in ([], ["params", "use", "v3"]):
        if select:
            shapes.ups(project, *select)
        before = {node.stage: node.fingerprint for node in plan(jobs.resolve([])).nodes}
        standin.set_parameter(project, "pairs_per_update: 30\n", "pairs_per_update: 31\n")
        [job] = jobs.resolve([])
        assert job.raw[key[0]][key[1]][key[2]] == 31
        after = {node.stage: node.fingerprint for node in plan([job]).nodes}
        changed = ["train_operator", "train_diffusion", "distill", "evaluate"]
        assert [name for name in after if after[name] != before[name]] == changed
        standin.set_parameter(project, "pairs_per_update: 31\n", "pairs_per_update: 30\n")


def test_one_paragraph_on_a_wrong_name(project):
    output = shapes.ups(project, "plan", "v99", code=1)
    assert "Unknown variant 'v99'" in output
    assert "Traceback" not in output
    standin.set_parameter(project, "blocks: 6", "blocs: 6")
    assert "blocks" in shapes.ups(project, "plan", "v0", code=1)
