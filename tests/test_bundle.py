"""Foreign bundles: whatever was done to one, it is refused with a reason before anything is made of it."""

import hashlib
import json
import pickle
import shutil
import time

import numpy as np
import pytest
import safetensors.torch
import torch
from small_surrogate import write_bundle

import ups
from ups.errors import ArtifactError
from ups.inference.manifest import BUNDLE, read_manifest, write_manifest
from ups.inference.memory_budget import MemoryBudget, OverBudget

OPERATOR = "operator/model.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def bundle(original, tmp_path):
    return shutil.copytree(original, tmp_path / "bundle")


def forge(bundle, **changes):
    """Write a `surrogate.json` whose hashes and checksum are right for what is in the folder, as a forger would."""
    content = json.loads((bundle / BUNDLE).read_text())
    kept = {key: value for key, value in content.items() if key not in ("format", "files", "checksum")}
    write_manifest(bundle, {**kept, **changes})


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_weights(path, change):
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)


def flip_a_bit(bundle):
    data = bytearray((bundle / OPERATOR).read_bytes())
    data[-100] ^= 1
    (bundle / OPERATOR).write_bytes(data)


def refused(bundle, message):
    with pytest.raises(ArtifactError, match=message):
        ups.load(bundle)


def test_the_original_loads(bundle):
    surrogate = ups.load(bundle)
    assert surrogate.checksum == read_manifest(bundle).checksum
    assert surrogate.modes == ("operator", "zero_correction", "corrected", "student", "assembled")


def test_the_checksum_names_the_content_and_not_the_place(original, bundle):
    assert ups.load(original).checksum == ups.load(bundle).checksum
    forge(bundle, assembled="operator")
    assert ups.load(original).checksum != ups.load(bundle).checksum


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_bit, r"operator/model\.safetensors was altered: its SHA-256"),
        (lambda b: (b / OPERATOR).write_bytes((b / OPERATOR).read_bytes()[:-8]), "was altered or cut off"),
        (lambda b: (b / OPERATOR).unlink(), r"operator/model\.safetensors does not exist"),
        (lambda b: edit_json(b / "codec/config.json", lambda c: c.update(class_="x")), "codec/config.json .*altered"),
        (
            lambda b: edit_json(b / BUNDLE, lambda c: c["metadata"]["normalization"].update(mean=[0.5])),
            r"surrogate\.json was altered: its content does not have the checksum",
        ),
        (lambda b: (b / BUNDLE).write_text("{"), "not valid JSON"),
        (lambda b: (b / BUNDLE).write_text("[" * 100_000), "not valid JSON"),
        (lambda b: (b / BUNDLE).write_text("[]"), "must hold an object, not list"),
        (lambda b: (b / BUNDLE).write_text(" " * 2**21), "larger than 1,048,576 bytes"),
        (lambda b: (b / BUNDLE).write_text('{"format": "ups-surrogate-1"}'), "the older format"),
        (lambda b: (b / BUNDLE).write_text('{"format": "ups-surrogate-2"}'), "another comoving frame"),
        (lambda b: (b / BUNDLE).write_text('{"format": "ups-surrogate-9"}'), "needs a newer version"),
        (lambda b: (b / BUNDLE).write_text('{"weights": "w.bin"}'), "has format None"),
    ],
)
def test_damage_is_found(bundle, damage, message):
    damage(bundle)
    refused(bundle, message)


