"""The steady prior: from a problem to its solution by refining latents, again and again with the same weights.

Shapes: B batch, N tokens, D latent width, P equation coefficients, K iterations, d open axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ups.models.conditioning import compressed
from ups.models.operator import BACKBONES
from ups.models.token_grid import Size, axes


class SteadyPrior(nn.Module):
    """z_{k+1} = z_k + s f([(z_k - m) / s, (z_0 - m) / s, x], coefficients), from z_0, the encoded problem.

    f sees the problem z_0 in every iteration, so what a refinement lost of it does not matter. It is zero at
    initialisation. m and s are mean and deviation of the training latents. x is where a token lies between the ends of
    each open axis, in [-1, 1]: tokens are neighbours across the boundary as if the domain were periodic, and only x
    tells that they are not.

    Args:
        tokens: tokens along each axis of the domain.
        dim: latent width.
        num_coefficients: number P of PDE coefficients.
        backbone: name and arguments of the network f, see `ups.models.operator.BACKBONES`.
        iterations: number K of refinements it is trained for.
        periodic: whether each axis is periodic.
    """

    COMPILED = ("refine",)

    mean: Tensor
    std: Tensor
    position: Tensor

    def __init__(
        self,
        tokens: Size,
        dim: int,
        num_coefficients: int,
        backbone: dict[str, Any],
        iterations: int,
        periodic: Sequence[bool],
    ) -> None:
        super().__init__()
        self.shape, self.iterations = axes(tokens), iterations
        position = _positions(self.shape, periodic)  # (N, d)
        arguments = dict(backbone)
        network = BACKBONES[arguments.pop("name")]
        self.network = network(
            tokens=self.shape,
            dim=2 * dim + position.shape[1],
            num_conditions=num_coefficients,
            out_dim=dim,
            **arguments,
        )
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.register_buffer("position", position, persistent=False)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take the latent mean and standard deviation per channel, each (D,), of the training split."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def standardize(self, z: Tensor) -> Tensor:
        return (z - self.mean) / self.std

    def refine(self, problem: Tensor, coefficients: Tensor, iterations: int | None = None) -> Tensor:
        """Return every iterate: (B, N, D), (B, P) -> (B, K, N, D).

        Args:
            problem: encoded problems z_0.
            coefficients: of the equation.
            iterations: another number of refinements than it was trained for.
        """
        given, condition = self.standardize(problem), compressed(coefficients)
        position = self.position.expand(len(problem), -1, -1)
        z, iterates = given, []
        for _ in range(self.iterations if iterations is None else iterations):
            z = z + self.network(torch.cat([z, given, position], dim=-1), condition)
            iterates.append(z)
        return torch.stack(iterates, dim=1) * self.std + self.mean

    def forward(self, problem: Tensor, coefficients: Tensor) -> Tensor:
        """Return the last iterate: (B, N, D), (B, P) -> (B, N, D)."""
        return self.refine(problem, coefficients)[:, -1]


def _positions(shape: Sequence[int], periodic: Sequence[bool]) -> Tensor:
    """Return the centres of tokens between -1 and 1 along each axis that is not periodic, (N, d)."""
    lines = [(torch.arange(count) + 0.5) / count * 2 - 1 for count in shape]
    grid = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).flatten(0, -2)
    return grid[:, [axis for axis, wraps in enumerate(periodic) if not wraps]]
