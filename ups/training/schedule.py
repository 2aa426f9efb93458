"""The learning rate as a function of the update."""

import math

from ups.parameters.section import Optimization


def learning_rate(update: int, total: int, optimization: Optimization) -> float:
    """Return the learning rate of update 0 <= update < total.

    Linear warm-up over `warmup_updates`, then constant, or half a cosine down to `min_learning_rate`, which the last
    update reaches exactly.
    """
    peak, warmup = optimization.learning_rate, optimization.warmup_updates
    if update < warmup:
        return peak * (update + 1) / warmup
    if optimization.schedule == "none":
        return peak
    progress = (update - warmup) / max(1, total - 1 - warmup)
    low = optimization.min_learning_rate
    return low + 0.5 * (peak - low) * (1 + math.cos(math.pi * progress))
