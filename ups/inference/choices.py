"""Which candidate a search takes: the best by its score, and the choices that serve as controls.

Shapes: R trajectories, K candidates of each, T steps, N tokens, D latent width, C field channels, *space grid.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ups.inference.candidates import Candidates

# (candidates of the first step, their scores (R, K), index of the rollout step) -> chosen tokens (R, N, D)
Choice = Callable[[Candidates, Tensor, int], Tensor]


def take(candidates: Candidates, index: Tensor) -> Tensor:
    """Return the tokens of candidate `index` (R,) of the only beam state: (R, N, D)."""
    return candidates.tokens[torch.arange(len(index), device=index.device), 0, index]


def best_scored(candidates: Candidates, scores: Tensor, step: int) -> Tensor:
    """Choose the candidate with the highest score, the earlier one in a tie (so the base where nothing is better)."""
    return take(candidates, scores.argmax(dim=1))


def mean_of_candidates(candidates: Candidates, scores: Tensor, step: int) -> Tensor:
    """Choose the mean of all candidates in latent space; the base itself where none were drawn."""
    tokens = candidates.tokens[:, 0]
    return torch.where(candidates.searched[:, None, None], tokens.mean(dim=1), tokens[:, 0])


def base_candidate(candidates: Candidates, scores: Tensor, step: int) -> Tensor:
    """Choose candidate 0."""
    return candidates.tokens[:, 0, 0]


class RandomChoice:
    """Choose one of the candidates at random: what the search is worth without its reward."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, candidates: Candidates, scores: Tensor, step: int) -> Tensor:
        index = torch.randint(scores.shape[1], (len(scores),), generator=self.generator)
        return take(candidates, index.to(scores.device))


class OracleChoice:
    """Choose the candidate nearest to the truth: the most any reward could reach. Uses what no user has.

    Also collects the rank correlation of score and error, per trajectory; NaN where nothing was searched.

    Args:
        truth: (R, T, C, *space), the frames to be predicted.
        follow: the choice to follow in fact; the oracle only watches when it is given.
    """

    def __init__(self, truth: Tensor, follow: Choice | None = None) -> None:
        self.truth, self.follow = truth, follow
        self.correlations: list[Tensor] = []

    def __call__(self, candidates: Candidates, scores: Tensor, step: int) -> Tensor:
        error = true_errors(candidates, self.truth[:, step])
        if scores.shape[1] > 1:
            correlation = rank_correlation(scores, -error)
            self.correlations.append(torch.where(candidates.searched, correlation, torch.nan))
        if self.follow is not None:
            return self.follow(candidates, scores, step)
        return take(candidates, error.argmin(dim=1))


def true_errors(candidates: Candidates, truth: Tensor) -> Tensor:
    """Return the RMSE of each candidate of the only beam state against `truth`, (R, C, *space): (R, K)."""
    difference = candidates.frames[:, 0] - truth[:, None]
    return difference.square().mean(tuple(range(2, difference.dim()))).sqrt()


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman correlation along the last axis, (R, K), (R, K) -> (R,); 0 where all values of a row are equal."""
    ranks = [_average_ranks(v) for v in (a, b)]
    centred = [rank - rank.mean(-1, keepdim=True) for rank in ranks]
    norm = centred[0].square().sum(-1).sqrt() * centred[1].square().sum(-1).sqrt()
    return torch.where(norm > 0, (centred[0] * centred[1]).sum(-1) / norm.clamp_min(1e-30), 0.0)


def _average_ranks(values: Tensor) -> Tensor:
    """Ranks along the last axis; equal values share the mean of their ranks."""
    below = (values[..., None, :] < values[..., :, None]).sum(-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    return below + (equal - 1) / 2
