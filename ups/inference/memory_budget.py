"""Build a model that a foreign file describes without letting it take more memory than it may."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FACTORIES: set[Any] = {
    *(torch.empty, torch.zeros, torch.ones, torch.full, torch.eye, torch.arange, torch.linspace),
    *(torch.rand, torch.randn, torch.randperm, torch.empty_strided),
}
_WIDEST = 8  # bytes of a float64 or int64


class OverBudget(ValueError):
    """A constructor asked for more memory than it was given."""


class MemoryBudget(TorchFunctionMode):
    """Inside the block, tensors may take `budget` bytes in all; more is refused before it is allocated.

    Counted are new tensors by the sizes they are asked for with, and results of arithmetic by the shape that their
    operands broadcast to: an upper bound, and all that constructors of models do. (Building on torch's `meta` device
    would allocate nothing, and imports seconds of compiler for it.)

    Raises:
        OverBudget: from the call that goes too far.
    """

    def __init__(self, budget: int) -> None:
        super().__init__()
        self.budget, self.used = budget, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        values = list(_flat([args, kwargs]))
        if func in _FACTORIES:
            numbers = [abs(v) for v in values if isinstance(v, int) and not isinstance(v, bool)]
            self._take(_WIDEST * math.prod(max(1, n) for n in numbers))
        else:
            tensors = [v for v in values if isinstance(v, Tensor)]
            if len(tensors) > 1:
                self._take(_WIDEST * _broadcast([tuple(t.shape) for t in tensors]))
        return func(*args, **kwargs)

    def _take(self, count: int) -> None:
        self.used += count
        if self.used > self.budget:
            raise OverBudget(f"it would take more than {self.budget:,} bytes, far more than its weights do")


def _broadcast(shapes: list[tuple[int, ...]]) -> int:
    try:
        return math.prod(np.broadcast_shapes(*shapes))  # torch's own imports a compiler
    except ValueError:
        return max(math.prod(shape) for shape in shapes)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _flat(inner)
    else:
        yield value
