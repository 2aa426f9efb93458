"""Loss terms on latent tokens. Each is a plain mean; weights and sums belong to the training loop.

Shapes: B batch, N tokens, D latent width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Term:
    """One term of a loss: its unweighted value and its weight."""

    value: Tensor
    weight: float = 1.0


Terms = dict[str, Term]
Counted = dict[str, tuple[float, float]]  # sum and share of each term


def total(terms: Terms) -> Tensor:
    """Return the weighted sum of all terms."""
    return torch.stack([term.value * term.weight for term in terms.values() if term.weight]).sum()


class TermMeans:
    """Means of the unweighted terms over the updates in which each occurred; a term may act on every n-th update only.

    Values stay on their device until `flush`, so that adding them up does not wait for a GPU.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._shares: dict[str, float] = {}

    def add(self, terms: Terms, share: float) -> None:
        """Take in the terms of a micro-batch that makes up `share` of its update."""
        for name, term in terms.items():
            value = term.value.detach() * share
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._shares[name] = self._shares.get(name, 0.0) + share

    def flush(self, gather: Callable[[Counted], list[Counted]] = lambda mine: [mine]) -> dict[str, float]:
        """Return `loss_<term>` for all terms since the last call, over all processes that `gather` brings together."""
        mine = {name: (float(value), self._shares[name]) for name, value in self._sums.items()}
        self._sums, self._shares = {}, {}
        found = gather(mine)
        means = {}
        for name in dict.fromkeys(name for each in found for name in each):
            sums, shares = zip(*(each[name] for each in found if name in each), strict=True)
            means[f"loss_{name}"] = sum(sums) / sum(shares)
        return means


def mse(predicted: Tensor, target: Tensor) -> Tensor:
    """mean((p - t)^2) over all entries."""
    return (predicted - target).square().mean()


def relative(predicted: Tensor, target: Tensor) -> Tensor:
    """mean over samples of rms(p - t) / rms(t), each over tokens and channels."""
    error = (predicted - target).flatten(1).square().mean(1).clamp_min(1e-20).sqrt()
    return (error / target.flatten(1).square().mean(1).sqrt().clamp_min(1e-8)).mean()


def spectral(predicted: Tensor, target: Tensor, shape: Sequence[int]) -> Tensor:
    """mean((|F p| - |F t|)^2), F the orthonormal Fourier transform over tokens: a mismatch of amplitudes only.

    `shape` are the tokens along each axis of the domain.
    """
    space = tuple(range(1, 1 + len(shape)))
    folded = (z.float().unflatten(1, tuple(shape)) for z in (predicted, target))
    amplitudes = [torch.fft.rfftn(z, dim=space, norm="ortho").abs() for z in folded]
    return (amplitudes[0] - amplitudes[1]).square().mean()


def relative_squares(error: Tensor, truth: Tensor, samples: int = 1) -> Tensor:
    """mean(error^2) / mean(truth^2) over all but the first `samples` dimensions: the square of each sample's nRMSE.

    The error is given, not the prediction: where both lack an offset that the truth's size needs, it never enters.
    """
    return error.flatten(samples).square().mean(samples) / truth.flatten(samples).square().mean(samples).clamp_min(
        1e-12
    )


def relative_square(predicted: Tensor, target: Tensor) -> Tensor:
    """mean over samples of mean((p - t)^2) / mean(t^2)."""
    return relative_squares(predicted - target, target).mean()
