"""Linear advection u_t + beta u_x = 0 on a periodic interval, solved exactly: the initial condition moves.

u(x, t) = u0(x - beta t).
"""

from collections.abc import Callable

import torch
from torch import Tensor


def advect(initial: Callable[[Tensor], Tensor], position: Tensor, times: Tensor, velocity: float) -> Tensor:
    """Evaluate the exact solution.

    Args:
        initial: periodic function of positions (X,) returning (B, X), e.g. `InitialConditions`.
        position: (X,), float64.
        times: (T,), float64.
        velocity: wave speed beta, in lengths per time.

    Returns:
        (B, T, X), float64, point values. The error is rounding alone: about 2 pi k beta t * 1e-16 for wavenumber k.
    """
    return torch.stack([initial(position - velocity * float(time)) for time in times], dim=1)
