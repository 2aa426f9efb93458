"""Exponential moving average of weights that has no memory of its start."""

import torch
from torch import Tensor, nn

_WARMUP = 10


class EMA:
    """avg_t = sum_s c_s w_s / sum_s c_s with weights c_s that decay by d_t = min(d, (1 + t) / (10 + t)) per update.

    Two things matter in short runs. Dividing by the sum of the weights removes the initial weights, of which a plain
    average still consists to 88 % after 126 updates at d = .999. The rising decay keeps the window at about a tenth of
    the updates so far: without it 1,000 updates at .999 average over the whole training, and the first, bad half of it
    holds 38 % of the weight.

    Args:
        model: the model whose parameters are averaged; buffers are not.
        decay: d in [0, 1), which the decay reaches after 9 d / (1 - d) updates; None keeps no average.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self.decay = decay
        self.count = 0
        self.norm = 0.0
        self.sums = [torch.zeros_like(p) for p in model.parameters()] if decay is not None else []

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the weights after one optimiser step into the average."""
        if self.decay is None:
            return
        decay = min(self.decay, (1 + self.count) / (_WARMUP + self.count))
        self.count += 1
        self.norm = decay * self.norm + 1 - decay
        torch._foreach_lerp_(self.sums, list(model.parameters()), 1 - decay)

    @torch.no_grad()
    def weights(self, model: nn.Module) -> list[Tensor]:
        """Return the averaged parameters, in the order of `model.parameters()`."""
        if self.decay is None or self.count == 0:
            return [p.detach().clone() for p in model.parameters()]
        return [value / self.norm for value in self.sums]

    @torch.no_grad()
    def copy_to(self, target: nn.Module, source: nn.Module) -> None:
        """Write the averaged parameters and the buffers of `source` into `target`, of the same architecture."""
        for into, value in zip(target.parameters(), self.weights(source), strict=True):
            into.copy_(value)
        for buffer, current in zip(target.buffers(), source.buffers(), strict=True):
            buffer.copy_(current)

    def state_dict(self) -> dict[str, object]:
        return {"count": self.count, "norm": self.norm, "sums": self.sums}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.count = int(state["count"])  # type: ignore[call-overload]
        self.norm = float(state["norm"])  # type: ignore[arg-type]
        for into, value in zip(self.sums, state["sums"], strict=True):  # type: ignore[call-overload]
            into.copy_(value)
