"""What the latent operator is trained on: rollouts of one or more steps from true frames.

Shapes: B trajectories, T frames, N tokens, D latent width, P coefficients, S samples, K predicted frames, C field
channels, *space grid points.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.data.latents import Latents
from ups.data.normalization import FieldNormalizer
from ups.data.pde_residual import RESIDUALS, pde_residual
from ups.data.reference_frame import Observed
from ups.errors import ParameterError
from ups.models.codec import Codec
from ups.models.operator import LatentOperator
from ups.models.rollout import step_map, unroll
from ups.parameters.train_operator import Curriculum, OperatorLosses, Symmetry
from ups.training.loop import Progress
from ups.training.losses import Term, Terms, mse, relative, relative_square, relative_squares, spectral
from ups.training.pairs import Pairs
from ups.training.symmetries import transform

ROLLOUTS = 32  # trajectories rolled out after each epoch


def rollout_steps(progress: float, curriculum: Curriculum) -> int:
    """Return the number of calls in a rollout at a share of the training: from 1 to `max_steps`, reached at `ramp`."""
    if curriculum.ramp == 0 or progress >= curriculum.ramp:
        return curriculum.max_steps
    return 1 + int(progress / curriculum.ramp * (curriculum.max_steps - 1))


def early_starts(frames: Tensor, starts: int, weight: float, generator: torch.Generator) -> Tensor:
    """Move start frames that are drawn uniformly from 0..starts-1 to earlier ones: floor(starts x^(1 + weight)).

    x in [0, 1) is drawn from the interval that belongs to each frame; weight 0 moves nothing.
    """
    if weight == 0:
        return frames
    inside = torch.rand(frames.shape, generator=generator, device=frames.device, dtype=torch.float64)
    return (starts * ((frames + inside) / starts) ** (1 + weight)).long()


@dataclass(frozen=True)
class FieldSpace:
    """What latents decode to, for losses and rollouts that need fields.

    Attributes:
        codec: frozen.
        train, validation: the true trajectories as the codec sees them.
    """

    codec: Codec
    train: Observed
    validation: Observed


class OperatorObjective:
    """Loss and validation of the operator.

    Terms (each a mean over the K frames of a rollout, through which gradients flow):
        forward: MSE; spectral: mismatch of amplitudes; relative: nRMSE; all of standardised latents.
        decoded: MSE / mean(u^2) of decoded fields, the square of the nRMSE that forecasts are judged by.
        physics: mean(R^2) dt^2 / mean(u_previous^2), R the residual of the equation between a decoded frame and the one
            before it: the true start frame, then the decoded frames themselves. It asks for no truth.

    Args:
        train, validation: latents.
        losses, curriculum: weights, and lengths and starts of the rollouts.
        space: the fields; only read if `losses.decoded` or `losses.physics` is positive, the operator re-encodes, or
            samples are moved.
        symmetries: by which training samples are moved.

    Raises:
        ParameterError: if `losses.physics` is positive and the equation has no residual on this grid.
    """

    def __init__(
        self,
        train: Latents,
        validation: Latents,
        losses: OperatorLosses,
        curriculum: Curriculum,
        space: FieldSpace,
        symmetries: tuple[Symmetry, ...] = (),
    ) -> None:
        self.train, self.validation, self.space = Pairs(train), Pairs(validation), space
        self.losses, self.curriculum, self.symmetries = losses, curriculum, symmetries
        self.metadata = train.metadata
        if losses.physics:
            _check_residual(losses.physics, train.metadata)

    def loss(self, operator: LatentOperator, indices: Tensor, progress: Progress, generator: torch.Generator) -> Terms:
        calls = rollout_steps(progress.fraction, self.curriculum)
        steps = min(calls * operator.frames_per_call, self.train.starts)
        starts = self.train.starts
        drawn = early_starts(indices % starts, starts, self.curriculum.early_starts, generator)
        indices = indices - indices % starts + drawn
        rows, at = self.train.positions(indices, steps)
        frames, fields, offset = self._window(rows, at, generator)
        coefficients = self.train.coefficients[rows]
        predicted, decoded = self._rollout(operator, frames[:, 0], coefficients, steps)
        result = operator.standardize(predicted).flatten(0, 1)
        target = operator.standardize(frames[:, 1:]).flatten(0, 1)
        terms = {"forward": Term(mse(result, target), self.losses.forward)}
        if self.losses.spectral:
            terms["spectral"] = Term(spectral(result, target, operator.shape), self.losses.spectral)
        if self.losses.relative:
            terms["relative"] = Term(relative(result, target), self.losses.relative)
        if self.losses.decoded and decoded is not None:
            error = relative_square((decoded + offset).flatten(0, 1), (fields[:, 1:] + offset).flatten(0, 1))
            terms["decoded"] = Term(error, self.losses.decoded)
        if self.losses.physics and decoded is not None:
            error = self._residual(torch.cat([fields[:, :1], decoded], dim=1), offset, coefficients)
            terms["physics"] = Term(error, self.losses.physics)
        return terms

    def validate(self, operator: LatentOperator) -> dict[str, float]:
        """Return the error of one call on as many training as validation samples, and the errors of full rollouts.

        One call: MSE of latents; where latents have no weight, what `decoded` measures, because then nothing holds
        latents to the encoder's choice among those that decode to the same field. `val_rollout_loss` is the MSE of
        latents, `val_rollout_nrmse`, where fields are decoded, the nRMSE of forecasts.
        """
        row = {
            "train_loss": self._one_call(operator, self.train, self.space.train),
            "val_loss": self._one_call(operator, self.validation, self.space.validation),
        }
        tokens, coefficients = self.validation.tokens[:ROLLOUTS], self.validation.coefficients[:ROLLOUTS]
        predicted, decoded = self._rollout(operator, tokens[:, 0], coefficients, tokens.shape[1] - 1)
        steps = zip(predicted.unbind(1), tokens[:, 1:].unbind(1), strict=True)
        errors = [mse(operator.standardize(z), operator.standardize(truth)) for z, truth in steps]
        row["val_rollout_loss"] = float(torch.stack(errors).mean())
        if decoded is not None:
            observed = self.space.validation
            truth, offset = observed.fields[:ROLLOUTS, 1:], observed.offset[:ROLLOUTS, None]
            squares = relative_squares(decoded - truth, truth + offset, samples=2)
            row["val_rollout_nrmse"] = float(squares.sqrt().mean())
        return row

    def _rollout(
        self, operator: LatentOperator, z: Tensor, coefficients: Tensor, steps: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return predicted tokens (S, steps, N, D) and, where anything needs them, fields (S, steps, C, *space)."""
        needed = self.losses.decoded or self.losses.physics or operator.reencode
        step = step_map(operator.advance, self.space.codec if needed else None, operator.reencode)
        calls = list(unroll(step, z, coefficients, steps))
        decoded = [fields for _, fields in calls if fields is not None]
        return torch.cat([tokens for tokens, _ in calls], dim=1), torch.cat(decoded, dim=1) if decoded else None

    def _one_call(self, operator: LatentOperator, pairs: Pairs, observed: Observed) -> float:
        steps = min(operator.frames_per_call, pairs.starts)
        frames, coefficients = pairs.window(pairs.probe(), steps)
        predicted, decoded = self._rollout(operator, frames[:, 0], coefficients, steps)
        if decoded is not None and self.losses.decoded and not self.losses.forward:
            truth, offset = self._truth(pairs, observed, pairs.probe(), steps)
            return float(relative_square((decoded + offset).flatten(0, 1), (truth + offset).flatten(0, 1)))
        return float(mse(operator.standardize(predicted), operator.standardize(frames[:, 1:])))

    def _window(self, rows: Tensor, at: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return the latents of training windows, and their fields, (S, steps + 1, C, X), with the fields' offsets.

        With symmetries, of windows moved by one; without terms that need fields, the latter two are empty.

        Args:
            rows, at: trajectory (S,) and frames (S, steps + 1) of each window.
            generator: of the moves.
        """
        observed, codec = self.space.train, self.space.codec
        if not (self.symmetries or self.losses.decoded or self.losses.physics):
            return self.train.tokens[rows[:, None], at], observed.fields[:0], observed.offset[:0]
        fields, offset = observed.fields[rows[:, None], at], observed.offset[rows, None]
        if not self.symmetries:
            return self.train.tokens[rows[:, None], at], fields, offset
        fields, offset = transform(fields, offset, codec.frame, self.symmetries, generator)
        with torch.no_grad():
            return codec.encode(fields.flatten(0, 1)).unflatten(0, fields.shape[:2]), fields, offset

    def _residual(self, frames: Tensor, offset: Tensor, coefficients: Tensor) -> Tensor:
        """mean over steps of mean(R^2) dt^2 / mean(u_previous^2), from successive frames as the codec sees them.

        In the comoving frame what the observer sees solves the same equation, so there the offset stays away.
        """
        scale = FieldNormalizer(self.metadata, frames.device).std
        whole = (frames + offset) * scale
        moving = frames * scale if self.space.codec.frame == "comoving" else whole
        numbers = coefficients.repeat_interleave(frames.shape[1] - 1, dim=0)
        residual = pde_residual(moving[:, :-1].flatten(0, 1), moving[:, 1:].flatten(0, 1), numbers, self.metadata)
        return relative_squares(residual * self.metadata.dt, whole[:, :-1].flatten(0, 1)).mean()

    @staticmethod
    def _truth(pairs: Pairs, observed: Observed, indices: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Return the fields after each sample's start, (S, steps, C, *space), and their offsets, (S, 1, C, 1, ...)."""
        rows, frames = pairs.positions(indices, steps)
        return observed.fields[rows[:, None], frames[:, 1:]], observed.offset[rows, None]


def _check_residual(weight: float, metadata: FieldMetadata) -> None:
    grid = metadata.grid
    if metadata.equation not in RESIDUALS or grid.rank != 1 or not all(grid.periodic):
        raise ParameterError(
            f"train_operator.losses.physics = {weight}: there is no discrete residual for '{metadata.equation}' on a "
            f"grid of {grid.points} points, periodic: {grid.periodic}; there is one on one periodic axis for "
            f"{', '.join(RESIDUALS)}. Set it to 0."
        )
