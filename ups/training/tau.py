"""Drawing the corrector's time tau, and what a draw counts in the loss.

Shapes: S samples, K bins.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ups.parameters.tau import AdaptiveTau, BetaTau, LogUniformTau, StratifiedTau, TauLaw, TauWeight, UniformTau

_RUNNING = "running_losses"


def sample_tau(count: int, law: TauLaw, generator: torch.Generator) -> Tensor:
    """Draw times in [0, 1] from a law that needs no memory, shape (count,); see `ups.parameters.tau`.

    Raises:
        TypeError: for `adaptive`, whose draws depend on the losses so far: see `RunningLosses`.
    """
    device = generator.device
    match law:
        case UniformTau():
            return torch.rand(count, generator=generator, device=device)
        case BetaTau():
            # The ratio X / (X + Y) of two gamma variates. torch.distributions draws from the global stream only;
            # torch._standard_gamma takes a generator.
            shapes = torch.tensor([law.alpha, law.beta], device=device).expand(count, 2)
            gammas = torch._standard_gamma(shapes.contiguous(), generator=generator)
            return gammas[:, 0] / gammas.sum(dim=1)
        case LogUniformTau():
            return law.low ** torch.rand(count, generator=generator, device=device)
        case StratifiedTau():
            inside = torch.rand(count, generator=generator, device=device)
            spread = (torch.arange(count, device=device) + inside) / count
            low, high = law.range
            return spread.clamp(low, high) if law.limit == "clamp" else low + (high - low) * spread
    raise TypeError(f"tau of the law '{law.name}' is drawn by RunningLosses")


def tau_moments(law: TauLaw) -> tuple[float, float]:
    """Return mean and variance of a law in closed form; `adaptive` counts as the uniform law it is weighted to."""
    match law:
        case BetaTau():
            total = law.alpha + law.beta
            return law.alpha / total, law.alpha * law.beta / (total**2 * (total + 1))
        case LogUniformTau():
            decades = -float(torch.tensor(law.low, dtype=torch.float64).log())
            mean = (1 - law.low) / decades
            return mean, (1 - law.low**2) / (2 * decades) - mean**2
        case StratifiedTau():
            low, high = law.range
            if law.limit == "rescale":
                return (low + high) / 2, (high - low) ** 2 / 12
            # The ends hold the probabilities `low` and 1 - `high`; between them the density is 1.
            mean = low**2 + (high**2 - low**2) / 2 + high * (1 - high)
            return mean, low**3 + (high**3 - low**3) / 3 + high**2 * (1 - high) - mean**2
    return 0.5, 1 / 12


def tau_weight(tau: Tensor, weight: TauWeight) -> Tensor | None:
    """Return what each tau counts in the loss, (S,); None where all count alike."""
    if weight.name == "constant":
        return None
    return 6 * tau * (1 - tau) if weight.name == "parabola" else (1 + weight.exponent) * tau**weight.exponent


class RunningLosses(nn.Module):
    """The law `adaptive`: bins in proportion to their running loss, with weights that undo the preference.

    The loss of a bin drawn with probability p counts 1 / (K p): the weighted mean estimates the mean over uniform tau
    whatever p is. The running losses are a buffer, so that a checkpoint of the network they ride on holds them.
    """

    losses: Tensor

    def __init__(self, law: AdaptiveTau) -> None:
        super().__init__()
        self.law = law
        self.register_buffer("losses", torch.ones(law.bins))

    def probabilities(self) -> Tensor:
        """Return the probability of each bin, (K,)."""
        share = self.law.uniform_share
        return (1 - share) * self.losses / self.losses.sum().clamp_min(1e-30) + share / self.law.bins

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return times and their importance weights, (count,) each."""
        probabilities = self.probabilities()
        probabilities = probabilities / probabilities.sum()
        bins = torch.multinomial(probabilities, count, replacement=True, generator=generator)
        inside = torch.rand(count, generator=generator, device=generator.device)
        return (bins + inside) / self.law.bins, 1 / (self.law.bins * probabilities[bins])

    @torch.no_grad()
    def update(self, tau: Tensor, loss: Tensor) -> None:
        """Take in the losses (S,) of samples at times `tau` (S,); a bin without a sample keeps its running loss."""
        bins = (tau * self.law.bins).long().clamp_max(self.law.bins - 1)
        sums = torch.zeros_like(self.losses).index_add_(0, bins, loss.detach().to(self.losses.dtype))
        counts = torch.zeros_like(self.losses).index_add_(0, bins, torch.ones_like(self.losses[bins]))
        fresh = torch.lerp(sums / counts.clamp_min(1), self.losses, self.law.decay)
        self.losses.copy_(torch.where(counts > 0, fresh, self.losses))


def follow_losses(model: nn.Module, law: TauLaw) -> None:
    """Give a model the running losses that its law of tau needs, if it needs any, for as long as it trains."""
    if isinstance(law, AdaptiveTau):
        model.add_module(_RUNNING, RunningLosses(law))


def forget_losses(model: nn.Module) -> None:
    """Take the running losses from a trained model: they are no part of it."""
    model._modules.pop(_RUNNING, None)


class TauDraws:
    """Draws of tau and what each counts, for one training.

    Args:
        law: where tau is drawn.
        weight: what each tau counts beside the importance weight that the law may ask for.
    """

    def __init__(self, law: TauLaw, weight: TauWeight) -> None:
        self.law, self.weight = law, weight

    def draw(self, model: nn.Module, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Return times (count,) and weights (count,) of the samples' losses; None where all weights are 1."""
        running = getattr(model, _RUNNING, None)
        if running is None:
            tau = sample_tau(count, self.law, generator)
            return tau, tau_weight(tau, self.weight)
        tau, importance = running.draw(count, generator)
        weight = tau_weight(tau, self.weight)
        return tau, importance if weight is None else importance * weight

    def update(self, model: nn.Module, tau: Tensor, one: Tensor, other: Tensor) -> None:
        """Tell the law the squared differences (S, ...) that were found at times `tau`, (S,)."""
        running = getattr(model, _RUNNING, None)
        if running is not None:
            losses = (one - other).detach().flatten(1).square().mean(1)
            weight = tau_weight(tau, self.weight)
            running.update(tau, losses if weight is None else weight * losses)


def weighted_mean(
    term: Callable[[Tensor, Tensor], Tensor], one: Tensor, other: Tensor, weight: Tensor | None
) -> Tensor:
    """Return mean_s weight_s term(one_s, other_s) of a loss term that is a mean over samples; None: all weights 1."""
    if weight is None:
        return term(one, other)
    each = torch.func.vmap(lambda a, b: term(a[None], b[None]))(one, other)
    return (weight * each).mean()
