"""Exponential moving average of weights, corrected for its start."""

import torch
from torch import Tensor, nn


class EMA:
    """avg_t = (1 - d) sum_{s<=t} d^(t-s) w_s / (1 - d^t).

    The division matters in short runs: after 126 updates at d = .999 a plain average that starts from the initial
    weights still consists of them to 88 %. The same correction as Adam's moments (Kingma & Ba 2015, section 3).

    Args:
        model: the model whose parameters are averaged; buffers are not.
        decay: d in [0, 1); None keeps no average and `weights` are the model's own.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self.decay = decay
        self.count = 0
        self.sums = [torch.zeros_like(p) for p in model.parameters()] if decay is not None else []

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the weights after one optimiser step into the average."""
        if self.decay is None:
            return
        self.count += 1
        torch._foreach_lerp_(self.sums, list(model.parameters()), 1 - self.decay)

    @torch.no_grad()
    def weights(self, model: nn.Module) -> list[Tensor]:
        """Return the averaged parameters, in the order of `model.parameters()`."""
        if self.decay is None or self.count == 0:
            return [p.detach().clone() for p in model.parameters()]
        correction = 1 - self.decay**self.count
        return [value / correction for value in self.sums]

    @torch.no_grad()
    def copy_to(self, target: nn.Module, source: nn.Module) -> None:
        """Write the averaged parameters of `source` into `target`, which has the same architecture."""
        for into, value in zip(target.parameters(), self.weights(source), strict=True):
            into.copy_(value)

    def state_dict(self) -> dict[str, object]:
        return {"count": self.count, "sums": self.sums}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.count = int(state["count"])  # type: ignore[call-overload]
        for into, value in zip(self.sums, state["sums"], strict=True):  # type: ignore[call-overload]
            into.copy_(value)
