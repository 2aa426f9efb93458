"""The exact solution of Burgers' equation u_t + (u^2/2)_x = D u_xx, D = nu/pi, by the Cole-Hopf transformation.

With the mean m taken out by a Galilean shift, v0 = u0 - m, and Psi its periodic antiderivative,

    u(x, t) = m + sum_j v0(y_j) w_j / sum_j w_j,    w_j = K(x - m t - y_j, t) exp(-Psi(y_j) / (2 D)),

where K is the periodic heat kernel (images of a Gaussian) and y_j are equidistant nodes over one period. This is the
quotient of -2 D phi_x and phi after one integration by parts: u is a weighted mean of v0 with positive weights, so
nothing cancels and the maximum principle holds to rounding. The trapezoidal rule converges faster than any power of the
node spacing where u0 is smooth, and as spacing^2 at a kink.

The exponents reach +-100 at nu = 0.01 and +-1000 at nu = 0.001, so sums are formed in one of two ways: as a product
of matrices, whose relative precision is that of float64 as long as no sum comes near the smallest float64, and in log
space where one does. Which of the two is needed is decided from the computed sums themselves.

Source: Hopf, Comm. Pure Appl. Math. 3 (1950) 201, eq. 7; Cole, Quart. Appl. Math. 9 (1951) 225.
Shapes: B samples, T frames, X points, M nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# A product lost to underflow is below 1e-307; beside a sum above 1e-285 even 4096 of them are below rounding.
_SMALLEST_SAFE_SUM = 1e-285
_LOG_SPACE_BYTES = 64 * 2**20  # memory of one block of exponents
_TABLE_PER_NODE = 8  # points of the antiderivative's table per node


def cole_hopf(
    initial: Callable[[Tensor], Tensor],
    position: Tensor,
    times: Tensor,
    viscosity: float,
    extent: float = 1.0,
    nodes: int = 2048,
    log_space: bool = False,
) -> Tensor:
    """Evaluate the exact solution at given points and times.

    Args:
        initial: u0 with period `extent`; takes positions (M,) or (B, M), float64, and returns (B, M), float64.
        position: (X,), float64.
        times: (T,), float64, each >= 0; at 0 the initial condition itself is returned.
        viscosity: nu; the diffusivity is nu/pi.
        extent: length of the periodic domain.
        nodes: quadrature nodes M per period.
        log_space: form every sum in log space, not only those that float64 cannot hold (about 10 times slower).

    Returns:
        (B, T, X), float64, point values.

    Raises:
        ValueError: if the nodes are too far apart for the narrowest weight, of width sqrt(2 D / (max |u0'| + 1/t)).
    """
    diffusivity = viscosity / math.pi
    potential = _Potential(initial, extent, nodes, position)
    frames = []
    for time in times.tolist():
        if time == 0:
            frames.append(initial(position))
            continue
        potential.check_resolution(diffusivity, time)
        frames.append(_at_time(initial, potential, position, time, diffusivity, extent, log_space))
    return torch.stack(frames, dim=1)


class _Potential:
    """The mean m of u0 and the antiderivative Psi of u0 - m, from a fine table with cubic Hermite interpolation."""

    def __init__(self, initial: Callable[[Tensor], Tensor], extent: float, nodes: int, like: Tensor) -> None:
        self.extent, self.nodes, self.size = extent, nodes, nodes * _TABLE_PER_NODE
        self.step = extent / self.size
        table = torch.arange(self.size + 1, dtype=torch.float64, device=like.device) * self.step
        # Simpson's rule per table cell: error step^4 u0''''/2880 per length where u0 is smooth, step^2 at a kink.
        ends = initial(table)
        middle = initial(table[:-1] + self.step / 2)
        areas = (ends[:, :-1] + 4 * middle + ends[:, 1:]) * (self.step / 6)
        self.mean = areas.sum(dim=1, keepdim=True) / extent
        self.slope = ends - self.mean
        self.value = torch.zeros_like(ends)
        self.value[:, 1:] = (areas - self.mean * self.step).cumsum(dim=1)
        self.steepest = float(((ends[:, 1:] - ends[:, :-1]) / self.step).abs().max())

    def __call__(self, position: Tensor) -> Tensor:
        """Return Psi at positions (B, M)."""
        place = torch.remainder(position / self.extent, 1.0) * self.size
        cell = place.long().clamp_(max=self.size - 1)
        s = place - cell
        left, right = self.value.gather(1, cell), self.value.gather(1, cell + 1)
        left_slope, right_slope = self.slope.gather(1, cell), self.slope.gather(1, cell + 1)
        rise = right - left
        return left + s * (s * (3 - 2 * s) * rise + self.step * (1 - s) * ((1 - s) * left_slope - s * right_slope))

    def check_resolution(self, diffusivity: float, time: float) -> None:
        width = math.sqrt(2 * diffusivity / (self.steepest + 1 / time))
        # At one node per standard deviation of a Gaussian the trapezoidal rule errs by 2 exp(-2 pi^2) = 5e-9.
        if self.extent / self.nodes > width:
            raise ValueError(
                f"{self.nodes} nodes are {self.extent / self.nodes:.2e} apart, but at t = {time:g} the weights of the "
                f"Cole-Hopf integral are only {width:.2e} wide: use nodes >= {math.ceil(self.extent / width)}."
            )


def _at_time(
    initial: Callable[[Tensor], Tensor],
    potential: _Potential,
    position: Tensor,
    time: float,
    diffusivity: float,
    extent: float,
    log_space: bool,
) -> Tensor:
    """Return u at one time > 0, (B, X)."""
    nodes = torch.arange(potential.nodes, dtype=torch.float64, device=position.device) * (extent / potential.nodes)
    # Moving each sample's nodes instead of the points keeps the kernel the same for all samples.
    moved = nodes - potential.mean * time
    velocity = initial(moved) - potential.mean
    exponent = potential(moved) / (-2 * diffusivity)
    exponent = exponent - exponent.amax(dim=1, keepdim=True)
    log_kernel = _log_heat_kernel(position[:, None] - nodes, diffusivity * time, extent)
    if log_space:
        return potential.mean + _mean_in_log_space(velocity, exponent, log_kernel)
    weights, kernel = exponent.exp(), log_kernel.exp().T
    total = weights @ kernel
    result = (weights * velocity) @ kernel / total
    unsafe = (total < _SMALLEST_SAFE_SUM).any(dim=1).nonzero().squeeze(1)
    if len(unsafe):
        result[unsafe] = _mean_in_log_space(velocity[unsafe], exponent[unsafe], log_kernel)
    return potential.mean + result


def _log_heat_kernel(distance: Tensor, variance: float, extent: float) -> Tensor:
    """Return log sum_n exp(-(distance + n L)^2 / (4 D t)), up to a constant, for variance = D t."""
    nearest = distance - extent * torch.round(distance / extent)
    smallest = -nearest.square() / (4 * variance)
    total = torch.ones_like(nearest)
    # An image n more than the nearest one matters while ((n - 1/2) L)^2 - (L/2)^2 < 40 * 4 D t (40: below 4e-18).
    reach = math.ceil(0.5 + math.sqrt(0.25 + 160 * variance / extent**2))
    for image in range(1, reach + 1):
        for shift in (-image * extent, image * extent):
            total += torch.exp(-(2 * nearest * shift + shift**2) / (4 * variance))
    return smallest + total.log()


def _mean_in_log_space(velocity: Tensor, exponent: Tensor, log_kernel: Tensor) -> Tensor:
    """Return the weighted mean of `velocity` (B, M) with log weights exponent (B, M) + log_kernel (X, M)."""
    points, nodes = log_kernel.shape
    rows = max(1, _LOG_SPACE_BYTES // (8 * nodes))
    parts = []
    for sample in range(velocity.shape[0]):
        blocks = []
        for start in range(0, points, rows):
            weights = torch.softmax(exponent[sample] + log_kernel[start : start + rows], dim=1)
            blocks.append(weights @ velocity[sample])
        parts.append(torch.cat(blocks))
    return torch.stack(parts)
