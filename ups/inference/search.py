"""Test-time search: at each step draw candidate corrections, look ahead, keep the best; each trajectory on its own.

Shapes: R trajectories, M beam states, K candidates per state, N tokens, D latent width, C field channels, *space grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ups.errors import ParameterError
from ups.inference.candidates import Candidates, CandidateSource, States
from ups.inference.choices import Choice
from ups.inference.rewards import Reward
from ups.inference.surrogate import Surrogate
from ups.parameters.evaluate_ttc import EvaluateTTC


@dataclass(frozen=True)
class SearchResult:
    """A searched rollout.

    Attributes:
        frames: (R, T, C, *space), physical.
        evaluations: network evaluations that were made for each trajectory, (R,).
        searched: steps of each trajectory at which candidates were drawn, (R,).
    """

    frames: Tensor
    evaluations: Tensor
    searched: Tensor


class BeamSearch:
    """Rollouts with a beam search over candidate corrections before each step.

    From the current state, level 1 holds its K candidates. The `beam` best of a level (by discounted reward so far) are
    expanded to K candidates each for the next, up to `horizon` levels; the first step of the best path is taken. All
    paths compared have the same length. A trajectory whose best path leads the next by more than `margin` of the
    spread of its level stops looking ahead.

    Args:
        surrogate: with a corrector.
        reward: of a frame, given its predecessor.
        settings: numbers of candidates, beam, horizon and noise.
        seed: all noise follows from it.
        poor_below: search only where the plain step's reward is below this number; None searches everywhere.

    Raises:
        ArtifactError: if the surrogate has no corrector to draw candidates from.
        ParameterError: if a step with this corrector costs more evaluations than the settings allow.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        reward: Reward,
        settings: EvaluateTTC,
        seed: int,
        poor_below: float | None = None,
    ) -> None:
        self.source = CandidateSource(surrogate, reward, settings, seed)
        self.surrogate, self.settings, self.poor_below = surrogate, settings, poor_below
        try:
            settings.check_budget(self.source.per_correction)
        except ValueError as error:
            raise ParameterError(f"evaluate_ttc with this corrector: {error}") from None

    @torch.no_grad()
    def rollout(self, initial: Tensor, coefficients: Tensor, num_steps: int, choose: Choice) -> SearchResult:
        """Search `num_steps` steps from frames `initial`, (R, C, *space), with coefficients (R, P)."""
        observer, z = self.surrogate.start(initial)
        previous = initial
        frames = []
        evaluations = torch.zeros(len(z), device=z.device)
        searched = torch.zeros(len(z), dtype=torch.long, device=z.device)
        for step in range(num_steps):
            if self.settings.steps is None or step < self.settings.steps:
                states = States(z[:, None], previous[:, None], observer, step)
                candidates, scores, used = self._search(states, coefficients, step / num_steps)
                z = choose(candidates, scores, step)
                evaluations += used
                searched += candidates.searched
            else:
                z = self.source.teacher.step(z, coefficients)
                evaluations += self.source.teacher.evaluations
            previous = self.surrogate.decode(z, observer, step + 1)
            frames.append(previous)
            z = self.surrogate.reencode(z)
        return SearchResult(torch.stack(frames, dim=1), evaluations, searched)

    def _search(self, start: States, coefficients: Tensor, progress: float) -> tuple[Candidates, Tensor, Tensor]:
        """Return the next step's candidates, the score of the best path through each, (R, K), and the cost, (R,)."""
        count, device = self.settings.candidates, start.tokens.device
        if self.poor_below is None:
            first = self.source.expand(start, coefficients, progress)
        else:
            first = self.source.expand_poor(start, coefficients, progress, self.poor_below)
        scores = first.rewards[:, 0]
        expansion = 1.0 + count * self.source.per_correction
        evaluations = torch.where(first.searched, expansion, float(self.source.teacher.evaluations))
        if self.settings.horizon == 1 or count == 1:
            return first, scores, evaluations
        undecided = (first.searched & ~self._decided(scores)).nonzero()[:, 0]
        beam = min(self.settings.beam, count)
        if len(undecided):
            totals, roots = scores[undecided].topk(beam, dim=1)  # the kept paths and their first candidates
            tokens = _gather(first.tokens[undecided, 0], roots)
            frames = _gather(first.frames[undecided, 0], roots)
            observer = start.observer.rows(undecided)
            for depth in range(1, self.settings.horizon):
                tokens = self.surrogate.reencode(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
                level = self.source.expand(
                    States(tokens, frames, observer, start.step + depth), coefficients[undecided], progress
                )
                evaluations[undecided] += beam * expansion
                paths = (totals[..., None] + self.settings.discount**depth * level.rewards).flatten(1)
                totals, chosen = paths.topk(beam, dim=1)
                roots = roots.gather(1, chosen // count)
                tokens = _gather(level.tokens.flatten(1, 2), chosen)
                frames = _gather(level.frames.flatten(1, 2), chosen)
            # Only kept paths have the full length; a first candidate off the beam must not win with a shorter sum.
            looked_ahead = torch.full((len(undecided), count), -torch.inf, device=device)
            looked_ahead.scatter_reduce_(1, roots, totals, "amax")
            scores = scores.clone()
            scores[undecided] = looked_ahead
        return first, scores, evaluations

    def _decided(self, scores: Tensor) -> Tensor:
        """Tell where the best score leads the second by more than `margin` of the spread, (R,)."""
        if self.settings.margin is None:
            return torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
        best = scores.topk(2, dim=1).values
        spread = (best[:, 0] - scores.min(dim=1).values).clamp_min(1e-30)
        return (best[:, 0] - best[:, 1]) / spread > self.settings.margin


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """Take entries `index` (R, M) along axis 1 of (R, K, ...)."""
    return values[torch.arange(len(index), device=index.device)[:, None], index]
