"""Candidates of the next step: corrections drawn around the operator's prediction, and what they decode to.

Shapes: R trajectories, M states of each, K candidates per state, N tokens, D latent width, P coefficients, C field
channels, *space grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ups.data.reference_frame import Observer
from ups.errors import ArtifactError
from ups.inference.rewards import Reward
from ups.inference.surrogate import Surrogate
from ups.models.flow import FlowCorrector
from ups.models.teacher import DETERMINISTIC_TAU, Teacher
from ups.parameters.evaluate_ttc import CandidateDraws


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

    def rows(self, index: Tensor) -> States:
        """Return the states of trajectories `index`."""
        return States(self.tokens[index], self.frames[index], self.observer.rows(index), self.step)


@dataclass(frozen=True)
class Candidates:
    """All candidates of one step.

    Attributes:
        tokens: (R, M, K, N, D); candidate 0 is the base: the deterministic correction and no noise.
        frames: (R, M, K, C, *space), decoded, physical.
        rewards: (R, M, K), of this step alone.
        searched: (R,), whether candidates were drawn; where they were not, all K are the base.
    """

    tokens: Tensor
    frames: Tensor
    rewards: Tensor
    searched: Tensor


class CandidateSource:
    """Draws candidates around the operator's predictions, and decodes and rewards them.

    Args:
        surrogate: with a corrector.
        reward: of a frame, given its predecessor.
        draws: how many candidates, and how they differ.
        seed: all noise follows from it.

    Attributes:
        teacher: the plain step, operator and corrector.
        per_correction: network evaluations of one correction.

    Raises:
        ArtifactError: if the surrogate has no corrector to draw candidates from.
    """

    def __init__(self, surrogate: Surrogate, reward: Reward, draws: CandidateDraws, seed: int) -> None:
        if surrogate.corrector is None:
            raise ArtifactError("the search draws its candidates from a corrector, but train_diffusion was skipped")
        self.surrogate, self.reward, self.draws = surrogate, reward, draws
        self.teacher = Teacher(surrogate.operator, surrogate.corrector, surrogate.codec)
        self.per_correction = self.teacher.evaluations - 1
        self.generator = torch.Generator(device=surrogate.operator.mean.device).manual_seed(seed)

    def expand(self, start: States, coefficients: Tensor, progress: float) -> Candidates:
        """Draw K successors of each of R x M states, the base first; `progress` of the rollout lies in [0, 1).

        Costs an operator pass for each state and a correction for each candidate.
        """
        count = self.draws.candidates
        z_hat = self._predict(start, coefficients)
        is_base = torch.arange(len(z_hat) * count, device=z_hat.device) % count == 0
        return self._draw(start, z_hat, coefficients, is_base, progress)

    def expand_poor(self, start: States, coefficients: Tensor, progress: float, poor_below: float) -> Candidates:
        """As `expand`, M = 1, but draw only where the base's reward is below `poor_below`.

        The base of a trajectory that is searched is not computed twice: together the two cost what `expand` costs.
        """
        z_hat = self._predict(start, coefficients)
        base = self._finish(start, self.teacher.finish(z_hat), coefficients)
        poor = base.rewards[:, 0, 0] < poor_below
        count = self.draws.candidates
        parts = [value.expand(-1, -1, count, *value.shape[3:]) for value in (base.tokens, base.frames, base.rewards)]
        index = poor.nonzero()[:, 0]
        if len(index) and count > 1:
            none_is_base = torch.zeros(len(index) * (count - 1), dtype=torch.bool, device=z_hat.device)
            drawn = self._draw(start.rows(index), z_hat[index], coefficients[index], none_is_base, progress)
            parts = [value.clone() for value in parts]
            for value, new in zip(parts, (drawn.tokens, drawn.frames, drawn.rewards), strict=True):
                value[index, :, 1:] = new
        tokens, frames, rewards = parts
        return Candidates(tokens, frames, rewards, searched=poor)

    def _predict(self, start: States, coefficients: Tensor) -> Tensor:
        """Return the operator's predictions, (R M, N, D)."""
        each = coefficients.repeat_interleave(start.tokens.shape[1], dim=0)
        return self.teacher.predictor.step(start.tokens.flatten(0, 1), each)

    def _draw(self, start: States, z_hat: Tensor, coefficients: Tensor, is_base: Tensor, progress: float) -> Candidates:
        """Correct predictions (R M, N, D) as often as `is_base`, (R M k,), has entries for each."""
        count = len(is_base) // len(z_hat)
        seen = self.teacher.predictor.legible(z_hat).repeat_interleave(count, dim=0)
        correction, noise = self._noise(seen, is_base, progress)
        tokens = z_hat.repeat_interleave(count, dim=0) + correction + torch.where(is_base[:, None, None], 0.0, noise)
        return self._finish(start, tokens, coefficients)

    def _noise(self, seen: Tensor, is_base: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """Draw a correction for each prediction as the corrector reads it, and latent noise.

        The noise is in units of each latent channel's deviation. Corrections of a flow differ by the noise that it
        starts from, those of a `residual` corrector by tau, uniform in its range. The base's is the deterministic one.
        """
        schedule = self.draws.noise_std
        level = schedule[min(int(progress * len(schedule)), len(schedule) - 1)]
        device, corrector = seen.device, self.teacher.corrector
        if isinstance(corrector, FlowCorrector):
            eps = torch.where(is_base[:, None, None], 0.0, corrector.draw(seen, self.generator))
            correction = corrector.correct(seen, eps)
        else:
            low, high = self.draws.tau_range
            tau = low + (high - low) * torch.rand(len(seen), generator=self.generator, device=device)
            correction = self.teacher.correct(seen, torch.where(is_base, DETERMINISTIC_TAU, tau))
        noise = torch.randn(seen.shape, generator=self.generator, device=device)
        return correction, level * self.surrogate.operator.std * noise

    def _finish(self, start: States, tokens: Tensor, coefficients: Tensor) -> Candidates:
        """Decode and reward successors (R M k, N, D) of R x M states."""
        rows, states = start.tokens.shape[:2]
        count = len(tokens) // (rows * states)
        followed = tokens.unflatten(0, (rows * states, count))
        tokens = self.surrogate.codec.conserve(start.tokens.flatten(0, 1), followed).flatten(0, 1)
        trajectory = torch.arange(rows, device=tokens.device).repeat_interleave(states * count)
        frames = self.surrogate.decode(tokens, start.observer.rows(trajectory), start.step + 1)
        before = start.frames.flatten(0, 1).repeat_interleave(count, dim=0)
        rewards = self.reward(before, frames, coefficients[trajectory])
        shape = (rows, states, count)
        tokens, frames, rewards = (value.unflatten(0, shape) for value in (tokens, frames, rewards))
        return Candidates(tokens, frames, rewards, searched=torch.ones(rows, dtype=torch.bool, device=tokens.device))
