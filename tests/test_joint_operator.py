"""Codec and operator trained together: the loss by hand, other weights than alone, and a start that really is one."""

import os
import shutil

import pytest
import torch
from example_fields import advected_sines
from safetensors.torch import load_file
from small_surrogate import CODEC, OPERATOR
from standin import ROOT
from torch import nn

from ups.data.dataset import DatasetWriter
from ups.data.reference_frame import Observed
from ups.errors import ParameterError
from ups.models.codec import Codec
from ups.models.operator import LatentOperator
from ups.models.weights import is_skipped
from ups.parameters.files import BASE, read_yaml
from ups.parameters.overlay import complete, merge, resolve
from ups.parameters.schema import Parameters
from ups.parameters.train_codec import InverseLosses
from ups.stages import encode_latents, train_codec, train_operator
from ups.training.codec import CodecObjective
from ups.training.joint import JointModel, JointObjective
from ups.training.loop import Progress

MODEL = {"name": "token_convolution", "hidden": 16, "blocks": 1, "kernel": 3}
SHORT = {"epochs": 2, "updates_per_epoch": 20, "pairs_per_update": 16, "warmup_updates": 0}


class Grows(nn.Module):
    """An operator that adds the trajectory's coefficient to every token."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def advance(self, z, coefficients):
        return (z + coefficients[:, None])[:, None]

    def set_statistics(self, mean, std):
        self.statistics = mean, std


class Keeps(nn.Module):
    def encode(self, u):
        return u

    decode = encode

    def conserve(self, z, tokens):
        return tokens


class Drifts(LatentOperator):
    """An operator that adds to the mean which tokens carry, and to nothing else."""

    drift = 0.0

    def advance(self, z, coefficients):
        return (z + self.drift * (torch.arange(z.shape[-1]) == 0))[:, None]


def test_the_one_step_loss_by_hand_stays_inside_a_trajectory():
    """u = 10 b + t + 1, of which a step of b + 1 misses by b: nothing for trajectory 0, whatever its last frame is."""
    frames = 5
    time = torch.arange(frames, dtype=torch.float32)
    fields = (10 * torch.arange(3)[:, None] + time + 1)[:, :, None, None].expand(3, frames, 1, 4)
    observed = Observed(fields, torch.zeros(3, 1, 1))
    settings = InverseLosses(
        weight=0.0, max_weight=0.0, warmup_epochs=0, ramp="linear", num_queries=4, query_sampling="uniform", frequency=1
    )
    coefficients = torch.tensor([[1.0], [2.0], [3.0]])
    objective = JointObjective(CodecObjective(observed, observed, settings), (coefficients, coefficients), frames, 0.5)
    model = JointModel(Keeps(), Grows())

    def one_step(*indices):
        terms = objective.loss(model, torch.tensor(indices), Progress(0, 0, 1), torch.Generator())
        assert terms["one_step"].weight == 0.5
        return float(terms["one_step"].value)

    assert one_step(0, 1, 2, 3, 4) == 0.0
    assert one_step(5) == pytest.approx((1 / 12) ** 2)  # trajectory 1: 11 + 2 against 12
    assert one_step(14) == pytest.approx((2 / 25) ** 2)  # the last frame of the last one: 24 + 3 against 25
    assert torch.allclose(model.operator.statistics[0], fields.mean((0, 1, 2))[None])
    row = objective.validate(model)
    misses = [b / (10 * b + t + 2) for b in range(3) for t in (*range(4), 3)]
    assert row["val_one_step_nrmse"] == pytest.approx(sum(misses) / 15, rel=1e-5)


@pytest.mark.parametrize(("frame", "notices"), [("comoving", False), ("laboratory", True)])
def test_the_one_step_loss_takes_the_step_of_forecasts(frame, notices):
    """In the comoving frame a forecast keeps the mean of its start, so that an operator's drift of it costs nothing."""
    torch.manual_seed(0)
    codec, operator = Codec(**CODEC, frame=frame), Drifts(**OPERATOR)
    fields = torch.randn(2, 4, 1, 32)
    observed = Observed(fields - fields.mean(-1, keepdim=True), torch.zeros(2, 1, 1))
    settings = InverseLosses(
        weight=0.0, max_weight=0.0, warmup_epochs=0, ramp="linear", num_queries=4, query_sampling="uniform", frequency=1
    )
    objective = JointObjective(CodecObjective(observed, observed, settings), (torch.zeros(2, 1),) * 2, 4, 1.0)
    losses = []
    for operator.drift in (0.0, 0.5):
        terms = objective.loss(JointModel(codec, operator), torch.arange(6), Progress(0, 0, 1), torch.Generator())
        losses.append(float(terms["one_step"].value.detach()))
    assert losses[0] > 0
    assert (losses[1] != pytest.approx(losses[0], rel=1e-4)) is notices


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "dataset.h5"
    with DatasetWriter(path) as writer:
        for split, first in (("train", 20), ("validation", 10), ("test", 0)):
            data = advected_sines(trajectories=4, frames=9, first_index=first)
            writer.begin_split(split, data.index.tolist(), 9, 1, [32])
            writer.append(data.fields.numpy(), data.coefficients.numpy())
        writer.finish(data.metadata)
    return path


