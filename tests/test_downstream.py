"""`ups params diff` and `list`: the stages that a change reaches are those that DVC's keys would make run."""

import copy
import json

import pytest
from standin import ROOT, ups

from ups.parameters.selection import Selection
from ups.pipeline.downstream import reached
from ups.pipeline.stages import stage_names


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


GOLDEN = Selection("golden")


def changed(**sections):
    raw = copy.deepcopy(GOLDEN.resolve())
    for name, values in sections.items():
        raw[name].update(values)
    return {stage.stage: stage for stage in reached(GOLDEN.resolve(), raw)}


def test_a_later_change_reaches_later_stages_alone():
    found = reached(GOLDEN.resolve(), Selection("no-diffusion").resolve())
    expected = ["train_diffusion", "distill", "train_reward", "evaluate", "evaluate_ttc"]
    assert [stage.stage for stage in found] == expected
    assert found[0].changed == ("train_diffusion.optimization.epochs",)
    assert found[1].changed == ()
    assert "train_diffusion" in found[1].follows


def test_equal_parameters_and_machine_settings_reach_nothing():
    assert reached(GOLDEN.resolve(), GOLDEN.resolve()) == []
    assert changed(compute={"num_threads": 7}) == {}


def test_another_data_file_reaches_every_stage():
    found = changed(data={"path": "data/own.h5"})
    assert set(found) == set(stage_names())  # simulate too: it is skipped for a file of one's own
    assert "data/own.h5" in found["prepare_data"].changed


def test_the_seed_reaches_every_stage_that_reads_it():
    raw = {**GOLDEN.resolve(), "seed": 7}
    own = [stage.stage for stage in reached(GOLDEN.resolve(), raw) if stage.changed]
    trained = ["train_codec", "train_operator", "train_diffusion", "distill", "train_steady_prior", "train_reward"]
    assert own == [*trained, "train_baseline", "evaluate_ttc"]


def test_presets_are_compared_by_name():
    shown = json.loads(ups(ROOT, "params", "diff", "golden", "golden.tiny", "--json").stdout)
    assert shown["changes"]["simulate.samples"] == [704, 16]
    assert shown["stages"]["simulate"]["changed"][0] == "simulate.samples"
    assert shown["stages"]["encode_latents"] == {"changed": [], "follows": ["prepare_data", "train_codec"]}


def test_the_list_names_all_files():
    shown = json.loads(ups(ROOT, "params", "list", "--json").stdout)
    for kind in ("presets", "tasks"):
        assert shown[kind] == sorted(path.stem for path in (ROOT / "params" / kind).glob("*.yaml"))
    assert [v["name"] for v in shown["variants"]] == sorted(p.stem for p in (ROOT / "params/variants").glob("*.yaml"))
    assert all(variant["hypothesis"] for variant in shown["variants"])
