"""The corrector as a flow: noise around the operator's prediction is carried to what the truth may be.

Lipman et al. 2023, "Flow matching for generative modeling", doi:10.48550/arXiv.2210.02747, with straight paths from the
operator's prediction plus noise to the true next frame.

Shapes: B batch, N tokens, D latent width.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from ups.models.corrector import LatentCorrector, per_token
from ups.models.token_mlp import token_mlp

Solver = Literal["euler", "midpoint", "heun"]
# (state (B, N, D), times (B,)) -> its rate of change (B, N, D)
Velocity = Callable[[Tensor, Tensor], Tensor]


def euler(velocity: Velocity, x: Tensor, tau: Tensor, dt: float) -> Tensor:
    """x + dt v(x, tau): first order, one evaluation."""
    return x + dt * velocity(x, tau)


def midpoint(velocity: Velocity, x: Tensor, tau: Tensor, dt: float) -> Tensor:
    """x + dt v(x + dt/2 v(x, tau), tau + dt/2): second order, two evaluations."""
    return x + dt * velocity(x + dt / 2 * velocity(x, tau), tau + dt / 2)


def heun(velocity: Velocity, x: Tensor, tau: Tensor, dt: float) -> Tensor:
    """x + dt/2 [v(x, tau) + v(x + dt v(x, tau), tau + dt)]: second order, two evaluations."""
    first = velocity(x, tau)
    return x + dt / 2 * (first + velocity(x + dt * first, tau + dt))


SOLVERS = {"euler": euler, "midpoint": midpoint, "heun": heun}
EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2}


def trajectory(velocity: Velocity, start: Tensor, steps: int, solver: Solver) -> list[Tensor]:
    """Integrate dx/dtau = v(x, tau) from 0 to 1 and return the `steps` + 1 points, (B, N, D) each."""
    points = [start]
    for step in range(steps):
        tau = torch.full((len(start),), step / steps, device=start.device)
        points.append(SOLVERS[solver](velocity, points[-1], tau, 1 / steps))
    return points


class FlowCorrector(LatentCorrector):
    """Velocity v(x, z_hat, tau) of x from noise (tau = 0) to the residual (tau = 1), both in units of `scale`.

    The correction is `scale` times the end of the path that starts at x = noise * eps, eps standard normal. The
    deterministic correction starts at the noise's mean, x = 0.

    Args:
        dim: latent width D.
        hidden, depth, zero_init, options: of the network, see `token_mlp`; with zero_init an untrained flow carries
            nothing: its deterministic correction is zero, its candidates are the noise.
        steps, solver: how the path is integrated.
        noise: deviation of the noise in units of `scale`.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        depth: int,
        zero_init: bool,
        steps: int,
        solver: Solver,
        noise: float,
        **options: Any,
    ) -> None:
        super().__init__(dim)
        if steps < 1 or solver not in SOLVERS:
            raise ValueError(
                f"steps = {steps}, solver = {solver!r}: at least 1 step of {', '.join(SOLVERS)} was expected"
            )
        self.steps, self.noise = steps, noise
        self.solver: Solver = solver
        self.mlp = token_mlp(2 * dim + 1, dim, hidden, depth, zero_init, **options)

    @property
    def evaluations(self) -> int:
        """Network evaluations of one correction."""
        return self.steps * EVALUATIONS[self.solver]

    def forward(self, x: Tensor, z_hat: Tensor, tau: Tensor) -> Tensor:
        """Return the velocity of `x`, (B, N, D), at times `tau`, (B,), given the prediction `z_hat`, (B, N, D)."""
        return self.mlp(torch.cat([x, self.standardize(z_hat), per_token(tau, x.shape[1])], dim=-1))

    def correct(self, z_hat: Tensor, eps: Tensor) -> Tensor:
        """Return the correction, (B, N, D), that starts from standard normal numbers `eps`, (B, N, D)."""
        start = self.noise * eps
        return self.scale * trajectory(lambda x, tau: self(x, z_hat, tau), start, self.steps, self.solver)[-1]

    def deterministic(self, z_hat: Tensor) -> Tensor:
        """Return the correction, (B, N, D), that starts from the mean of the noise."""
        return self.correct(z_hat, torch.zeros_like(z_hat))

    def draw(self, z_hat: Tensor, generator: torch.Generator) -> Tensor:
        """Return standard normal numbers to start from, (B, N, D)."""
        return torch.randn(z_hat.shape, generator=generator, device=z_hat.device)

    def sample(self, z_hat: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one correction for each prediction of the operator: (B, N, D) -> (B, N, D)."""
        return self.correct(z_hat, self.draw(z_hat, generator))
