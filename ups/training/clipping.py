"""Bounds on the gradient of an update."""

import math

from torch import nn

from ups.parameters.section import Optimization


def clip_gradients(model: nn.Module, optimization: Optimization) -> float:
    """Clip the gradients of `model` in place and return their norm before that.

    First, with `clip_per_parameter`, each weight's gradient on its own: g <- g min(1, c / |g|). A weight whose gradient
    explodes then no longer takes the step of all others away, as it does where only the norm of the whole is bounded.
    Then, with `gradient_clip`, all of them by one factor.
    """
    weights = list(model.parameters())
    if optimization.clip_per_parameter is None:
        return float(nn.utils.clip_grad_norm_(weights, optimization.gradient_clip or math.inf))
    norm = float(nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None]))
    for weight in weights:
        nn.utils.clip_grad_norm_([weight], optimization.clip_per_parameter)
    if optimization.gradient_clip is not None:
        nn.utils.clip_grad_norm_(weights, optimization.gradient_clip)
    return norm
