"""What a network of several regimes is told of the coefficients.

Shapes: B batch, P coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ups.data.fields import FieldMetadata
from ups.errors import ParameterError
from ups.parameters.equations import EQUATIONS

_FEATURES = 16


class CoefficientScale(nn.Module):
    """s = (log p - m) / d of positive coefficients p, (p - m) / d of others; m and d are of the training trajectories.

    A viscosity spans decades, and what it changes goes with its logarithm. A network that is not to see coefficients
    gets zeros: the same network with the same initial weights, so that what conditioning is worth can be measured.

    Args:
        logarithmic: whether each coefficient is taken as its logarithm.
        mean, std: m and d of each coefficient.
        visible: False gives zeros.
    """

    mean: Tensor
    std: Tensor
    logarithmic: Tensor

    def __init__(
        self, logarithmic: Sequence[bool], mean: Sequence[float], std: Sequence[float], visible: bool = True
    ) -> None:
        super().__init__()
        if not len(logarithmic) == len(mean) == len(std) or min(std, default=1.0) <= 0:
            raise ValueError("logarithmic, mean and std need one entry for each coefficient, and std above 0")
        self.visible = visible
        # They are arguments of the model, which its configuration keeps; weights hold what was trained.
        self.register_buffer("logarithmic", torch.tensor(logarithmic), persistent=False)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)

    def forward(self, coefficients: Tensor) -> Tensor:
        """Return what the network sees: (B, P) -> (B, P)."""
        if not self.visible:
            return torch.zeros_like(coefficients)
        safe = torch.where(self.logarithmic, coefficients, torch.ones_like(coefficients))
        return (torch.where(self.logarithmic, safe.log(), coefficients) - self.mean) / self.std


def embedding(num_conditions: int, width: int) -> nn.Sequential:
    """Return the network that makes features (B, width) of a condition (B, num_conditions) of several regimes.

    Two layers, because what is right between the regimes of a training lies on a curve through them, not on a line.
    """
    return nn.Sequential(nn.Linear(num_conditions, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())


def block_features(num_conditions: int, modulated: bool) -> tuple[nn.Sequential, int]:
    """Return the network whose features modulate every block of a transformer, and their number.

    For a single regime the condition is a constant, for which one layer will do.
    """
    if modulated:
        return embedding(num_conditions, 2 * _FEATURES), 2 * _FEATURES
    return nn.Sequential(nn.Linear(num_conditions, _FEATURES), nn.SiLU()), _FEATURES


def compressed(numbers: Tensor) -> Tensor:
    """Return scalars of order one from numbers that may span decades and signs: all that a single regime needs."""
    return numbers.sign() * torch.log1p(numbers.abs() / 1e-3) / 5


def conditioning_arguments(told: bool, coefficients: Tensor, metadata: FieldMetadata) -> dict[str, Any]:
    """Return the argument `conditioning` of a model, under its name; nothing for a single regime.

    Args:
        told: whether the network is told the coefficients.
        coefficients: of the training trajectories, (B, P).
        metadata: of the same.

    Raises:
        ParameterError: if a coefficient whose logarithm is taken is not positive.
    """
    if len(coefficients.unique(dim=0)) == 1:
        return {}
    equation = EQUATIONS[metadata.equation]
    logarithmic = [coefficient.positive for coefficient in equation.coefficients]
    values = coefficients.double().cpu()
    for name, column, log in zip(equation.coefficient_names, values.T, logarithmic, strict=True):
        if log and not bool((column > 0).all()):
            raise ParameterError(
                f"{name} = {float(column.min()):g} in the training split: '{metadata.equation}' needs it above 0, "
                "and a network of several regimes is told its logarithm. Leave that regime out with data.train_on."
            )
    scaled = torch.stack([v.log() if log else v for v, log in zip(values.T, logarithmic, strict=True)], dim=1)
    std = scaled.std(dim=0, correction=0)
    # A coefficient that does not vary is 0 in any unit.
    scale = {"mean": scaled.mean(dim=0).tolist(), "std": torch.where(std > 0, std, 1.0).tolist()}
    return {"conditioning": {"logarithmic": logarithmic, **scale, "visible": told}}
