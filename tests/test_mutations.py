"""The mutation table on the real stages: change one thing, and exactly the stages that depend on it are to run.

For every stage a seeded generator draws a parameter, a module that it imports itself, one that it gets through others,
a byte of data that it reads, and a file that no stage reads. What is to run is worked out from what the interpreter
says the stages read (`stage_truth`), never from `dvc.yaml`. The run-cache is filled without running anything.
"""

import random
from pathlib import Path

import pytest
import standin
import yaml
from mutations import KINDS, Project, content

from ups.parameters.files import BASE
from ups.pipeline.stages import disagreements, stage_names

SEED = 2026
STAGES = list(yaml.safe_load((standin.ROOT / "dvc.yaml").read_text())["stages"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("mutations") / "project")


@pytest.fixture
def project(made, monkeypatch):
    monkeypatch.chdir(made.folder)
    made.fill_cache()
    return made


def test_the_interpreter_and_dvc_yaml_agree(project):
    """Both ways of finding a stage's code and files give the same, and the real graph has no stage too few."""
    assert stage_names() == STAGES
    listed = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    for name, truth in project.truth.items():
        deps = {dep.replace("${data.path}", project.raw["data"]["path"]) for dep in listed[name]["deps"]}
        assert deps == truth.code | truth.files(project.raw), name


@pytest.mark.parametrize("stage", STAGES)
def test_a_plan_runs_exactly_what_depends_on_a_change(project, stage):
    draw = random.Random(f"{SEED} {stage}")
    kinds = [kind for kind in KINDS if kind != "data" or project.truth[stage].inputs]
    found = [error for kind in kinds for error in project.wrong(project.mutate(kind, stage, draw))]
    assert found == []
    assert disagreements() == []
    assert project.planned() == (set(), set()), "everything was put back"


def test_a_byte_of_ones_own_data_counts(project, monkeypatch):
    """The one file that no stage writes: every byte of it counts, and nothing beside it does."""
    draw = random.Random(SEED)
    Path("data").mkdir()
    own = Path("data/own.h5")
    own.write_bytes(draw.randbytes(3 << 20))
    text = project.base.replace("path: artifacts/simulate/data.h5", f"path: {own}")
    monkeypatch.setattr(project, "raw", yaml.safe_load(text))
    readers = {name for name, truth in project.truth.items() if own.as_posix() in truth.files(project.raw)}
    assert readers == {"prepare_data"}
    with content(BASE, text.encode()):
        project.fill_cache()
        for place in (0, draw.randrange(3 << 20), (3 << 20) - 1):
            changed = bytearray(own.read_bytes())
            changed[place] ^= 1 << draw.randrange(8)
            with content(own, bytes(changed)):
                assert project.planned() == (readers, set(STAGES) - {"simulate"})
        Path("data/beside.h5").write_bytes(b"x")
        assert project.planned() == (set(), set())


# One planted error of each sort in dvc.yaml, and the kind of change that has to bring it to light.
PLANTED = {
    "a missing module": ("train_operator", lambda entry: entry["deps"].remove("ups/training/loop.py")),
    "a needless module": ("encode_latents", lambda entry: entry["deps"].append("ups/training/loop.py")),
    "a missing section": ("train_diffusion", lambda entry: entry["params"][0]["params/base.yaml"].remove("seed")),
    "a needless section": ("evaluate", lambda entry: entry["params"][0]["params/base.yaml"].append("seed")),
    "a missing file": ("evaluate", lambda entry: entry["deps"].remove("artifacts/distill/config.json")),
    "a needless file": ("train_baseline", lambda entry: entry["deps"].append("artifacts/distill/config.json")),
}


@pytest.mark.parametrize("error", list(PLANTED))
def test_the_table_finds_a_planted_error(project, error):
    stage, plant = PLANTED[error]
    pipeline = yaml.safe_load(Path("dvc.yaml").read_text())
    plant(pipeline["stages"][stage])
    with content(Path("dvc.yaml"), yaml.safe_dump(pipeline, sort_keys=False).encode()):
        project.fill_cache()
        draw = random.Random(SEED)
        changes = {
            "module": lambda: project.module("ups/training/loop.py"),
            "section": lambda: project.parameter("seed", 42, draw),
            "file": lambda: project.data("artifacts/distill/config.json", draw),
        }
        found = project.wrong(changes[error.split()[-1]]())
        should = "should not" if "needless" in error else "should"
        assert any(f": {stage} {should} " in text for text in found), found