def parameters(joint: bool, **operator) -> dict:
    changes = {
        "seed": 1,
        "latent": {"tokens": 8, "dim": 8, "frame": "laboratory"},
        "train_codec": {
            "optimization": {**SHORT, "updates_per_epoch": 60},
            "joint_operator": {"weight": 1.0, "model": MODEL} if joint else None,
        },
        "train_operator": {
            "model": MODEL,
            "symmetries": [],
            "optimization": {**SHORT, "micro_batches": 1},
            **operator,
        },
        "compute": {"device": "cpu", "num_threads": 1},
    }
    base = read_yaml(ROOT / BASE)
    return merge(base, changes, [Parameters])


@pytest.fixture(scope="module")
def codecs(dataset, tmp_path_factory):
    """Folders of a codec that was trained alone, again alone, and with an operator; with their metrics."""
    found = {}
    for name, joint in (("alone", False), ("again", False), ("joint", True)):
        folder = tmp_path_factory.mktemp(name)
        found[name] = (folder, _run(train_codec, parameters(joint), {"dataset": dataset}, folder))
    return found


def _run(stage, raw, inputs, outputs):
    work = outputs.parent / f"{outputs.name}-work"
    shutil.copytree(ROOT / "params", work / "params")
    before = os.getcwd()
    os.chdir(work)
    try:
        params = stage.Params(**{key: raw[key] for key in stage.Params.model_fields})
        return stage.run(params, inputs, outputs)
    finally:
        os.chdir(before)


def test_the_operator_changes_the_codec_and_nothing_changes_without_it(codecs):
    alone, again, joint = (load_file(codecs[name][0] / "model.safetensors") for name in ("alone", "again", "joint"))
    assert all(torch.equal(alone[key], again[key]) for key in alone)
    assert list(joint) == list(alone)
    assert not any(torch.equal(alone[key], joint[key]) for key in alone if alone[key].requires_grad or "weight" in key)
    assert is_skipped(codecs["alone"][0] / "operator")
    assert "val_one_step_nrmse" not in codecs["alone"][1]
    assert codecs["joint"][1]["parameters"] == codecs["alone"][1]["parameters"]
    assert codecs["joint"][1]["val_one_step_nrmse"] < 1


def _operator(dataset, codecs, name, folder, **settings):
    raw = parameters(name == "joint", **settings)
    codec = codecs[name][0]
    latents = folder / "latents"
    latents.mkdir(parents=True)
    found = {"codec": codec / "model.safetensors", "codec_config": codec / "config.json", "dataset": dataset}
    _run(encode_latents, raw, found, latents)
    outputs = folder / "operator"
    outputs.mkdir()
    found["joint_operator"] = codec / "operator/model.safetensors"
    metrics = _run(train_operator, raw, {**found, "latents": latents / "latents.h5"}, outputs)
    return metrics, load_file(outputs / "model.safetensors")


def test_the_operator_starts_from_the_joint_weights(dataset, codecs, tmp_path):
    """With a rate of next to nothing it stays where it starts."""
    still = {
        "optimization": {
            **SHORT,
            "epochs": 1,
            "micro_batches": 1,
            "learning_rate": 1e-12,
            "min_learning_rate": 0.0,
            "weight_decay": 0.0,
        }
    }
    start = load_file(codecs["joint"][0] / "operator/model.safetensors")
    found, weights = _operator(dataset, codecs, "joint", tmp_path / "joint", initial="joint", **still)
    assert list(weights) == list(start)
    assert all(torch.allclose(weights[key], start[key], atol=1e-6) for key in start)
    fresh, others = _operator(dataset, codecs, "joint", tmp_path / "fresh", initial="fresh", **still)
    assert not any(torch.allclose(others[key], start[key], atol=1e-3) for key in start if start[key].dim() > 1)
    # And the start is worth something: 120 updates with the codec against none.
    assert found["val_loss"] < fresh["val_loss"]


def test_a_joint_start_without_joint_training_is_refused(dataset, codecs, tmp_path):
    with pytest.raises(ParameterError, match=r"trained no operator. Set train_codec.joint_operator"):
        _operator(dataset, codecs, "alone", tmp_path / "refused", initial="joint")
    with pytest.raises(ParameterError, match=r"train_codec trains no operator: set train_codec.joint_operator"):
        complete(parameters(False, initial="joint"))
    with pytest.raises(ParameterError, match="needs the operator that train_codec trains"):
        complete(parameters(True, initial="joint", model={**MODEL, "hidden": 32}))
    assert complete(parameters(True, initial="joint"))["train_operator"]["initial"] == "joint"


@pytest.mark.parametrize("preset", ["tiny", "default", "full"])
def test_the_variant_goes_on_with_the_operator_that_it_trains(monkeypatch, preset):
    monkeypatch.chdir(ROOT)
    found = resolve(read_yaml(BASE), variant="joint-operator", preset=preset)
    golden = resolve(read_yaml(BASE), variant="golden", preset=preset)
    assert found["train_codec"]["joint_operator"]["model"] == golden["train_operator"]["model"]
    assert golden["train_codec"]["joint_operator"] is None
    assert golden["train_operator"]["initial"] == "fresh"
