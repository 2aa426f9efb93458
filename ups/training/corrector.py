"""How correctors are trained: the two objectives, and the numbers by which both are judged.

Shapes: S samples, N tokens, D latent width.
"""

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ups.data.latents import Latents
from ups.errors import TrainingError
from ups.models.codec import Codec
from ups.models.corrector import ResidualCorrector
from ups.models.flow import FlowCorrector
from ups.models.operator import LatentOperator
from ups.models.rollout import Advance, step_map, unroll
from ups.models.teacher import DETERMINISTIC_TAU, Corrector, Teacher
from ups.parameters.train_diffusion import TrainDiffusion
from ups.training.loop import Progress
from ups.training.losses import Term, Terms, mse, relative, relative_square, relative_squares, spectral
from ups.training.residuals import Residuals
from ups.training.tau import TauDraws, weighted_mean

ROLLOUTS = 16  # validation trajectories rolled out after each epoch


class DecodedRollouts:
    """Free-running forecasts of a few validation trajectories, decoded: what single steps do not show.

    Their truth is what the true latents decode to, as the codec sees it: the codec's error is nobody's here.

    Args:
        operator, codec: frozen.
        validation: latents; the first `ROLLOUTS` trajectories are forecast from their first frame.
    """

    def __init__(self, operator: LatentOperator, codec: Codec, validation: Latents) -> None:
        self.operator, self.codec = operator, codec
        self.tokens, self.coefficients = validation.tokens[:ROLLOUTS], validation.coefficients[:ROLLOUTS]
        with torch.no_grad():
            frames = self.tokens[:, 1:]
            self.truth = codec.decode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def error(self, corrector: Corrector | None) -> float:
        """Return the mean over trajectories and frames of rms(error) / rms(truth); None corrects nothing."""
        advance: Advance = self.operator.advance
        if corrector is not None:
            teacher = Teacher(self.operator, corrector, self.codec)

            def advance(z: Tensor, coefficients: Tensor) -> Tensor:
                return teacher.step(z, coefficients)[:, None]

        step = step_map(advance, self.codec, self.operator.reencode)
        with torch.no_grad():
            calls = list(unroll(step, self.tokens[:, 0], self.coefficients, self.truth.shape[1]))
        predicted = torch.cat([fields for _, fields in calls if fields is not None], dim=1)
        return float(relative_squares(predicted - self.truth, self.truth, samples=2).sqrt().mean())


class CorrectorObjective(ABC):
    """What both objectives share: data, draws of tau, the loss terms on corrected latents, and the gate's numbers.

    All numbers are in units of the corrector's `scale`: the training residual's deviation per channel, in which the
    zero correction scores MSE(0, residual) of about 1 on the training split.

    Args:
        train, validation: predictions and residuals.
        settings: of the stage.
        codec: frozen; only used where `losses.decoded` is positive.
    """

    def __init__(self, train: Residuals, validation: Residuals, settings: TrainDiffusion, codec: Codec | None) -> None:
        self.train, self.validation = train, validation
        self.losses, self.tau_bins, self.codec = settings.losses, settings.tau_bins, codec
        self.taus = TauDraws(settings.tau, settings.tau_weight)

    def terms(
        self, scale: Tensor, indices: Tensor, correction: Tensor, matched: tuple[Tensor, Tensor], weight: Tensor | None
    ) -> Terms:
        """Return the loss terms of a batch.

        Args:
            scale: of the corrector.
            indices: training samples, (S,).
            correction: of the samples, to be added to their predictions, (S, N, D).
            matched: what the network returned and what it should have, (S, N, D) each.
            weight: what each sample counts, (S,); None counts all alike.
        """
        terms = {"mse": Term(weighted_mean(mse, *matched, weight))}
        z_hat, residual = self.train.predicted[indices], self.train.residual[indices]
        corrected, target = (z_hat + correction) / scale, (z_hat + residual) / scale
        if self.losses.spectral:
            amplitudes = partial(spectral, shape=self.train.shape)
            terms["spectral"] = Term(weighted_mean(amplitudes, corrected, target, weight), self.losses.spectral)
        if self.losses.relative:
            terms["relative"] = Term(weighted_mean(relative, corrected, target, weight), self.losses.relative)
        if self.losses.decoded:
            if self.codec is None:
                raise TrainingError("train_diffusion.losses.decoded is positive, but there is no codec to decode with")
            fields = self.codec.decode(z_hat + correction), self.codec.decode(z_hat + residual)
            terms["decoded"] = Term(weighted_mean(relative_square, *fields, weight), self.losses.decoded)
        return terms

    @abstractmethod
    def deterministic(self, corrector: Any, z_hat: Tensor) -> Tensor:
        """Return the correction that the surrogate adds, (S, N, D)."""

    @abstractmethod
    def loss_at(self, corrector: Any, data: Residuals, tau: Tensor, shown: Tensor | None = None) -> float:
        """Return the MSE of what the network returns at times `tau` (S,) of the probe's samples.

        `shown` are the times that the network is told, by default the true ones: other ones tell whether it listens.
        """

    def validate(self, corrector: Any) -> dict[str, float]:
        """Return, on train and validation: the MSE of the correction, the zero correction's, the explained residual.

        `*_explained` = 1 - MSE / MSE(0, residual); below 0 the corrector does harm. `val_loss_tau_*` is the loss in the
        middle of each of `tau_bins` equal bins of tau.
        """
        row: dict[str, float] = {}
        for name, data in (("train", self.train), ("val", self.validation)):
            error = self._error(corrector, data)
            zero = float((data.residual[data.probe] / corrector.scale).square().mean())
            row |= {f"{name}_loss": error, f"{name}_zero_correction": zero, f"{name}_explained": 1 - error / zero}
        for index in range(self.tau_bins):
            tau = torch.full(
                (len(self.validation.probe),), (index + 0.5) / self.tau_bins, device=corrector.scale.device
            )
            row[f"val_loss_tau_{index}"] = self.loss_at(corrector, self.validation, tau)
        return row

    def by_trajectory(self, corrector: Any) -> tuple[Tensor, Tensor]:
        """Return MSE and MSE of the zero correction of each validation trajectory, each (B,)."""
        z_hat, residual = self.validation.predicted, self.validation.residual
        error = ((self.deterministic(corrector, z_hat) - residual) / corrector.scale).square().mean((1, 2))
        zero = (residual / corrector.scale).square().mean((1, 2))
        return error.unflatten(0, (-1, self.validation.starts)).mean(1), zero.unflatten(
            0, (-1, self.validation.starts)
        ).mean(1)

    def _error(self, corrector: Any, data: Residuals) -> float:
        z_hat, residual = data.predicted[data.probe], data.residual[data.probe]
        return float(mse(self.deterministic(corrector, z_hat) / corrector.scale, residual / corrector.scale))


