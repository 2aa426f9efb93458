"""Fourier spectra of fields and of their errors, in bands of the integer wavenumber.

Fields are (B, T, C, *space) on a regular grid; the wavenumber k counts periods per domain. In more than one dimension
k is the integer part of |k| over the non-negative and negative wavenumbers of every axis.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

# Half-open bands [first, end) of the wavenumber; PDEBench's boundaries (iLow = 4, iHigh = 12).
BANDS: dict[str, tuple[int, int | None]] = {"low": (0, 4), "mid": (4, 12), "high": (12, None)}


def power_spectrum(field: Tensor) -> Tensor:
    """Mean square of a field by wavenumber, E_k = sum over |k'| in [k, k+1) of |F[u]_k'|^2 / N^2.

    The sum over all k is <u^2> (Parseval), so a spectrum and a squared rmse have the same unit.

    Args:
        field: (B, T, C, *space), real.

    Returns:
        (B, T, C, K), K = the largest integer wavenumber on the grid plus 1.
    """
    space = tuple(field.shape[3:])
    axes = tuple(range(3, field.dim()))
    transformed = torch.fft.rfftn(field, dim=axes)
    weight, shell, count = _modes(space)
    power = (transformed.abs() ** 2).flatten(3) * weight.to(field)
    result = power.new_zeros(*field.shape[:3], count)
    return result.index_add_(3, shell.to(field.device), power)


def band_errors(prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Root mean square error carried by each band of wavenumbers, sqrt(sum over k in band of E_k[p - u]).

    The sum comes before the root, so low^2 + mid^2 + high^2 = rmse^2 per channel; then the mean over channels.
    PDEBench's fRMSE takes the same bands but averages the amplitudes over the modes of a band, and only over
    non-negative wavenumbers; its numbers are therefore smaller and do not add up.

    Returns:
        "low" (k < 4), "mid" (4 <= k < 12), "high" (k >= 12): each (B, T), in the field's unit.
    """
    power = power_spectrum(prediction - target)
    return {name: power[..., first:end].sum(-1).sqrt().mean(-1) for name, (first, end) in BANDS.items()}


@functools.lru_cache(maxsize=8)
def _modes(space: tuple[int, ...]) -> tuple[Tensor, Tensor, int]:
    """Return weight / N^2 and shell of every mode of `rfftn`, flattened, and the number of shells.

    `rfftn` drops the conjugate half along the last axis; a dropped mode is counted through weight 2.
    """
    last = space[-1]
    half = torch.arange(last // 2 + 1, dtype=torch.float64)
    doubled = 2 - ((half == 0) | (2 * half == last)).to(half)
    squared = half**2
    for size in reversed(space[:-1]):
        wave = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
        squared = wave.reshape(-1, *([1] * squared.dim())) ** 2 + squared
    # 1e-9 keeps exact integers such as sqrt(25) from falling into the shell below.
    shell = (squared.sqrt() + 1e-9).long().flatten()
    points = 1
    for size in space:
        points *= size
    weight = doubled.expand(squared.shape).flatten() / points**2
    return weight, shell, int(shell.max()) + 1
