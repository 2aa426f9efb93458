"""A solution of Burgers' equation in closed form."""

import math

import torch
from torch import Tensor


def closed_form(x: Tensor, t: float, viscosity: float, mean: float, extent: float = 1.0) -> Tensor:
    """phi = 1 + a exp(-D k^2 t) cos k(x - m t) solves the heat equation; u = m - 2 D phi_x / phi."""
    diffusivity, k, a = viscosity / math.pi, 2 * math.pi * 2 / extent, 0.9
    decay = a * math.exp(-diffusivity * k * k * t)
    angle = k * (x - mean * t)
    return mean + 2 * diffusivity * k * decay * torch.sin(angle) / (1 + decay * torch.cos(angle))