class ResidualObjective(CorrectorObjective):
    """Loss and validation of the `residual` objective: drift(z_hat, tau) ~ z - z_hat at any tau."""

    def loss(
        self, corrector: ResidualCorrector, indices: Tensor, progress: Progress, generator: torch.Generator
    ) -> Terms:
        z_hat, residual = self.train.predicted[indices], self.train.residual[indices]
        tau, weight = self.taus.draw(corrector, len(indices), generator)
        scale = corrector.scale
        correction = corrector(z_hat, tau)
        matched = (correction / scale, residual / scale)
        self.taus.update(corrector, tau, *matched)
        return self.terms(scale, indices, correction, matched, weight)

    def deterministic(self, corrector: ResidualCorrector, z_hat: Tensor) -> Tensor:
        return corrector(z_hat, torch.full((len(z_hat),), DETERMINISTIC_TAU, device=z_hat.device))

    def loss_at(self, corrector: ResidualCorrector, data: Residuals, tau: Tensor, shown: Tensor | None = None) -> float:
        correction = corrector(data.predicted[data.probe], tau if shown is None else shown)
        return float(mse(correction / corrector.scale, data.residual[data.probe] / corrector.scale))


class FlowObjective(CorrectorObjective):
    """Loss and validation of the `flow` objective: conditional flow matching on straight paths.

    x(tau) = (1 - tau) noise eps + tau r, r the residual in units of `scale`; v(x(tau), z_hat, tau) ~ r - noise eps.
    The other loss terms look at the end of the path that v points to from where it is, x + (1 - tau) v.
    """

    def loss(self, corrector: FlowCorrector, indices: Tensor, progress: Progress, generator: torch.Generator) -> Terms:
        z_hat, residual = self.train.predicted[indices], self.train.residual[indices] / corrector.scale
        tau, weight = self.taus.draw(corrector, len(indices), generator)
        x, target = self.path(corrector.noise * corrector.draw(z_hat, generator), residual, tau)
        velocity = corrector(x, z_hat, tau)
        self.taus.update(corrector, tau, velocity, target)
        end = x + (1 - tau[:, None, None]) * velocity
        return self.terms(corrector.scale, indices, corrector.scale * end, (velocity, target), weight)

    @staticmethod
    def path(start: Tensor, end: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """Return the points at times `tau` (S,) of the straight paths from `start` to `end`, and their velocities."""
        level = tau[:, None, None]
        return (1 - level) * start + level * end, end - start

    def deterministic(self, corrector: FlowCorrector, z_hat: Tensor) -> Tensor:
        return corrector.deterministic(z_hat)

    def loss_at(self, corrector: FlowCorrector, data: Residuals, tau: Tensor, shown: Tensor | None = None) -> float:
        z_hat, residual = data.predicted[data.probe], data.residual[data.probe] / corrector.scale
        # The same noise at every call: differences between times are theirs.
        eps = corrector.draw(z_hat, torch.Generator(device=z_hat.device).manual_seed(0))
        x, target = self.path(corrector.noise * eps, residual, tau)
        return float(mse(corrector(x, z_hat, tau if shown is None else shown), target))

    def validate(self, corrector: FlowCorrector) -> dict[str, float]:
        """Return also the flow's own loss over uniform tau, and with the times that the network is told shuffled.

        `train_loss` and `val_loss` are those of the deterministic correction, to be compared with other objectives.
        """
        row = super().validate(corrector)
        count = len(self.validation.probe)
        generator = torch.Generator().manual_seed(0)
        tau = torch.rand(count, generator=generator).to(corrector.scale.device)
        shuffled = tau[torch.randperm(count, generator=generator).to(tau.device)]
        row["val_flow_loss"] = self.loss_at(corrector, self.validation, tau)
        row["val_flow_loss_shuffled"] = self.loss_at(corrector, self.validation, tau, shown=shuffled)
        return row
