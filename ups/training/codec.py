"""What the codec is trained on: reconstruction and the two inverse losses.

Shapes: B frames, C field channels, *space grid points, N tokens, D latent width, Q query points.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ups.data.reference_frame import Observed
from ups.models.codec import Codec
from ups.parameters.train_codec import InverseLosses
from ups.training.loop import Progress
from ups.training.losses import Term, Terms, mse, relative_square, relative_squares


def inverse_weight(epoch: int, settings: InverseLosses) -> float:
    """Return the weight of the inverse losses in an epoch (counted from 0).

    0 for the first W epochs, a ramp over the next W, then min(weight, max_weight).
    """
    top = min(settings.weight, settings.max_weight)
    warmup = settings.warmup_epochs
    if epoch < warmup:
        return 0.0
    if epoch >= 2 * warmup:
        return top
    share = (epoch - warmup) / warmup
    return top * (share if settings.ramp == "linear" else 0.5 * (1 - math.cos(math.pi * share)))


def query_points(points: Sequence[int], settings: InverseLosses, generator: torch.Generator) -> Tensor:
    """Return indices of distinct grid points to query, (Q,), counted row by row.

    `uniform` draws `num_queries` points from the whole grid, or half of a smaller one. `stratified` draws one point
    from each of as many blocks of equal sides, cut along every axis of the grid; if their number has no such division,
    from the next smaller number of blocks that has.

    Args:
        points: grid points along each axis.
        settings: how many, and how.
        generator: of the draws.
    """
    total = math.prod(points)
    count = min(settings.num_queries, total // 2)
    device = generator.device
    if settings.query_sampling == "uniform":
        return torch.randperm(total, generator=generator, device=device)[:count]
    blocks = _blocks(points, count)
    index = torch.zeros((), dtype=torch.long, device=device)
    for axis, (size, parts) in enumerate(zip(points, blocks, strict=True)):
        edges = torch.arange(parts + 1, device=device) * size // parts
        side = [-1 if at == axis else 1 for at in range(len(points))]
        first, width = edges[:-1].reshape(side), (edges[1:] - edges[:-1]).reshape(side)
        inside = torch.rand(blocks, generator=generator, device=device)
        index = index * size + first + (inside * width).long()
    return index.flatten()


def _blocks(points: Sequence[int], count: int) -> tuple[int, ...]:
    """Divide a grid into at most `count` blocks whose sides are about equal."""
    if len(points) == 1:
        return (count,)
    side = (math.prod(points) / count) ** (1 / len(points))
    return tuple(max(1, min(size, int(size / side + 1e-9))) for size in points)


class CodecObjective:
    """Loss and validation of the codec on normalised frames.

    Terms:
        reconstruction: mean over frames of MSE(decode(encode(u)), u) / mean(u^2).
        inverse_encoding: MSE(decode(encode(u), x_q), u(x_q)) at query points x_q, through the any-point path.
        inverse_decoding: MSE(encode(decode(z)), stopgrad z), on the full grid.

    Args:
        train, validation: trajectories as the codec sees them; their frames are the samples. Their offset is added
            back where an error is taken relative to the physical field, whose mean is not removed.
        settings: weight and curriculum of the inverse losses.
    """

    def __init__(self, train: Observed, validation: Observed, settings: InverseLosses) -> None:
        self.train, self.offset = train.flat()
        self.validation, self.settings = validation.flat(), settings
        self.points = tuple(self.train.shape[2:])
        device = self.train.device
        lines = [(torch.arange(count, device=device) + 0.5) / count for count in self.points]
        # (X,) on a line, (points of the grid row by row, d) otherwise.
        self.positions = lines[0] if len(lines) == 1 else torch.cartesian_prod(*lines)

    def loss(self, codec: Codec, indices: Tensor, progress: Progress, generator: torch.Generator) -> Terms:
        u, offset = self.train[indices], self.offset[indices]
        z = codec.encode(u)
        decoded = codec.decode(z)
        terms = {"reconstruction": Term(relative_square(decoded + offset, u + offset))}
        weight = inverse_weight(progress.epoch, self.settings)
        if weight and progress.update % self.settings.frequency == 0:
            queries = query_points(self.points, self.settings, generator)
            at_queries = codec.decode_at(z, self.positions[queries])
            terms["inverse_encoding"] = Term(mse(at_queries, u.flatten(2)[..., queries]), weight)
            terms["inverse_decoding"] = Term(mse(codec.encode(decoded), z.detach()), weight)
        return terms

    def validate(self, codec: Codec) -> dict[str, float]:
        """Return the reconstruction nRMSE of physical fields on as many training as validation frames."""
        count = len(self.validation[0])
        stride = max(1, len(self.train) // count)
        return {
            "train_loss": self._nrmse(codec, self.train[::stride][:count], self.offset[::stride][:count]),
            "val_loss": self._nrmse(codec, *self.validation),
        }

    @staticmethod
    def _nrmse(codec: Codec, frames: Tensor, offsets: Tensor) -> float:
        ratios = []
        for u, offset in zip(frames.split(1024), offsets.split(1024), strict=True):
            ratios.append(relative_squares(codec.decode(codec.encode(u)) - u, u + offset).sqrt())
        return float(torch.cat(ratios).mean())
