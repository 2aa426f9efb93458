"""Fingerprints: equal exactly when the stage would do the same again, and in agreement with DVC itself."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shapes
import standin
import yaml
from standin import ROOT

from ups.parameters import selection
from ups.parameters.files import read_yaml
from ups.parameters.flat import flatten
from ups.parameters.selection import Selection
from ups.pipeline import dvc_store, jobs
from ups.pipeline.dvc_store import Store, run_key
from ups.pipeline.graph import steps
from ups.pipeline.plan import Action, plan

DVC_YAML = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Return a copy of what plans are made from."""
    for name in ("ups", "params"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fingerprints(*variants: str, seeds=()) -> dict[str, str]:
    return {node.stage: node.fingerprint for node in plan(jobs.resolve(variants, seeds)).nodes}


def downstream(names: set[str], upstream: dict[str, set[str]]) -> set[str]:
    """Return the stages and all that follow from them."""
    while True:
        more = {name for name, above in upstream.items() if above & names} | names
        if more == names:
            return names
        names = more


def upstream_of_dvc_yaml() -> dict[str, set[str]]:
    producer = {f"artifacts/{name}": name for name in DVC_YAML}
    found = {}
    for name, stage in DVC_YAML.items():
        deps = [dep.replace("${data.path}", "artifacts/simulate/data.h5") for dep in stage["deps"]]
        found[name] = {producer["/".join(dep.split("/")[:2])] for dep in deps if dep.startswith("artifacts/")}
    return found


def test_the_graph_is_that_of_dvc_yaml(repository):
    found = {step.stage: set(step.upstream) for step in steps(read_yaml(Path("params/base.yaml")))}
    assert found == upstream_of_dvc_yaml()


def test_content_is_what_use_writes(repository):
    for variant in ("golden", "light-diffusion", "no-diffusion", None):
        for preset in ("tiny", "default"):
            chosen = Selection(variant, preset=preset, seed=3)
            expected = selection.content(chosen)
            selection.use(chosen)
            assert read_yaml(Path("params/base.yaml")) == expected
            selection.restore()


@pytest.mark.parametrize("stage", list(DVC_YAML))
def test_a_change_of_anything_changes_exactly_the_stages_that_depend_on_it(repository, stage):
    """The mutation table at the level of plans: drawn by a seeded generator, for every stage."""
    draw = random.Random(f"mutations of {stage}")
    before = fingerprints()
    upstream = upstream_of_dvc_yaml()

    def check(expected: set[str]) -> None:
        after = fingerprints()
        assert {name for name in after if after[name] != before[name]} == expected

    # One module that it imports itself, one that it imports through others: read from the source, not from dvc.yaml.
    own = f"ups/stages/{stage}.py"
    code = [dep for dep in DVC_YAML[stage]["deps"] if dep.endswith(".py")]
    direct = [dep for dep in code if dep[:-3].replace("/", ".") in Path(own).read_text()]
    indirect = sorted({*code} - {*direct} - {own})
    for module in (own, draw.choice(direct), draw.choice(indirect)):
        text = Path(module).read_text()
        Path(module).write_text(text + "# changed\n")
        check(downstream({name for name, entry in DVC_YAML.items() if module in entry["deps"]}, upstream))
        Path(module).write_text(text)
    check(set())

    # One parameter of its own sections.
    keys = [key for entry in DVC_YAML[stage].get("params", []) for key in entry["params/base.yaml"]]
    base = Path("params/base.yaml").read_text()
    if keys:
        raw = yaml.safe_load(base)
        flat = [key for key, value in flatten(raw).items() if isinstance(value, int | float) and key != "data.path"]
        key = draw.choice([k for k in flat if any(k == own or k.startswith(f"{own}.") for own in keys)])
        *parents, name = key.split(".")
        section = raw
        for parent in parents:
            section = section[parent]
        section[name] = section[name] + 1 if not isinstance(section[name], bool) else not section[name]
        made = {step.stage: step.params for step in steps(raw)}
        was = {step.stage: step.params for step in steps(yaml.safe_load(base))}
        touched = {
            name
            for name, entry in DVC_YAML.items()
            if any(key == k or key.startswith(f"{k}.") for e in entry.get("params", []) for k in e["params/base.yaml"])
        }
        assert {name for name in made if made[name] != was[name]} == touched
        assert stage in touched

    # A file that no stage reads.
    unrelated = draw.choice(
        ["ups/cli/app.py", "ups/tracking/store.py", "ups/pipeline/plan.py", "params/variants/golden.yaml"]
    )
    Path(unrelated).write_text(Path(unrelated).read_text() + "\n# changed\n")
    check(set())


def test_a_byte_of_data_counts(repository):
    Path("data").mkdir()
    Path("data/own.h5").write_bytes(b"x" * (3 << 20))
    standin.set_parameter(repository, "path: artifacts/simulate/data.h5", "path: data/own.h5")
    before = fingerprints()
    assert fingerprints() == before
    Path("data/own.h5").write_bytes(b"x" * ((3 << 20) - 1) + b"y")
    after = fingerprints()
    # `simulate` steps aside for a file of one's own and reads nothing of it.
    assert {name for name in after if after[name] == before[name]} == {"simulate"}


def test_the_seed_is_what_seeds_differ_in(repository):
    zero, one = (fingerprints("golden", seeds=[seed]) for seed in (0, 1))
    own = {name for name, entry in DVC_YAML.items() if "seed" in str(entry.get("params"))}
    assert {name for name in zero if zero[name] != one[name]} == downstream(own, upstream_of_dvc_yaml())


def test_keys_are_those_of_dvc(tmp_path, monkeypatch):
    """After `dvc repro`, every stage's key and outputs as read here are those that DVC itself computes."""
    from dvc.repo import Repo
    from dvc.stage.cache import _get_stage_hash

    folder = shapes.make(tmp_path / "project", {**shapes.SIX, "evaluate": ["train_codec", "distill"]})
    (folder / "direct.py").chmod(0o755)
    monkeypatch.chdir(folder)
    before = plan(jobs.resolve(["v1"]))
    assert [node.action for node in before.nodes] == [Action.RUN] * 6
    selection.use(Selection("v1"))
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=folder, check=True, env=shapes.environment(folder))
    made = plan(jobs.resolve(["v1"]))
    assert [node.action for node in made.nodes] == [Action.CACHED] * 6
    assert [node.fingerprint for node in made.nodes] == [node.fingerprint for node in before.nodes]
    locked = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    with Repo(".") as repo:
        stages = {stage.name: stage for stage in repo.index.stages}
        for node in made.nodes:
            assert run_key(made.record(node)) == _get_stage_hash(stages[node.stage])
            assert node.outs == locked[node.stage]["outs"]
            assert made.record(node)["deps"] == locked[node.stage]["deps"]
    assert [node.seconds for node in made.nodes] == [0.5] * 6  # what the stages themselves noted
    assert plan(jobs.resolve(["v1", "v2"])).executions == 4


