"""The controlled-ablation check: what was planted is named, and what was not is not."""

import copy
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import standin
import yaml
from recorded_runs import ENVIRONMENT, make_run, md5, write_json
from standin import ROOT

from ups.errors import ArtifactError, ParameterError
from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import covered, flatten
from ups.parameters.overlay import complete
from ups.pipeline import execute
from ups.pipeline.controlled import declared_between, over_seeds, undeclared
from ups.pipeline.run_record import find_runs, read_record
from ups.stages.provenance import PACKAGES

DECLARED = ["train_diffusion.optimization", "distill.optimization", "evaluate_ttc"]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def pair(tmp_path):
    return tuple(make_run(tmp_path / f"{name}-0", name, 0) for name in ("golden", "light-diffusion"))


def check(pair):
    return undeclared(*(read_record(folder) for folder in pair), declared_between("golden", "light-diffusion"))


@pytest.mark.parametrize("variants", [("golden", "light-diffusion"), ("light-diffusion", "no-diffusion")])
@pytest.mark.parametrize("seed", [0, 7])
def test_clean_pairs_are_controlled(tmp_path, variants, seed):
    runs = [read_record(make_run(tmp_path / name, name, seed)) for name in variants]
    assert undeclared(*runs, declared_between(*variants)) == []
    assert undeclared(runs[0], runs[0], []) == []


def test_what_variants_declare_against_each_other():
    assert declared_between("golden", "light-diffusion") == DECLARED
    assert declared_between("light-diffusion", "golden") == DECLARED
    # siblings: both lines from golden on, and nothing of golden's own
    assert declared_between("light-diffusion", "no-diffusion") == [*DECLARED, "train_diffusion.optimization.epochs"]
    assert declared_between("golden", "golden") == []
    assert "train_operator" in declared_between("base", "golden")
    with pytest.raises(ParameterError, match="Did you mean 'golden'"):
        declared_between("gold", "golden")


def test_runs_of_an_older_schema_are_read_and_told_apart(tmp_path, pair):
    """Runs made before a parameter existed can be compared; against a newer run the parameter is a difference."""
    for folder in pair:
        _forget(folder, "train_operator", "reencode")
    assert check(pair) == []
    newer = make_run(tmp_path / "newer-0", "light-diffusion", 0)
    found = undeclared(read_record(pair[0]), read_record(newer), declared_between("golden", "light-diffusion"))
    assert any("train_operator.reencode" in line and "(not set)" in line for line in map(str, found))


def _forget(folder, section, key):
    raw = read_yaml(folder / BASE)
    del raw[section][key]
    (folder / BASE).write_text(yaml.safe_dump(raw))
    lock = read_yaml(folder / "dvc.lock")
    for stage in lock["stages"].values():
        for values in stage.get("params", {}).values():
            if section in values:
                values[section].pop(key, None)
            values.pop(f"{section}.{key}", None)
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock))


# --- fifty planted differences -----------------------------------------------------------------------------------


