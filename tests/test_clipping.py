"""Clipping by the norm of the whole gradient and by that of each weight, by hand."""

import math

import pytest
import torch
from torch import nn

from ups.parameters.section import Optimization
from ups.training.clipping import clip_gradients


class Two(nn.Module):
    """Two weights with the gradients (3, 4) and (0, .1); a third that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small, self.idle = (nn.Parameter(torch.zeros(2)) for _ in range(3))
        self.large.grad, self.small.grad = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 0.1])


def clipped(**changes) -> tuple[float, list[float], list[float]]:
    model = Two()
    settings = Optimization(epochs=1, updates_per_epoch=1, pairs_per_update=1, learning_rate=0.1, **changes)
    norm = clip_gradients(model, settings)
    return norm, model.large.grad.tolist(), model.small.grad.tolist()


WHOLE = math.sqrt(25.01)


@pytest.mark.parametrize(
    ("changes", "large", "small"),
    [
        ({"gradient_clip": None}, [3.0, 4.0], [0.0, 0.1]),
        ({"gradient_clip": 1.0}, [3 / WHOLE, 4 / WHOLE], [0.0, 0.1 / WHOLE]),
        # The small gradient keeps its size, whatever happens to the large one.
        ({"gradient_clip": None, "clip_per_parameter": 0.3}, [0.18, 0.24], [0.0, 0.1]),
        # Both: .3 and .1 have the norm sqrt(.1), brought to .1.
        ({"gradient_clip": 0.1, "clip_per_parameter": 0.3}, [0.18 / 10**0.5, 0.24 / 10**0.5], [0.0, 0.1 / 10**0.5]),
    ],
)
def test_by_hand(changes, large, small):
    norm, first, second = clipped(**changes)
    assert norm == pytest.approx(WHOLE)  # before any clipping: what the monitor sees
    assert first == pytest.approx(large, rel=1e-4)
    assert second == pytest.approx(small, rel=1e-4)


def test_a_non_finite_gradient_is_still_seen():
    model = Two()
    model.small.grad[0] = math.inf
    settings = Optimization(
        epochs=1, updates_per_epoch=1, pairs_per_update=1, learning_rate=0.1, clip_per_parameter=0.3
    )
    assert not math.isfinite(clip_gradients(model, settings))