def test_the_formats_are_those_of_the_installed_dvc():
    """A failure means another DVC: compare `ups/pipeline/dvc_store.py` with it, then change the number."""
    import dvc

    assert dvc.__version__ == dvc_store.DVC_VERSION
    dvc_store.check_version()


def test_files_and_folders_survive_the_way_into_the_cache_and_back(tmp_path):
    store = Store(tmp_path / "cache")
    source = tmp_path / "source" / "out"
    (source / "deep" / "er").mkdir(parents=True)
    for name, content in {"a": b"", "deep/b": b"b", "deep/er/c": b"\x00" * 70000, "ä é": b"x"}.items():
        (source / name).write_bytes(content)
    entry = store.add("out", tmp_path / "source")
    assert store.has(entry)
    assert store.check_out(entry, tmp_path / "target") == 70002
    result = {
        p.relative_to(tmp_path / "target"): p.read_bytes() for p in (tmp_path / "target").rglob("*") if p.is_file()
    }
    assert {str(path) for path in result} == {"out/a", "out/deep/b", "out/deep/er/c", "out/ä é"}
    assert store.entry_in(entry, "out/deep")["nfiles"] == 2
    store.object_path(store.entry_in(entry, "out/deep/b")["md5"]).chmod(0o644)
    store.object_path(store.entry_in(entry, "out/deep/b")["md5"]).write_bytes(b"z")
    with pytest.raises(dvc_store.CorruptObject):
        store.check_out(entry, tmp_path / "target")
    assert (tmp_path / "target/out/deep/b").read_bytes() == b"b", "what was there stays"
    assert not store.has(entry)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"foreach": [1], "do": {}}, "command"),
        ({"cmd": "x", "deps": ["a"], "outs": [{"b": {"persist": True}}]}, "without options"),
        ({"cmd": "x", "deps": ["a"], "outs": ["b"], "frozen": True}, "uses frozen"),
        ({"cmd": "x ${nothing}", "deps": ["a"], "outs": ["b"]}, "parameter 'nothing'"),
        ({"cmd": "x", "outs": ["b"]}, "needs `deps`"),
    ],
)
def test_what_cannot_be_planned_is_refused(stage, message):
    from ups.errors import UpsError

    with pytest.raises(UpsError, match=message):
        steps({}, {"stages": {"odd": stage}})
