"""The operator's networks by name: the plain stack, and the sizes of the recipe's variants."""

import copy
import typing

import pytest
import torch
from torch import nn

from ups.models.operator import BACKBONES, LatentOperator
from ups.models.pde_transformer import DropPath
from ups.models.stacked_transformer import StackedTransformer
from ups.models.weights import count_parameters
from ups.parameters.files import BASE, read_yaml
from ups.parameters.overlay import resolve
from ups.parameters.section import Optimization
from ups.parameters.train_operator import PdeTransformer, TokenConvolutionModel
from ups.parameters.train_operator import StackedTransformer as StackedParameters
from ups.training.optimizer import Optimizer

STACK = {
    "name": "stacked_transformer",
    "hidden": 24,
    "depth": 3,
    "heads": 6,
    "mlp_ratio": 2.0,
    "dropout": 0.0,
    "drop_path": 0.0,
    "stem": 3,
}


def stack(tokens=8, **changes) -> LatentOperator:
    torch.manual_seed(0)
    return LatentOperator(tokens, dim=6, num_coefficients=1, dt=0.05, backbone={**STACK, **changes})


def randomized(model: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def test_every_name_has_a_network_and_every_network_a_name():
    sections = (PdeTransformer, StackedParameters, TokenConvolutionModel)
    assert {typing.get_args(kind.model_fields["name"].annotation)[0] for kind in sections} == set(BACKBONES)


def test_the_stack_starts_as_the_identity_and_does_not_see_the_condition_before_it_is_trained():
    z, low, high = torch.randn(2, 8, 6), torch.full((2, 1), 0.001), torch.full((2, 1), 1.0)
    model = stack().eval()
    assert torch.equal(model(z, low), z)
    nn.init.normal_(model.network.head.weight)
    assert torch.equal(model(z, low), model(z, high))
    randomized(model)
    assert float((model(z, low) - model(z, high)).detach().abs().max()) > 1e-3


def test_the_stack_merges_no_tokens_so_it_commutes_with_shifts_by_one():
    model, z, c = randomized(stack(tokens=9)).eval(), torch.randn(2, 9, 6), torch.full((2, 1), 0.01)
    torch.testing.assert_close(model(z.roll(1, 1), c), model(z, c).roll(1, 1), atol=1e-4, rtol=1e-4)
    plane = randomized(stack(tokens=[3, 5])).eval()
    folded = torch.randn(2, 3, 5, 6)
    moved = plane(folded.roll((1, 2), (1, 2)).flatten(1, 2), c)
    expected = plane(folded.flatten(1, 2), c).unflatten(1, (3, 5)).roll((1, 2), (1, 2)).flatten(1, 2)
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=1e-4)


def test_its_heads_see_all_channels():
    """Channel-separated attention cannot move a value from one group of channels to another; one group can."""
    attention = stack().network.blocks[0].attention
    assert (attention.group, attention.heads) == (24, 6)


def test_drop_path_drops_whole_samples_in_training_alone_and_keeps_the_mean():
    torch.manual_seed(0)
    branch, drop = torch.ones(20_000, 2, 3), DropPath(0.25)
    assert drop.eval()(branch) is branch
    dropped = drop.train()(branch)
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert bool((dropped == dropped[:, :1, :1]).all())
    assert float((dropped[:, 0, 0] == 0).double().mean()) == pytest.approx(0.25, abs=0.01)  # 3 standard errors
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.015)


def test_drop_path_rises_with_depth_and_reaches_the_operator():
    rates = [block.drop_path.rate for block in stack(depth=3, drop_path=0.4).network.blocks]
    assert rates == pytest.approx([0.0, 0.2, 0.4])
    z, c = torch.randn(16, 8, 6), torch.full((16, 1), 0.01)
    varies = {}
    for rate in (0.0, 0.4):
        model = randomized(stack(drop_path=rate)).train()
        varies[rate] = float((model(z, c) - model(z, c)).detach().abs().max())
    assert varies[0.0] == 0.0
    assert varies[0.4] > 1e-2


def resolved(variant: str) -> dict:
    return resolve(read_yaml(BASE), variant=variant, preset=None)


def operator(variant: str, tokens: int | None = None) -> LatentOperator:
    raw = resolved(variant)
    size = {"tokens": tokens or raw["latent"]["tokens"], "dim": raw["latent"]["dim"]}
    return LatentOperator(**size, num_coefficients=1, dt=0.05, backbone=raw["train_operator"]["model"])


@pytest.mark.parametrize(("variant", "millions"), [("upt-17m", 17), ("upt-68m", 68)])
def test_a_size_has_the_parameters_of_its_name(variant, millions):
    with torch.device("meta"):
        assert count_parameters(operator(variant)) == pytest.approx(millions * 1e6, rel=0.02)


@pytest.mark.parametrize("variant", ["upt-17m", "upt-68m"])
def test_a_size_can_be_stepped_on_a_cpu(variant):
    """One update of all weights on 32 tokens: their number enters the weights by the attention's bias alone."""
    torch.manual_seed(0)
    model = operator(variant, tokens=32)
    nn.init.normal_(model.network.head.weight, std=0.02)
    settings = Optimization.model_validate(resolved(variant)["train_operator"]["optimization"])
    optimizer = Optimizer(model, settings)
    z, c = torch.randn(1, 32, model.mean.shape[0]), torch.full((1, 1), 0.01)
    moved = (model.network.head, model.network.bottom.blocks[0].mlp[0])
    before = [copy.deepcopy(part.weight.detach()) for part in moved]
    (model(z, c) - 1.0).square().mean().backward()
    optimizer.step(settings.learning_rate)
    for part, old in zip(moved, before, strict=True):
        change = (part.weight - old).detach().abs()
        assert bool(change.isfinite().all())
        assert float(change.max()) == pytest.approx(settings.learning_rate, rel=0.1)  # the first step of AdamW


def test_the_stack_has_as_many_blocks_as_goldens_u():
    depths = resolved("golden")["train_operator"]["model"]["depths"]
    assert resolved("stacked-transformer")["train_operator"]["model"]["depth"] == 2 * sum(depths) - depths[-1]


def test_the_stack_is_built_by_its_name():
    assert isinstance(operator("stacked-transformer").network, StackedTransformer)
