"""Test-time search: at each step draw candidate corrections, look ahead, keep the best; each trajectory on its own.

Shapes: R trajectories, M beam states, K candidates per state, N tokens, D latent width, C field channels, *space grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ups.data.reference_frame import Observer
from ups.errors import ArtifactError, ParameterError
from ups.inference.rewards import Reward
from ups.inference.surrogate import Surrogate
from ups.models.flow import FlowCorrector
from ups.models.teacher import DETERMINISTIC_TAU, Teacher
from ups.parameters.evaluate_ttc import EvaluateTTC


@dataclass(frozen=True)
class States:
    """States of one time step that are to be advanced.

    Attributes:
        tokens: (R, M, N, D).
        frames: (R, M, C, *space), physical.
        observer: of the R trajectories.
        step: time steps since the start.
    """

    tokens: Tensor
    frames: Tensor
    observer: Observer
    step: int


@dataclass(frozen=True)
class Candidates:
    """All candidates of one step.

    Attributes:
        tokens: (R, M, K, N, D); candidate 0 is the base: the deterministic correction and no noise.
        frames: (R, M, K, C, *space), decoded, physical.
        rewards: (R, M, K), of this step alone.
    """

    tokens: Tensor
    frames: Tensor
    rewards: Tensor


# (candidates of the first step, their scores (R, K), index of the rollout step) -> chosen tokens (R, N, D)
Choice = Callable[[Candidates, Tensor, int], Tensor]


def take(candidates: Candidates, index: Tensor) -> Tensor:
    """Return the tokens of candidate `index` (R,) of the only beam state: (R, N, D)."""
    return candidates.tokens[torch.arange(len(index), device=index.device), 0, index]


def best_scored(candidates: Candidates, scores: Tensor, step: int) -> Tensor:
    """Choose the candidate with the highest score, the earlier one in a tie (so the base where nothing is better)."""
    return take(candidates, scores.argmax(dim=1))


def mean_of_candidates(candidates: Candidates, scores: Tensor, step: int) -> Tensor:
    """Choose the mean of all candidates in latent space."""
    return candidates.tokens[:, 0].mean(dim=1)


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

    Also collects the rank correlation of score and error, per trajectory.

    Args:
        truth: (R, T, C, *space), the frames to be predicted.
        follow: the choice to follow in fact; the oracle only watches when it is given.
    """

    def __init__(self, truth: Tensor, follow: Choice | None = None) -> None:
        self.truth, self.follow = truth, follow
        self.correlations: list[Tensor] = []

    def __call__(self, candidates: Candidates, scores: Tensor, step: int) -> Tensor:
        difference = candidates.frames[:, 0] - self.truth[:, step, None]
        error = difference.square().mean(tuple(range(2, difference.dim()))).sqrt()
        if scores.shape[1] > 1:
            self.correlations.append(rank_correlation(scores, -error))
        if self.follow is not None:
            return self.follow(candidates, scores, step)
        return take(candidates, error.argmin(dim=1))


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