class Payload:
    """Unpickling it leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_run(bundle, tmp_path, writer):
    trace = tmp_path / "ran"
    if writer == "pickle":
        (bundle / OPERATOR).write_bytes(pickle.dumps(Payload(trace)))
    else:
        torch.save({"weights": Payload(trace)}, bundle / OPERATOR)
    forge(bundle)
    refused(bundle, "is a Python pickle.*not loaded")
    assert not trace.exists()


@pytest.mark.parametrize(
    "name", ["../secret/model.safetensors", "/etc/model.safetensors", "codec/../../x.json", "codec\\x.json", "x.json"]
)
def test_names_do_not_lead_out(bundle, name):
    content = json.loads((bundle / BUNDLE).read_text())
    content["files"][name] = content["files"].pop(OPERATOR)
    reseal(bundle, content)
    refused(bundle, "only <part>/<name> inside the bundle is allowed")


def reseal(bundle, content):
    """Write `content` as it is, with the checksum that it should have."""
    content.pop("checksum")
    checksum = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (bundle / BUNDLE).write_text(json.dumps({**content, "checksum": checksum}))


@pytest.mark.parametrize("linked", [OPERATOR, "operator", "codec/config.json", BUNDLE])
def test_links_do_not_lead_out(bundle, tmp_path, linked):
    outside = tmp_path / "outside"
    shutil.move(bundle / linked, outside)
    (bundle / linked).symlink_to(outside)
    refused(bundle, "is a link to .*out of the bundle.*cp -rL")


def test_links_into_a_store_that_names_files_by_content_are_followed(bundle, tmp_path):
    """So are the results of a sweep laid out; a file with a wrong name in there is nothing else but foreign."""

    def move(path):
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        target = tmp_path / "cache/files/md5" / digest[:2] / digest[2:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
        path.symlink_to(target)
        return target

    files = [path for path in bundle.rglob("*") if path.is_file()]
    targets = [move(path) for path in files]
    assert ups.load(bundle).checksum
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(bundle)
    assert ups.load(elsewhere).checksum
    targets[0].write_bytes(targets[0].read_bytes() + b" ")
    refused(bundle, "is a link to")


@pytest.mark.parametrize("length", [10 * 2**30, 2**63, 2**64 - 1])
def test_a_header_cannot_claim_more_than_its_file(bundle, length):
    data = (bundle / OPERATOR).read_bytes()
    (bundle / OPERATOR).write_bytes(length.to_bytes(8, "little") + data[8:])
    forge(bundle)
    refused(bundle, f"claims a header of {length:,} bytes and is {len(data):,} bytes long")


@pytest.mark.parametrize("offsets", [[0, 10 * 2**30], [5, 1], ["0", "4"], [0], None])
def test_tensors_cannot_claim_more_than_their_file(bundle, offsets):
    header = json.dumps({"mean": {"dtype": "F32", "shape": [2**28], "data_offsets": offsets}}).encode()
    (bundle / OPERATOR).write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    forge(bundle)
    refused(bundle, "its tensors would take|no valid `data_offsets`")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(bundle, value):
    edit_weights(bundle / OPERATOR, lambda tensors: tensors["mean"].fill_(value))
    forge(bundle)
    refused(bundle, "'mean' holds NaN or Inf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(mean=torch.zeros(5)), r"'mean' is \[5\] F32, \[4\] torch.float32 was expected"),
        (lambda t: t.update(mean=torch.zeros(4, dtype=torch.float64)), r"'mean' is \[4\] F64"),
        (lambda t: t.pop("mean"), r"missing \['mean'\]"),
        (lambda t: t.update(more=torch.zeros(1)), r"unexpected \['more'\]"),
    ],
)
def test_weights_of_another_shape(bundle, change, message):
    edit_weights(bundle / OPERATOR, change)
    forge(bundle)
    refused(bundle, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update(tokens=-8), "does not describe a LatentOperator"),
        (lambda a: a.update(tokens=1e30), "holds the number"),
        (lambda a: a.update(dim=float("nan")), "holds the number nan"),
        (lambda a: a.update(shell="rm"), "unexpected keyword argument 'shell'"),
        (lambda a: a["backbone"].update(name="os.system"), "KeyError: 'os.system'"),
        (lambda a: a["backbone"].update(depths=[1] * 20_000), "a list of 20,000 entries"),
        (lambda a: a["backbone"].update(hidden=16380, group=5460), "more than .* bytes, far more than its weights do"),
        (lambda a: a.update(tokens=16384), "more than .* bytes, far more than its weights do"),
    ],
)
def test_configurations_that_make_no_sense_or_no_model_of_that_size(bundle, change, message):
    edit_json(bundle / "operator/config.json", lambda config: change(config["arguments"]))
    forge(bundle)
    started = time.monotonic()
    refused(bundle, message)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.empty(10**9, 10**9),
        lambda: torch.zeros((10**9, 10**9)),
        lambda: torch.arange(10**15),
        lambda: torch.arange(1_000)[None] - torch.arange(1_000)[:, None],
        lambda: torch.nn.Linear(10**9, 10**9),
        lambda: [torch.nn.Linear(100, 100) for _ in range(13)],
    ],
)
def test_memory_is_refused_before_it_is_taken(ask):
    with MemoryBudget(10**6):
        torch.nn.Linear(100, 100)
        with pytest.raises(OverBudget):
            ask()


def drop(bundle, part):
    shutil.rmtree(bundle / part)


def rename(bundle, part, to):
    (bundle / part).rename(bundle / to)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: drop(b, "operator"), r"lacks the parts \['operator'\]"),
        (lambda b: rename(b, "student", "teacher"), r"unknown parts \['teacher'\]"),
        (lambda b: (b / "operator/config.json").unlink(), "lists no operator/config.json"),
        (
            lambda b: edit_json(b / "operator/config.json", lambda c: c.update({"class": "Codec"})),
            "describes a 'Codec'",
        ),
        (lambda b: edit_json(b / "operator/config.json", lambda c: c.pop("arguments")), "has no `arguments`"),
    ],
)
def test_parts_that_are_not_what_they_should_be(bundle, damage, message):
    damage(bundle)
    forge(bundle)
    refused(bundle, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"points": [64]}}, "do not belong together"),
        ({"grid": {"points": [2**40]}}, "more than any model has"),
        ({"grid": {"points": [32, 32]}}, "one entry for each axis"),
        ({"grid": {"points": [0]}}, "must be positive"),
        ({"channels": ["u", "v"]}, "one entry for each channel"),
        ({"coefficients": []}, "one range for each coefficient"),
        ({"coefficients": ["viscosity", "velocity"], "training": None}, "do not belong together"),
        ({"normalization": {"std": [-1.0]}}, "metadata that cannot be used"),
        ({"dt": "soon"}, "metadata that cannot be used"),
    ],
)
def test_metadata_that_does_not_fit(bundle, changes, message):
    metadata = json.loads((bundle / BUNDLE).read_text())["metadata"]
    for key, value in changes.items():
        metadata[key] = {**metadata[key], **value} if isinstance(value, dict) else value
    forge(bundle, metadata=metadata)
    refused(bundle, message)


@pytest.mark.parametrize("choice", ["yes", None, "assembled", ["operator"]])
def test_a_choice_that_is_none(bundle, choice):
    forge(bundle, assembled=choice)
    refused(bundle, "does not say which of operator, corrected, student it uses")


def test_a_choice_of_what_is_not_there(original, tmp_path):
    lacking = shutil.copytree(original, tmp_path / "lacking")
    shutil.rmtree(lacking / "student")
    forge(lacking, assembled="student")
    refused(lacking, r"lacks the parts \['student'\]")


def test_a_bundle_that_does_not_say_what_it_uses(bundle):
    content = json.loads((bundle / BUNDLE).read_text())
    write_manifest(bundle, {"metadata": content["metadata"]})
    refused(bundle, r"does not say which of .* it uses \(`assembled`\)")


def test_a_part_of_another_surrogate_does_not_fit(bundle, tmp_path):
    """Every file is in order by itself; together they make no sense."""
    edit_json(bundle / "codec/config.json", lambda c: c["arguments"].update(tokens=16, points=64))
    forge(bundle)
    refused(bundle, "do not belong together")
