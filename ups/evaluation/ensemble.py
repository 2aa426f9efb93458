"""Scores of ensemble forecasts: is the spread honest, and is the distribution close to the truth?

`ensemble` is (M, B, T, C, *space), `target` (B, T, C, *space), both in physical units; M members.
"""

from __future__ import annotations

import torch
from torch import Tensor


def spread(ensemble: Tensor) -> Tensor:
    """Ensemble spread, sqrt(<var_m>) with the unbiased variance over members (division by M - 1).

    Returns:
        (B, T), in the field's unit. Mean over space first, then root, then mean over channels.

    Raises:
        ValueError: with fewer than two members.
    """
    _check_members(ensemble)
    return ensemble.to(torch.float64).var(0, correction=1).flatten(3).mean(-1).sqrt().mean(-1)


def skill(ensemble: Tensor, target: Tensor) -> Tensor:
    """Root mean square error of the ensemble mean, sqrt(<(mean_m x_m - u)^2>).

    Returns:
        (B, T), in the field's unit. Mean over space first, then root, then mean over channels.
    """
    error = ensemble.to(torch.float64).mean(0) - target.to(torch.float64)
    return (error**2).flatten(3).mean(-1).sqrt().mean(-1)


def spread_skill_ratio(ensemble: Tensor, target: Tensor) -> Tensor:
    """Spread over skill of whole trajectories; 1 for a reliable ensemble, below 1 when over-confident.

    sqrt((M + 1) / M) * sqrt(mean of var_m) / sqrt(mean of squared error), where *the means over space, time and
    channels come first* and the ratio last (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1, eq. 15).

    Returns:
        (B,), dimensionless.

    Raises:
        ValueError: with fewer than two members.
    """
    members = _check_members(ensemble)
    ensemble = ensemble.to(torch.float64)
    variance = ensemble.var(0, correction=1).flatten(1).mean(1)
    squared = ((ensemble.mean(0) - target.to(torch.float64)) ** 2).flatten(1).mean(1)
    return ((members + 1) / members * variance / squared).sqrt()


def crps(ensemble: Tensor, target: Tensor) -> Tensor:
    """Continuous ranked probability score, the fair estimator for a finite ensemble.

    (1/M) sum_m |x_m - u| - 1 / (2 M (M - 1)) sum_{m,n} |x_m - x_n|, per grid point, then the mean over space and
    channels (Ferro 2014, doi:10.1002/qj.2270). For one member it is not defined; the mean absolute error is its limit
    for an ensemble without spread.

    Returns:
        (B, T), in the field's unit.

    Raises:
        ValueError: with fewer than two members.
    """
    members = _check_members(ensemble)
    ordered = ensemble.to(torch.float64).sort(0).values
    accuracy = (ordered - target.to(torch.float64)).abs().mean(0)
    # sum_{m<n} (x_(n) - x_(m)) over sorted members: member i is subtracted M-1-i times and added i times.
    rank = torch.arange(members, dtype=torch.float64, device=ordered.device) * 2 - (members - 1)
    pairs = torch.tensordot(rank, ordered, dims=1) / (members * (members - 1))
    return (accuracy - pairs).flatten(2).mean(-1)


def _check_members(ensemble: Tensor) -> int:
    members = ensemble.shape[0]
    if members < 2:
        raise ValueError(f"an ensemble score needs at least 2 members, not {members}")
    return members
