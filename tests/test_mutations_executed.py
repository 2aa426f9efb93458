"""The mutation table really executed: the first real stages at the preset `tiny`, run by `ups sweep`.

Executed has to be: a stage that reads the change itself, and one of whose input files a byte is different afterwards.
Where a changed stage writes the same bytes as before, the chain stops there.
"""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import h5py
import pytest
from mutations import Change, Project

from ups.parameters.files import BASE
from ups.pipeline import jobs
from ups.pipeline import sweep as sweeping
from ups.pipeline.plan import Action, plan

pytestmark = pytest.mark.timeout(1800)  # against hanging: some 50 s in all on two idle cores
SEED = 2026
STAGES = ("simulate", "prepare_data", "train_codec", "encode_latents")
OWN = Path("data/own.h5")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return the project with a data file of one's own, everything in it executed once."""
    made = Project(tmp_path_factory.mktemp("executed") / "project", STAGES, "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        subprocess.run([sys.executable, "-m", "ups.stages.simulate"], check=True)
        OWN.parent.mkdir()
        shutil.move("artifacts/simulate/data.h5", OWN)
        shutil.rmtree("artifacts")
        made.base = BASE.read_text().replace("artifacts/simulate/data.h5", OWN.as_posix())
        BASE.write_text(made.base)
        made.raw["data"]["path"] = OWN.as_posix()
        assert executed() == list(STAGES)
        yield made


def executed() -> list[str]:
    """Sweep; returns the stages that ran, in order."""
    planned = plan(jobs.resolve([]))
    to_run = {node.stage for node in planned.nodes if node.action is Action.RUN}
    report = sweeping.sweep(planned.jobs, made=planned)
    assert report.failures == {}
    stages = [stage for stage, _ in report.executed]
    assert set(stages) <= to_run, "nothing runs that was not planned"
    assert {stage for stage, _ in report.shared} == to_run - set(stages)
    return stages


def inputs(project: Project) -> dict[str, dict[str, bytes]]:
    """Return the content of every file that each stage reads, as the results hold it."""
    [job] = jobs.resolve([])
    results = Path(".ups/results") / job.name
    place = {path: path if path == OWN.as_posix() else results / path for path in _files(project)}
    return {
        name: {path: Path(place[path]).read_bytes() for path in truth.files(project.raw)}
        for name, truth in project.truth.items()
    }


def _files(project: Project) -> set[str]:
    return set().union(*(truth.files(project.raw) for truth in project.truth.values()))


def seldom(project: Project, paths: Iterable[str]) -> list[str]:
    """Return the modules that at most two stages read, for the sake of the time that the test takes."""
    return sorted(path for path in paths if sum(path in truth.code for truth in project.truth.values()) <= 2)


def change(project: Project, what: str, draw: random.Random) -> Change:
    truth, own = project.truth["prepare_data"], {f"ups/stages/{name}.py" for name in STAGES}
    match what:
        case "unrelated file" | "machine":
            stage = {"machine": "encode_latents"}.get(what, "train_codec")  # the former reads no parameters of its own
            return project.mutate("parameter" if what == "machine" else what, stage, draw)
        case "direct module":
            return project.module(draw.choice(seldom(project, truth.direct - own)))
        case "indirect module":
            return project.module(draw.choice(seldom(project, truth.code - truth.direct - own)))
        case "parameter of a late stage":
            key = "train_codec.optimization.learning_rate"
            return project.parameter(key, project.raw["train_codec"]["optimization"]["learning_rate"], draw)
        case "parameter of an early stage":
            return project.parameter("prepare_data.min_distance", project.raw["prepare_data"]["min_distance"], draw)
        case "data":
            return project.source(OWN, place_of_a_training_value(), {"prepare_data"})
    raise ValueError(what)


def place_of_a_training_value() -> int:
    """Return where in the file the lowest byte of a number of the training split lies."""
    with h5py.File(OWN) as file:
        field = file["tensor"]
        start, training = field.id.get_offset(), field[-1].size
        assert start is not None
        return start + (field.size - training // 2) * field.dtype.itemsize


# What is to be executed whatever is drawn; None where that depends on the draw.
TABLE = {
    "unrelated file": [],
    "machine": [],
    "direct module": None,
    "indirect module": None,
    "parameter of an early stage": ["prepare_data"],
    "parameter of a late stage": ["train_codec", "encode_latents"],
    "data": ["prepare_data", "train_codec", "encode_latents"],
}


@pytest.mark.parametrize("what", list(TABLE))
def test_exactly_what_depends_on_a_change_is_executed(project, what):
    assert executed() == [], "every test finds everything cached"
    before = inputs(project)
    with change(project, what, random.Random(f"{SEED} {what}")) as (_, touched, _):
        ran = executed()
        after = inputs(project)
    differs = {name for name in STAGES if before[name] != after[name]}
    assert ran == [name for name in STAGES if name in touched | differs]
    assert TABLE[what] in (None, ran)
    assert executed() == [], "what was before is still in the cache"
