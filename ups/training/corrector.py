"""What the corrector is trained on: the residual of the frozen operator's one-step prediction.

Shapes: S samples, N tokens, D latent width.
"""

import torch
from torch import Tensor
from torch.distributions import Beta

from ups.data.latents import Latents
from ups.models.corrector import ResidualCorrector
from ups.models.operator import LatentOperator
from ups.models.teacher import DETERMINISTIC_TAU
from ups.parameters.train_diffusion import CorrectorLosses, TauSampling
from ups.training.loop import Progress
from ups.training.losses import Term, Terms, mse, relative, spectral
from ups.training.pairs import Pairs


def sample_tau(count: int, sampling: TauSampling, generator: torch.Generator) -> Tensor:
    """Draw diffusion times in (0, 1), shape (count,).

    `uniform`: U(0, 1). `beta`: Beta(alpha, beta) as the ratio of two gamma variates, X / (X + Y).
    """
    device = generator.device
    if sampling.name == "uniform":
        return torch.rand(count, generator=generator, device=device)
    shapes = torch.tensor([sampling.alpha, sampling.beta], device=device).expand(count, 2)
    # torch.distributions draws from the global stream only; torch._standard_gamma takes a generator.
    gammas = torch._standard_gamma(shapes.contiguous(), generator=generator)
    return gammas[:, 0] / gammas.sum(dim=1)


def beta_moments(sampling: TauSampling) -> tuple[float, float]:
    """Return mean and variance of Beta(alpha, beta)."""
    law = Beta(torch.tensor(float(sampling.alpha)), torch.tensor(float(sampling.beta)))
    return float(law.mean), float(law.variance)


class Residuals:
    """All one-step predictions of the frozen operator from true frames, and what they lack.

    Attributes:
        predicted: z_hat, (S, N, D).
        residual: z - z_hat, (S, N, D).
        starts: samples of each trajectory.
        probe: fixed random choice of samples, for the numbers after each epoch.
        shape: tokens along each axis of the domain.
    """

    def __init__(self, operator: LatentOperator, latents: Latents) -> None:
        pairs = Pairs(latents)
        self.starts, self.probe, self.shape = pairs.starts, pairs.probe(), operator.shape
        predicted, residual = [], []
        with torch.no_grad():
            for indices in torch.arange(len(pairs), device=latents.tokens.device).split(2048):
                frames, coefficients = pairs.window(indices, 1)
                z_hat = operator(frames[:, 0], coefficients)
                predicted.append(z_hat)
                residual.append(frames[:, 1] - z_hat)
        self.predicted, self.residual = torch.cat(predicted), torch.cat(residual)

    def __len__(self) -> int:
        return len(self.predicted)


class ResidualObjective:
    """Loss and validation of the `residual` objective, in units of the training residual's deviation per channel.

    In these units the zero correction scores MSE(0, residual) of about 1 on the training split. Terms: `mse`;
    `spectral` and `relative` on the corrected latents.
    """

    def __init__(
        self, train: Residuals, validation: Residuals, losses: CorrectorLosses, sampling: TauSampling, tau_bins: int
    ) -> None:
        self.train, self.validation = train, validation
        self.losses, self.sampling, self.tau_bins = losses, sampling, tau_bins

    def loss(
        self, corrector: ResidualCorrector, indices: Tensor, progress: Progress, generator: torch.Generator
    ) -> Terms:
        z_hat, residual = self.train.predicted[indices], self.train.residual[indices]
        tau = sample_tau(len(indices), self.sampling, generator)
        scale = corrector.scale
        correction = corrector(z_hat, tau)
        terms = {"mse": Term(mse(correction / scale, residual / scale))}
        corrected, target = (z_hat + correction) / scale, (z_hat + residual) / scale
        if self.losses.spectral:
            terms["spectral"] = Term(spectral(corrected, target, self.train.shape), self.losses.spectral)
        if self.losses.relative:
            terms["relative"] = Term(relative(corrected, target), self.losses.relative)
        return terms

    def validate(self, corrector: ResidualCorrector) -> dict[str, float]:
        """Return, on train and validation: the MSE alone, the zero correction's, and the explained residual.

        `*_explained` = 1 - MSE / MSE(0, residual); below 0 the corrector does harm. `val_loss_tau_*` is the MSE where
        tau lies in one of `tau_bins` equal bins.
        """
        row: dict[str, float] = {}
        for name, data in (("train", self.train), ("val", self.validation)):
            error = self._error(corrector, data, DETERMINISTIC_TAU)
            zero = float((data.residual[data.probe] / corrector.scale).square().mean())
            row |= {f"{name}_loss": error, f"{name}_zero_correction": zero, f"{name}_explained": 1 - error / zero}
        for index in range(self.tau_bins):
            row[f"val_loss_tau_{index}"] = self._error(corrector, self.validation, (index + 0.5) / self.tau_bins)
        return row

    def by_trajectory(self, corrector: ResidualCorrector) -> tuple[Tensor, Tensor]:
        """Return MSE and MSE of the zero correction of each validation trajectory, each (B,)."""
        z_hat, residual = self.validation.predicted, self.validation.residual
        tau = torch.full((len(z_hat),), DETERMINISTIC_TAU, device=z_hat.device)
        error = ((corrector(z_hat, tau) - residual) / corrector.scale).square().mean((1, 2))
        zero = (residual / corrector.scale).square().mean((1, 2))
        return error.unflatten(0, (-1, self.validation.starts)).mean(1), zero.unflatten(
            0, (-1, self.validation.starts)
        ).mean(1)

    @staticmethod
    def _error(corrector: ResidualCorrector, data: Residuals, tau: float) -> float:
        z_hat, residual = data.predicted[data.probe], data.residual[data.probe]
        correction = corrector(z_hat, torch.full((len(z_hat),), tau, device=z_hat.device))
        return float(mse(correction / corrector.scale, residual / corrector.scale))