@dataclass(frozen=True)
class SearchResult:
    """A searched rollout.

    Attributes:
        frames: (R, T, C, *space), physical.
        evaluations: network evaluations of each trajectory, (R,).
    """

    frames: Tensor
    evaluations: Tensor


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

    Raises:
        ArtifactError: if the surrogate has no corrector to draw candidates from.
        ParameterError: if a step with this corrector costs more evaluations than the settings allow.
    """

    def __init__(self, surrogate: Surrogate, reward: Reward, settings: EvaluateTTC, seed: int) -> None:
        if surrogate.corrector is None:
            raise ArtifactError("the search draws its candidates from a corrector, but train_diffusion was skipped")
        self.surrogate, self.reward, self.settings = surrogate, reward, settings
        self.teacher = Teacher(surrogate.operator, surrogate.corrector)
        self.per_correction = self.teacher.evaluations - 1
        try:
            settings.check_budget(self.per_correction)
        except ValueError as error:
            raise ParameterError(f"evaluate_ttc with this corrector: {error}") from None
        self.generator = torch.Generator(device=surrogate.operator.mean.device).manual_seed(seed)

    @torch.no_grad()
    def rollout(self, initial: Tensor, coefficients: Tensor, num_steps: int, choose: Choice) -> SearchResult:
        """Search `num_steps` steps from frames `initial`, (R, C, *space), with coefficients (R, P)."""
        observer, z = self.surrogate.start(initial)
        previous = initial
        frames = []
        evaluations = torch.zeros(len(z), device=z.device)
        searched = num_steps if self.settings.steps is None else self.settings.steps
        for step in range(num_steps):
            if step < searched:
                states = States(z[:, None], previous[:, None], observer, step)
                candidates, scores, used = self._search(states, coefficients, step / num_steps)
                z = choose(candidates, scores, step)
                evaluations += used
            else:
                z = self.teacher.step(z, coefficients)
                evaluations += self.teacher.evaluations
            previous = self.surrogate.decode(z, observer, step + 1)
            frames.append(previous)
            z = self.surrogate.reencode(z)
        return SearchResult(torch.stack(frames, dim=1), evaluations)

    def _search(self, start: States, coefficients: Tensor, progress: float) -> tuple[Candidates, Tensor, Tensor]:
        """Return the next step's candidates, the score of the best path through each, (R, K), and the cost, (R,)."""
        rows, count, device = len(start.tokens), self.settings.candidates, start.tokens.device
        first = self._expand(start, coefficients, progress)
        scores = first.rewards[:, 0]
        expansion = 1.0 + count * self.per_correction
        evaluations = torch.full((rows,), expansion, device=device)
        if self.settings.horizon == 1 or count == 1:
            return first, scores, evaluations
        undecided = torch.arange(rows, device=device)[~self._decided(scores)]
        beam = min(self.settings.beam, count)
        if len(undecided):
            totals, roots = scores[undecided].topk(beam, dim=1)  # the kept paths and their first candidates
            tokens = _gather(first.tokens[undecided, 0], roots)
            frames = _gather(first.frames[undecided, 0], roots)
            observer = start.observer.rows(undecided)
            for depth in range(1, self.settings.horizon):
                tokens = self.surrogate.reencode(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
                level = self._expand(
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

    def _expand(self, start: States, coefficients: Tensor, progress: float) -> Candidates:
        """Draw K successors of each of R x M states: candidates (R, M, K, ...)."""
        z, count = start.tokens, self.settings.candidates
        rows, states = z.shape[:2]
        each = coefficients.repeat_interleave(states, dim=0)
        z_hat = self.surrogate.operator(z.flatten(0, 1), each)
        repeated = z_hat.repeat_interleave(count, dim=0)
        is_base = torch.arange(len(repeated), device=z.device) % count == 0
        correction, noise = self._draw(repeated, is_base, progress)
        tokens = repeated + correction + torch.where(is_base[:, None, None], 0.0, noise)
        trajectory = torch.arange(rows, device=z.device).repeat_interleave(states * count)
        frames = self.surrogate.decode(tokens, start.observer.rows(trajectory), start.step + 1)
        before = start.frames.flatten(0, 1).repeat_interleave(count, dim=0)
        rewards = self.reward(before, frames, each.repeat_interleave(count, dim=0))
        shape = (rows, states, count)
        return Candidates(tokens.unflatten(0, shape), frames.unflatten(0, shape), rewards.unflatten(0, shape))

    def _draw(self, z_hat: Tensor, is_base: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """Draw a correction for each prediction, and latent noise in units of each latent channel's deviation.

        Corrections of a flow differ by the noise that it starts from, those of a `residual` corrector by tau, uniform
        in its range. The base's is the deterministic one.
        """
        schedule = self.settings.noise_std
        level = schedule[min(int(progress * len(schedule)), len(schedule) - 1)]
        device, corrector = z_hat.device, self.teacher.corrector
        if isinstance(corrector, FlowCorrector):
            eps = torch.where(is_base[:, None, None], 0.0, corrector.draw(z_hat, self.generator))
            correction = corrector.correct(z_hat, eps)
        else:
            low, high = self.settings.tau_range
            tau = low + (high - low) * torch.rand(len(z_hat), generator=self.generator, device=device)
            correction = self.teacher.correct(z_hat, torch.where(is_base, DETERMINISTIC_TAU, tau))
        noise = torch.randn(z_hat.shape, generator=self.generator, device=device)
        return correction, level * self.surrogate.operator.std * noise

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
