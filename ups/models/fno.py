"""The learned baseline: neuraloperator's Fourier neural operator, stepping the fields themselves.

Shapes: B batch, C field channels, P equation coefficients, d rank of the grid.
Source: Li et al. 2021, arXiv:2010.08895; the layers are those of the package `neuraloperator`, imported when a model is
built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ups.data.fields import FieldMetadata
from ups.data.reference_frame import ReferenceFrame
from ups.errors import ParameterError
from ups.models.conditioning import CoefficientScale, compressed
from ups.models.weights import count_parameters
from ups.parameters.shared import Frame

_NARROWEST, _WIDEST = 2, 1024


class FourierOperator(nn.Module):
    """u' = u + f(u, coefficients, x) on fields as `ReferenceFrame` shows them, one call per stored time step.

    Along periodic axes x is left out: no equation here depends on the position, and a network that cannot see it
    commutes with translations exactly. Along other axes the cell centre, scaled to [-1, 1], is one more input channel.

    Args:
        channels: number of fields C.
        num_coefficients: number P of PDE coefficients; each is one constant input channel.
        periodic: whether each axis is periodic; its length is d.
        modes: Fourier frequencies kept along each axis, 0..modes-1 (PDEBench's count, not neuraloperator's `n_modes`).
        width: hidden channels.
        layers: Fourier layers.
        frame: frame of reference of the fields; in the comoving one their mean is kept.
        conditioning: how coefficients are shown to the network, arguments of `CoefficientScale`; None for a single
            regime.
    """

    def __init__(
        self,
        channels: int,
        num_coefficients: int,
        periodic: Sequence[bool],
        modes: int,
        width: int,
        layers: int,
        frame: Frame = "laboratory",
        conditioning: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        from neuralop.models import FNO

        self.arguments: dict[str, Any] = {
            "channels": channels,
            "num_coefficients": num_coefficients,
            "periodic": list(periodic),
            "modes": modes,
            "width": width,
            "layers": layers,
            "frame": frame,
        }
        if conditioning is not None:
            self.arguments["conditioning"] = conditioning
        self.scale = None if conditioning is None else CoefficientScale(**conditioning)
        self.frame: Frame = frame
        self.open_axes = [axis for axis, wraps in enumerate(periodic) if not wraps]
        rank = len(periodic)
        # neuraloperator counts positive and negative frequencies, and keeps n // 2 + 1 of them along the last axis.
        kept = (*[2 * modes] * (rank - 1), 2 * (modes - 1))
        self.network = FNO(
            n_modes=kept,
            in_channels=channels + num_coefficients + len(self.open_axes),
            out_channels=channels,
            hidden_channels=width,
            n_layers=layers,
            positional_embedding=None,
        )

    def forward(self, u: Tensor, coefficients: Tensor) -> Tensor:
        """Advance fields by one time step: (B, C, *space), (B, P) -> (B, C, *space)."""
        advanced = u + self.network(torch.cat([u, *self._context(u, coefficients)], dim=1))
        if self.frame == "laboratory":
            return advanced
        return advanced + (u.mean(dim=-1, keepdim=True) - advanced.mean(dim=-1, keepdim=True))

    def _context(self, u: Tensor, coefficients: Tensor) -> list[Tensor]:
        space = u.shape[2:]
        scalars = compressed(coefficients) if self.scale is None else self.scale(coefficients)
        context = [scalars.reshape(*scalars.shape, *[1] * len(space)).expand(-1, -1, *space)]
        for axis in self.open_axes:
            points = space[axis]
            centre = (torch.arange(points, device=u.device, dtype=u.dtype) + 0.5) / points * 2 - 1
            centre = centre.reshape([-1 if other == axis else 1 for other in range(len(space))])
            context.append(centre.expand(u.shape[0], 1, *space))
        return context

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return weights and buffers only: neuraloperator adds its version under "_metadata", which is no tensor."""
        state = super().state_dict(*args, **kwargs)
        state.pop("_metadata", None)
        return state

    def forecaster(self, metadata: FieldMetadata) -> FnoForecaster:
        """Return the free-running forecaster in physical units; it starts from the last given frame."""
        return FnoForecaster(self, ReferenceFrame(self.frame, metadata))


class FnoForecaster:
    """(given (B, G, C, *space), steps, coefficients (B, P)) -> (B, steps, C, *space), physical units."""

    evaluations_per_step = 1

    def __init__(self, model: FourierOperator, frame: ReferenceFrame) -> None:
        self.model, self.frame = model, frame

    @torch.no_grad()
    def __call__(self, given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
        observer = self.frame.observer(given[:, -1])
        u = observer.see(given[:, -1:])[:, 0]
        frames = []
        for _ in range(num_steps):
            u = self.model(u, coefficients)
            frames.append(u)
        return observer.restore(torch.stack(frames, dim=1), first=1)


def fno_of_size(
    num_parameters: int,
    modes: int,
    layers: int,
    metadata: FieldMetadata,
    frame: Frame = "laboratory",
    conditioning: dict[str, Any] | None = None,
) -> FourierOperator:
    """Build the `FourierOperator` whose number of real parameters comes nearest to `num_parameters`.

    Modes and layers are given; the width is chosen. The size grows with the width, so bisection finds it.

    Raises:
        ParameterError: if the grid has fewer frequencies than `modes`.
    """
    grid = metadata.grid
    if modes < 2 or any(2 * (modes - 1) > points for points in grid.points):
        raise ParameterError(
            f"train_baseline.modes = {modes} does not suit a grid of {list(grid.points)} points: 2 to "
            f"{min(grid.points) // 2 + 1} frequencies are possible"
        )
    arguments: dict[str, Any] = {
        "channels": len(metadata.channels),
        "num_coefficients": len(metadata.coefficients),
        "periodic": grid.periodic,
        "modes": modes,
        "layers": layers,
        "frame": frame,
        "conditioning": conditioning,
    }

    def size(width: int) -> int:
        with torch.device("meta"):
            return count_parameters(FourierOperator(width=width, **arguments))

    low, high = _NARROWEST, _WIDEST
    while high - low > 1:
        middle = (low + high) // 2
        if size(middle) <= num_parameters:
            low = middle
        else:
            high = middle
    width = min((low, high), key=lambda candidate: abs(size(candidate) - num_parameters))
    return FourierOperator(width=width, **arguments)
