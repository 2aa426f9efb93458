"""What the latent operator is trained on: rollouts of one or more steps from true frames.

Shapes: B trajectories, T frames, N tokens, D latent width, P coefficients, S samples, K rollout steps.
"""

import torch
from torch import Tensor

from ups.data.latents import Latents
from ups.models.operator import LatentOperator
from ups.parameters.train_operator import Curriculum, OperatorLosses
from ups.training.loop import Progress
from ups.training.losses import Term, Terms, mse, relative, spectral

# Samples and trajectories looked at after each epoch: enough for a curve, little beside the training itself.
PROBE, ROLLOUTS = 1024, 32


def rollout_steps(progress: float, curriculum: Curriculum) -> int:
    """Return the rollout length at a share of the training: from 1 up to `max_steps`, reached at `ramp`."""
    if curriculum.ramp == 0 or progress >= curriculum.ramp:
        return curriculum.max_steps
    return 1 + int(progress / curriculum.ramp * (curriculum.max_steps - 1))


class Pairs:
    """Start frames of all trajectories as one flat list of samples: sample i is frame i mod (T-1) of one trajectory."""

    def __init__(self, latents: Latents) -> None:
        self.tokens, self.coefficients = latents.tokens, latents.coefficients
        self.starts = latents.tokens.shape[1] - 1

    def __len__(self) -> int:
        return self.tokens.shape[0] * self.starts

    def probe(self, count: int = PROBE) -> Tensor:
        """Return a fixed random choice of at most `count` samples, the same in every epoch, (S,).

        Random, because any regular stride through frames and trajectories favours some frames of all trajectories.
        """
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))
        return order[:count].to(self.tokens.device)

    def window(self, indices: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Return frames (S, steps + 1, N, D) and coefficients (S, P); late starts move back so that the window fits."""
        rows = torch.div(indices, self.starts, rounding_mode="floor")
        first = (indices % self.starts).clamp_max(self.starts - steps)
        frames = first[:, None] + torch.arange(steps + 1, device=indices.device)
        return self.tokens[rows[:, None], frames], self.coefficients[rows]


class OperatorObjective:
    """Loss and validation of the operator, in standardised latent units.

    Terms (each a mean over the K rollout steps, through which gradients flow):
        forward: MSE; spectral: mismatch of amplitudes; relative: nRMSE.
    """

    def __init__(self, train: Latents, validation: Latents, losses: OperatorLosses, curriculum: Curriculum) -> None:
        self.train, self.validation = Pairs(train), Pairs(validation)
        self.losses, self.curriculum = losses, curriculum

    def loss(self, operator: LatentOperator, indices: Tensor, progress: Progress, generator: torch.Generator) -> Terms:
        steps = rollout_steps(progress.fraction, self.curriculum)
        frames, coefficients = self.train.window(indices, steps)
        z = frames[:, 0]
        predicted = []
        for _ in range(steps):
            z = operator(z, coefficients)
            predicted.append(z)
        result = operator.standardize(torch.stack(predicted, dim=1)).flatten(0, 1)
        target = operator.standardize(frames[:, 1:]).flatten(0, 1)
        terms = {"forward": Term(mse(result, target), self.losses.forward)}
        if self.losses.spectral:
            terms["spectral"] = Term(spectral(result, target), self.losses.spectral)
        if self.losses.relative:
            terms["relative"] = Term(relative(result, target), self.losses.relative)
        return terms

    def validate(self, operator: LatentOperator) -> dict[str, float]:
        """Return the one-step MSE on as many training as validation samples, and that of full latent rollouts."""
        return {
            "train_loss": self._one_step(operator, self.train),
            "val_loss": self._one_step(operator, self.validation),
            "val_rollout_loss": self._rollout(operator, self.validation),
        }

    @staticmethod
    def _one_step(operator: LatentOperator, pairs: Pairs) -> float:
        frames, coefficients = pairs.window(pairs.probe(), 1)
        return float(
            mse(operator.standardize(operator(frames[:, 0], coefficients)), operator.standardize(frames[:, 1]))
        )

    @staticmethod
    def _rollout(operator: LatentOperator, pairs: Pairs) -> float:
        tokens, coefficients = pairs.tokens[:ROLLOUTS], pairs.coefficients[:ROLLOUTS]
        z = tokens[:, 0]
        errors = []
        for step in range(1, tokens.shape[1]):
            z = operator(z, coefficients)
            errors.append(mse(operator.standardize(z), operator.standardize(tokens[:, step])))
        return float(torch.stack(errors).mean())
