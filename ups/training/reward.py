"""How the learned reward is trained: to rank the candidates of one step as the truth does.

Bradley and Terry 1952, "Rank analysis of incomplete block designs", doi:10.2307/2334029: the probability that a is
better than b is a logistic function of the difference of their scores.

Shapes: S samples, C field channels, *space grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ups.data.triplets import BEST, MEDIAN, WORST, Triplets
from ups.models.reward import RewardNetwork
from ups.training.loop import Progress
from ups.training.losses import Term, Terms
from ups.training.sampling import probe

CHANCE = 0.5  # share of pairs that a reward without knowledge ranks right
_PAIRS = ((BEST, MEDIAN), (MEDIAN, WORST), (BEST, WORST))
_BATCH = 256


class RewardObjective:
    """Loss and validation of the learned reward.

    Args:
        train, validation: ranked candidates of trajectories of either split.
    """

    def __init__(self, train: Triplets, validation: Triplets) -> None:
        self.train, self.validation = train, validation

    def loss(self, model: RewardNetwork, indices: Tensor, progress: Progress, generator: torch.Generator) -> Terms:
        """Return the mean over pairs of -log P(the better one is better), P = sigmoid(difference of scores)."""
        return {"ranking": Term(_ranking(_scores(model, self.train, indices)))}

    def validate(self, model: RewardNetwork) -> dict[str, float]:
        """Return, on train and validation, the loss and the share of pairs that are ranked right; chance is .5."""
        row: dict[str, float] = {}
        for name, data in (("train", self.train), ("val", self.validation)):
            scores = _all_scores(model, data, probe(len(data)).to(data.previous.device))
            row |= {f"{name}_loss": float(_ranking(scores)), f"{name}_accuracy": float(_right(scores).mean())}
        return row

    def by_trajectory(self, model: RewardNetwork) -> Tensor:
        """Return the share of pairs ranked right in each validation trajectory, (B,), float64."""
        everything = torch.arange(len(self.validation), device=self.validation.previous.device)
        right = _right(_all_scores(model, self.validation, everything)).double()
        kept, place = self.validation.trajectory.unique(return_inverse=True)
        count = torch.zeros(len(kept), dtype=torch.float64, device=right.device).index_add_(
            0, place, torch.ones_like(right)
        )
        return torch.zeros_like(count).index_add_(0, place, right) / count


def _scores(model: RewardNetwork, data: Triplets, indices: Tensor) -> Tensor:
    """Return the scores of best, median and worst, (S, 3)."""
    previous, coefficients = (
        value[indices].repeat_interleave(3, dim=0) for value in (data.previous, data.coefficients)
    )
    return model(previous, data.candidates[indices].flatten(0, 1), coefficients).unflatten(0, (-1, 3))


def _all_scores(model: RewardNetwork, data: Triplets, indices: Tensor) -> Tensor:
    return torch.cat([_scores(model, data, part) for part in indices.split(_BATCH)])


def _ranking(scores: Tensor) -> Tensor:
    return torch.stack([F.softplus(scores[:, worse] - scores[:, better]) for better, worse in _PAIRS]).mean()


def _right(scores: Tensor) -> Tensor:
    """Return the share of each sample's pairs that are ranked right, (S,); a tie counts half, as a coin would."""
    pairs = [scores[:, better] - scores[:, worse] for better, worse in _PAIRS]
    return torch.stack([(difference.sign() + 1) / 2 for difference in pairs]).mean(0)