def other_value(params, key):
    """Return another valid value of a parameter, or None if the draw knows none."""
    value = flatten(params)[key]
    words = [
        "none",
        "cosine",
        "uniform",
        "stratified",
        "linear",
        "finite_volume",
        "cpu",
        "bf16",
        "elsewhere",
        "comoving",
        "muon",
    ]
    candidates = {
        bool: lambda: [not value],
        int: lambda: [value + 1, value * 2, max(value // 2, 1)],
        float: lambda: [value * 1.5, value / 2, value + 0.01],
        str: lambda: [word for word in words if word != value],
        list: lambda: [
            value[:-1],
            [*value, *value[-1:]],
            [each + 1 for each in value if isinstance(each, int)],
            [*value[:-1], *(each - 1 for each in value[-1:] if isinstance(each, int))],  # a range inside of the range
            ["shift"],
        ],
        type(None): lambda: [1, 64, 0.5],
    }.get(type(value), list)()
    for candidate in candidates:
        changed = copy.deepcopy(params)
        put(changed, key, candidate)
        try:
            if flatten(complete(changed)).get(key) != value:
                return candidate
        except ParameterError:
            continue
    return None


def put(nested, key, value):
    *parents, name = key.split(".")
    for parent in parents:
        nested = nested[parent]
    nested[name] = value


def population(folder):
    """Return all that can be planted in a run: (kind, name, the stage or stages to plant it in)."""
    params, lock = read_yaml(folder / BASE), read_yaml(folder / "dvc.lock")["stages"]
    found = [("parameter", key, None) for key in flatten(params) if not covered(key, DECLARED)]
    found = [item for item in found if item[1] != "data.path" and other_value(params, item[1]) is not None]
    code = {entry["path"] for stage in lock.values() for entry in stage["deps"] if entry["path"].endswith(".py")}
    found += [("code", path, None) for path in sorted(code)]
    declared_stages = {"train_diffusion", "distill", "train_reward", "evaluate_ttc"}
    data = {entry["path"] for stage in lock.values() for entry in stage["deps"]} - code
    found += [("data", path, None) for path in sorted(data) if path.split("/")[1] not in declared_stages]
    found += [("environment", name, stage) for name in (*ENVIRONMENT, *PACKAGES) for stage in lock]
    return found + [("command", stage, stage) for stage in lock]


def plant(folder, kind, name, stage):
    """Change one thing in a run's files."""
    if kind == "environment":
        path = folder / "artifacts" / stage / "provenance.json"
        record = yaml.safe_load(path.read_text())
        (record if name in ENVIRONMENT else record["versions"])[name] = f"planted in {stage}"
        write_json(path, record)
        return
    lock = read_yaml(folder / "dvc.lock")
    if kind == "parameter":
        params = read_yaml(folder / BASE)
        put(params, name, other_value(params, name))
        (folder / BASE).write_text(yaml.safe_dump(params))
        for locked in lock["stages"].values():
            values = locked["params"][BASE.as_posix()]
            for key in values:
                if covered(name, [key]):
                    put_at(values, key, name, params)
    for each, locked in lock["stages"].items():
        if kind == "command" and each == name:
            locked["cmd"] += " --planted"
        for entry in locked["deps"]:
            if entry["path"] == name:
                entry["md5"] = md5(["planted", entry["md5"]])
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def put_at(values, key, name, params):
    """Write the value of the parameter `name` into the locked values, where `key` holds it or a section around it."""
    value = params
    for part in name.split("."):
        value = value[part]
    if name == key:
        values[key] = value
    else:
        put(values[key], name.removeprefix(f"{key}."), value)


@pytest.fixture
def planted(pair):
    """Return fifty things to plant, every kind among them."""
    items = population(pair[1])
    draw, kinds = random.Random(2026), ("parameter", "code", "data", "environment", "command")
    first = [draw.choice([item for item in items if item[0] == kind]) for kind in kinds]
    return first + draw.sample([item for item in items if item not in first], 50 - len(first))


def test_nearly_every_parameter_can_be_drawn(pair):
    keys = {name for kind, name, _ in population(pair[1]) if kind == "parameter"}
    undrawn = [key for key in flatten(read_yaml(pair[1] / BASE)) if not covered(key, DECLARED) and key not in keys]
    assert len(undrawn) <= 0.15 * len(keys), undrawn


def test_fifty_planted_differences_are_named_one_by_one(pair, planted, tmp_path):
    golden = read_record(pair[0])
    for count, (kind, name, stage) in enumerate(planted):
        folder = tmp_path / f"planted-{count}"
        shutil.copytree(pair[1], folder)
        plant(folder, kind, name, stage)
        found = undeclared(golden, read_record(folder), DECLARED)
        assert [(each.kind, each.name) for each in found] == [(kind, name)], (kind, name, stage)
        if stage:
            assert found[0].stages == (stage,)
        assert name in str(found[0])


def test_fifty_planted_differences_are_named_all_at_once(pair, planted):
    for item in planted:
        plant(pair[1], *item)
    found = check(pair)
    wanted = Counter((kind, name) for kind, name, _ in planted)
    assert Counter((each.kind, each.name) for each in found) == wanted
    assert sum(wanted.values()) == 50


# --- one at a time -----------------------------------------------------------------------------------------------


def relock(folder, change):
    lock = read_yaml(folder / "dvc.lock")
    change(lock["stages"])
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def test_files_below_a_declared_change_may_differ_and_those_above_may_not(pair):
    def other_weights(stages):
        for stage in stages.values():
            for entry in stage["deps"]:
                if entry["path"] in ("artifacts/distill/model.safetensors", "artifacts/train_codec/config.json"):
                    entry["md5"] = "other"

    relock(pair[1], other_weights)
    (found,) = check(pair)
    assert (found.kind, found.name) == ("data", "artifacts/train_codec/config.json")
    trained = ("train_operator", "train_diffusion", "distill", "train_steady_prior", "train_reward", "train_baseline")
    readers = ("encode_latents", *trained, "evaluate", "evaluate_ttc")
    assert found.stages == readers


def test_an_external_file_of_the_same_name_and_other_content_is_named(pair):
    for folder, content in zip(pair, ("a", "b"), strict=True):

        def external(stages, content=content):
            stages["prepare_data"]["deps"].append({"path": "data/burgers.hdf5", "md5": content})

        relock(folder, external)
    assert [str(each) for each in check(pair)] == ["data data/burgers.hdf5: a -> b (in prepare_data)"]


def test_a_missing_stage_is_named(pair):
    relock(pair[0], lambda stages: stages.pop("evaluate_ttc"))
    assert [str(each) for each in check(pair)] == ["stage evaluate_ttc: (not set) -> run"]


def test_an_execution_without_record_is_only_fine_where_both_share_it(pair):
    (pair[1] / "artifacts/simulate/provenance.json").unlink()
    (found,) = check(pair)
    assert str(found) == "environment all of it: recorded -> not recorded (in simulate)"
    shared = read_yaml(pair[0] / "dvc.lock")["stages"]["simulate"]["outs"]
    relock(pair[1], lambda stages: stages["simulate"].update(outs=shared))
    assert check(pair) == []


def test_differences_are_gathered_over_seeds(tmp_path):
    pairs = {}
    for seed in (0, 1, 2):
        folders = [make_run(tmp_path / f"{name}-{seed}", name, seed) for name in ("golden", "light-diffusion")]
        if seed:
            plant(folders[1], "environment", "torch", "train_operator")
        pairs[seed] = tuple(read_record(folder) for folder in folders)
    ((difference, seeds),) = over_seeds(pairs, DECLARED).items()
    assert (difference.name, seeds) == ("torch", [1, 2])


def test_the_record_says_what_ran_and_not_what_was_typed_since(pair):
    text = (pair[0] / BASE).read_text()
    (pair[0] / BASE).write_text(text.replace("min_distance: 0.001", "min_distance: 0.002"))
    assert (pair[0] / BASE).read_text() != text
    assert read_record(pair[0]).params["prepare_data"]["min_distance"] == 0.001


def test_stages_of_different_runs_are_no_run(pair):
    relock(pair[0], lambda stages: stages["evaluate_ttc"]["params"][BASE.as_posix()].update(seed=5))
    with pytest.raises(
        ArtifactError, match=r"train_codec and evaluate_ttc were run with different values of 'seed' \(0"
    ):
        read_record(pair[0])


def test_nothing_run_is_an_error(tmp_path):
    with pytest.raises(ArtifactError, match="nothing was run"):
        read_record(tmp_path)


def test_runs_are_found_by_the_names_of_their_results(tmp_path):
    for name in ("golden-0", "golden-10", "tokens-64-2", "light-diffusion-1", "light-diffusion-x", "golden"):
        (tmp_path / ".ups/results" / name).mkdir(parents=True)
    (tmp_path / ".ups/results/golden-3").write_text("a file")
    found = find_runs(["golden", "tokens-64", "light-diffusion", "absent"], tmp_path)
    assert {name: sorted(runs) for name, runs in found.items()} == {
        "golden": [0, 10],
        "tokens-64": [2],
        "light-diffusion": [1],
        "absent": [],
    }
    assert found["tokens-64"][2] == tmp_path / ".ups/results/tokens-64-2"


def test_a_run_of_the_real_dvc_is_read(tmp_path, monkeypatch):
    project = standin.make(tmp_path)
    monkeypatch.chdir(project)
    execute.reproduce()
    assert find_runs(["base", "golden"]) == {"base": {42: Path(".")}, "golden": {}}
    (project / ".ups/results/base-0").mkdir(parents=True)
    assert find_runs(["base"]) == {"base": {0: Path(".ups/results/base-0")}}
    record = read_record(Path("."))
    assert list(record.stages) == list(standin.STAGES)
    assert record.stages["evaluate"].params == ("evaluate",)
    assert record.stages["evaluate"].environment == {"host": "h", "device": "cpu", "python": "3.11", "torch": "2.13.0"}
    assert set(record.stages["evaluate"].code) == {"stage.py"}
    assert set(record.stages["train_diffusion"].inputs) == {"artifacts/train_operator/history.csv"}
    assert undeclared(record, record, []) == []
    assert record.params == complete(read_yaml(BASE))
