"""The latent operator: the next frames from the present tokens.

Shapes: B batch, F frames per call, N tokens, D latent width, P equation coefficients.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ups.data.fields import FieldMetadata
from ups.models.conditioning import CoefficientScale, compressed, conditioning_arguments
from ups.models.pde_transformer import PdeTransformer
from ups.models.stacked_transformer import StackedTransformer
from ups.models.token_grid import Size, axes, token_grid
from ups.models.token_network import TokenNetwork

BACKBONES: dict[str, type[nn.Module]] = {
    "pde_transformer": PdeTransformer,
    "stacked_transformer": StackedTransformer,
    "token_convolution": TokenNetwork,
}


def operator_arguments(
    backbone: dict[str, Any], tokens: int, dim: int, coefficients: Tensor, metadata: FieldMetadata, told: bool = True
) -> dict[str, Any]:
    """Return what builds an operator for some data.

    Args:
        backbone: name and arguments of its network.
        tokens, dim: of the latent space.
        coefficients: of the training trajectories, (B, P).
        metadata: of the same.
        told: see `conditioning_arguments`.
    """
    shape = token_grid(metadata.grid.points, tokens)
    return {
        "tokens": shape[0] if len(shape) == 1 else list(shape),
        "dim": dim,
        "num_coefficients": coefficients.shape[1],
        "dt": metadata.dt,
        "backbone": backbone,
        **conditioning_arguments(told, coefficients, metadata),
    }


class LatentOperator(nn.Module):
    """z(t + k dt) = z + s f_k((z - m) / s, dt, coefficients), k = 1..F.

    m and s are the training latents' mean and deviation.

    Args:
        tokens: tokens along each axis of the domain, or their number on a line.
        dim: latent width.
        num_coefficients: number P of PDE coefficients.
        dt: time between two frames, in the data's time unit; the operator was trained for this step.
        backbone: name and arguments of the network f.
        reencode: whether, in a rollout, every step but the first starts from the encoding of the decoded field. The
            operator does not do that itself: it knows no codec.
        frames_per_call: number F of frames that one evaluation of the network predicts.
        conditioning: how coefficients are shown to the network, arguments of `CoefficientScale`; the network then
            modulates every block. None: for a single regime, whose coefficients cannot tell the network anything.
    """

    COMPILED = ("advance",)

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        tokens: Size,
        dim: int,
        num_coefficients: int,
        dt: float,
        backbone: dict[str, Any],
        reencode: bool = False,
        frames_per_call: int = 1,
        conditioning: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.dt, self.reencode, self.shape = dt, reencode, axes(tokens)
        self.frames_per_call = frames_per_call
        arguments = dict(backbone)
        network = BACKBONES[arguments.pop("name")]
        self.scale = None if conditioning is None else CoefficientScale(**conditioning)
        self.network = network(
            tokens=self.shape,
            dim=dim,
            num_conditions=1 + num_coefficients,
            frames=frames_per_call,
            **({} if conditioning is None else {"modulated": True}),
            **arguments,
        )
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take the latent mean and standard deviation per channel, each (D,), of the training split."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def standardize(self, z: Tensor) -> Tensor:
        return (z - self.mean) / self.std

    def forward(self, z: Tensor, coefficients: Tensor) -> Tensor:
        """Advance tokens by one time step: (B, N, D), (B, P) -> (B, N, D). For operators of one frame per call."""
        frames = self.advance(z, coefficients)
        if frames.shape[1] != 1:
            raise ValueError(f"this operator predicts {frames.shape[1]} frames per call: use `advance`")
        return frames[:, 0]

    def advance(self, z: Tensor, coefficients: Tensor) -> Tensor:
        """Predict the next frames: (B, N, D), (B, P) -> (B, F, N, D)."""
        increments = self.network(self.standardize(z), self._condition(coefficients))  # (B, N, F D)
        increments = increments.unflatten(-1, (self.frames_per_call, -1)).transpose(1, 2)
        return z[:, None] + self.std * increments

    def _condition(self, coefficients: Tensor) -> Tensor:
        """Return scalars of order one from dt and coefficients: (B, P) -> (B, 1 + P)."""
        dt = torch.full_like(coefficients[:, :1], self.dt)
        if self.scale is None:
            return compressed(torch.cat([dt, coefficients], dim=1))
        return torch.cat([compressed(dt), self.scale(coefficients)], dim=1)
