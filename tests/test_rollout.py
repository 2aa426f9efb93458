"""The free-running rollout, and operators that predict several frames per call."""

from dataclasses import replace

import pytest
import torch
from small_surrogate import METADATA, OPERATOR
from standin import ROOT
from test_flagship import NETWORK, C, objective, randomized, smooth, stepped, surrogate

from ups.errors import ParameterError
from ups.evaluation.finite_volume import compiler_available
from ups.inference.surrogate import Surrogate
from ups.models.operator import LatentOperator
from ups.models.rollout import repeated, step_map, unroll
from ups.parameters.files import BASE, read_yaml
from ups.parameters.overlay import complete, resolve
from ups.training.loop import Progress

TINY_TRANSFORMER = OPERATOR["backbone"]


def counting(z, coefficients):
    """Three frames per call: z + 1, z + 2, z + 3."""
    return torch.stack([z + 1, z + 2, z + 3], dim=1)


@pytest.mark.parametrize(("steps", "calls"), [(1, [1]), (3, [3]), (4, [3, 1]), (8, [3, 3, 2])])
def test_the_last_frame_of_a_call_starts_the_next_and_the_surplus_is_cut(steps, calls):
    z = torch.zeros(2, 4, 3)
    found = [tokens for tokens, _ in unroll(step_map(counting, None), z, C, steps)]
    assert [tokens.shape[1] for tokens in found] == calls
    assert torch.cat(found, dim=1)[0, :, 0, 0].tolist() == list(range(1, steps + 1))


@pytest.mark.parametrize("times", [2, 3])
def test_several_steps_as_one_are_the_same_rollout(times):
    z = torch.zeros(2, 4, 3)
    step = step_map(counting, None)
    one, several = (
        torch.cat([tokens for tokens, _ in unroll(each, z, C, 8)], dim=1) for each in (step, repeated(step, times))
    )
    assert torch.equal(one, several)
    forecast = surrogate().forecaster("operator")
    again = replace(forecast, step=repeated(forecast.step, times))
    torch.testing.assert_close(again(smooth(), 5, C), forecast(smooth(), 5, C))


def test_re_encoding_needs_a_codec():
    with pytest.raises(ValueError, match="takes a codec"):
        step_map(counting, None, reencode=True)


@pytest.mark.parametrize("backbone", [NETWORK, TINY_TRANSFORMER], ids=lambda backbone: backbone["name"])
def test_one_network_predicts_several_frames(backbone):
    operator = LatentOperator(**{**OPERATOR, "backbone": backbone}, frames_per_call=3)
    z = torch.randn(3, OPERATOR["tokens"], OPERATOR["dim"])
    assert torch.equal(operator.advance(z, C), z[:, None].expand(-1, 3, -1, -1))  # the identity before training
    frames = randomized(operator, 0.2).advance(z, C)
    assert frames.shape == (3, 3, *z.shape[1:])
    assert (frames[:, 0] - frames[:, 2]).abs().max() > 1e-2
    with pytest.raises(ValueError, match="3 frames per call"):
        operator(z, C)


def test_a_forecast_calls_the_operator_once_per_block_of_frames():
    one = surrogate()
    operator = randomized(LatentOperator(**{**OPERATOR, "backbone": NETWORK}, reencode=True, frames_per_call=3), 0.1)
    model = Surrogate(METADATA, one.codec, operator)
    forecast = model.forecaster("operator")
    assert forecast.evaluations_per_step == pytest.approx(1 / 3)
    u = smooth()
    predicted = forecast(u, 7, C)
    observer, z = model.start(u[:, -1])
    by_hand = []
    for first in (1, 4, 7):
        tokens = stepped(one.codec, operator, z, C)
        fields = one.codec.decode(tokens.flatten(0, 1)).unflatten(0, (3, 3))
        by_hand.append(observer.restore(fields, first=first))
        z = one.codec.encode(fields[:, -1])
    torch.testing.assert_close(predicted, torch.cat(by_hand, dim=1)[:, :7])
    torch.testing.assert_close(torch.stack(list(model.rollout(u[:, -1], C, 7)), dim=1), predicted)


@pytest.mark.nightly
@pytest.mark.skipif(not compiler_available(), reason="torch.compile finds no C++ compiler")
def test_a_compiled_forecast_is_the_same_forecast():
    forecast = surrogate().forecaster("operator")
    compiled = forecast.compiled()
    for fields in (smooth(), smooth()[:1]):
        c = C[: len(fields)]
        # Other kernels add in another order: float32 rounding, carried through six steps.
        torch.testing.assert_close(compiled(fields, 6, c), forecast(fields, 6, c), atol=1e-5, rtol=1e-4)


def test_training_compares_every_frame_of_a_call_with_its_own_truth():
    """By hand: the loss of 2 calls of 2 frames is the mean over frames 1..4 of the rollout from the window's start."""
    made = objective({"decoded": 1.0}, steps=2)
    operator = randomized(LatentOperator(**{**OPERATOR, "backbone": NETWORK}, frames_per_call=2), 0.2)
    tokens, codec = made.train.tokens, made.space.codec
    z = tokens[:1, 0]
    predicted = [stepped(codec, operator, z, C[:1])]
    predicted.append(stepped(codec, operator, predicted[0][:, -1], C[:1]))
    fields = codec.decode(torch.cat(predicted, dim=1)[0])
    truth = made.space.train.fields[0, 1:5]
    errors = (fields - truth).square().mean((1, 2)) / (truth + 0.5).square().mean((1, 2))
    loss = made.loss(operator, torch.tensor([0]), Progress(0, 0, 1), torch.Generator())
    assert float(loss["decoded"].value) == pytest.approx(float(errors.mean()), rel=1e-5)
    assert {"val_loss", "val_rollout_nrmse"} <= set(made.validate(operator))


def test_a_corrector_of_single_steps_is_refused_for_blocks_of_frames():
    raw = resolve(read_yaml(ROOT / BASE), variant="golden")
    raw["train_operator"]["frames_per_call"] = 2
    with pytest.raises(ParameterError, match=r"frames_per_call = 2: the corrector refines single steps"):
        complete(raw)
    raw["train_diffusion"]["optimization"]["epochs"] = 0
    complete(raw)
