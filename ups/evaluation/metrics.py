"""Error metrics of deterministic forecasts, each defined once.

All take `prediction` and `target` of shape (B, T, C, *space) in physical units and compute in float64. Frame metrics
return (B, T), trajectory metrics (B,): nothing is averaged over trajectories here, so every comparison can be paired
(`ups.evaluation.reductions` does the averaging, in one place). With several channels a metric is computed per channel,
then averaged over channels, unless it says otherwise.

Non-finite predictions give non-finite values; nothing is clipped or filled in.

Shapes: B trajectories, T frames, C channels, <.> mean over the grid points of one frame, N number of grid points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.data.quantities import Quantity, change, conserved
from ups.evaluation.spectra import band_errors

# The Well's regularisation of the variance (the_well/benchmark/metrics/spatial.py), in squared physical units.
VARIANCE_EPSILON = 1e-7


def rmse(prediction: Tensor, target: Tensor) -> Tensor:
    """Root mean square error of a frame, sqrt(<(p - u)^2>).

    Returns:
        (B, T), in the field's unit. Mean over space first, then root, then mean over channels.
    """
    error, _ = _pair(prediction, target)
    return _rms(error).mean(-1)


def nrmse(prediction: Tensor, target: Tensor) -> Tensor:
    """Normalised root mean square error, rms(p - u) / rms(u), where rms(v) = sqrt(<v^2>).

    The *ratio comes first*: per trajectory, frame and channel; the means over channels, frames and trajectories follow,
    as in PDEBench (Takamoto et al. 2022, arXiv:2210.07182, appendix B). A frame that is zero everywhere has no nRMSE
    (the value is inf or NaN).

    Returns:
        (B, T), dimensionless.
    """
    error, target = _pair(prediction, target)
    return (_rms(error) / _rms(target)).mean(-1)


def vrmse(prediction: Tensor, target: Tensor) -> Tensor:
    """Variance-scaled root mean square error, sqrt(<(p - u)^2> / (var(u) + 1e-7)).

    var(u) is the unbiased variance (division by N - 1) over the frame, as in The Well's code (Ohana et al. 2024,
    arXiv:2412.00568, section 4.2); predicting the frame's mean scores about 1. The ratio comes first.

    Returns:
        (B, T), dimensionless.
    """
    error, target = _pair(prediction, target)
    variance = target.flatten(3).var(-1, correction=1)
    return ((error**2).flatten(3).mean(-1) / (variance + VARIANCE_EPSILON)).sqrt().mean(-1)


def max_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Largest absolute error of a frame, max |p - u| over space *and channels*.

    Its value over several frames is the largest of them, not their mean (PDEBench takes the largest over trajectories
    as well, then the mean over frames).

    Returns:
        (B, T), in the field's unit.
    """
    error, _ = _pair(prediction, target)
    return error.abs().flatten(2).amax(-1)


def boundary_rmse(prediction: Tensor, target: Tensor) -> Tensor:
    """Root mean square error over the outermost grid points, sqrt(mean over the 2 d faces of (p - u)^2).

    In 1-D the two end points; in 2-D the four edges, where corners count twice (PDEBench's definition).

    Returns:
        (B, T), in the field's unit. Mean over faces first, then root, then mean over channels.
    """
    error, _ = _pair(prediction, target)
    squared = error**2
    faces = [squared.movedim(axis, 3)[:, :, :, [0, -1]].flatten(3) for axis in range(3, squared.dim())]
    return torch.cat(faces, -1).mean(-1).sqrt().mean(-1)


def conserved_error(
    prediction: Tensor, target: Tensor, quantity: Quantity, coefficients: Tensor, metadata: FieldMetadata
) -> Tensor:
    """Error of a quantity that the equation conserves, |Q(p) - Q(u)|, a density (per unit volume).

    Q is the mean of the field for Burgers, and whatever `ups.parameters.equations` declares for others: the metric
    `conserved_error` is that of the first declared quantity, `conserved_error_<name>` that of a further one. An
    equation that conserves nothing has no such metric. PDEBench's cRMSE is the root mean square of the mean's error
    over the trajectories; here it stays per trajectory.

    Args:
        prediction, target: as everywhere here.
        quantity: what is conserved.
        coefficients: (B, P), of the equation.
        metadata: of the fields.

    Returns:
        (B, T), in the quantity's unit; the mean over its components where it has several (one for each channel).
    """
    prediction, target = _promote(prediction, target)
    return change(quantity, prediction, target, coefficients, metadata).abs().mean(-1)


def spectral_error_low(prediction: Tensor, target: Tensor) -> Tensor:
    """Root mean square error carried by wavenumbers 0..3; see `ups.evaluation.spectra.band_errors`. Returns (B, T)."""
    return band_errors(*_promote(prediction, target))["low"]


def spectral_error_mid(prediction: Tensor, target: Tensor) -> Tensor:
    """Root mean square error carried by wavenumbers 4..11; see `ups.evaluation.spectra.band_errors`. Returns (B, T)."""
    return band_errors(*_promote(prediction, target))["mid"]


def spectral_error_high(prediction: Tensor, target: Tensor) -> Tensor:
    """Root mean square error carried by wavenumbers >= 12; see `ups.evaluation.spectra.band_errors`. Returns (B, T)."""
    return band_errors(*_promote(prediction, target))["high"]


def correlation(prediction: Tensor, target: Tensor) -> Tensor:
    """Pearson correlation over the grid points of a frame, <p' u'> / sqrt(<p'^2> <u'^2>) with p' = p - <p>.

    A constant prediction or target has no direction to agree in: its correlation is 0.

    Returns:
        (B, T), in [-1, 1]; per channel first, then the mean over channels.
    """
    prediction, target = (field.flatten(3) for field in _promote(prediction, target))
    prediction = prediction - prediction.mean(-1, keepdim=True)
    target = target - target.mean(-1, keepdim=True)
    norm = prediction.norm(dim=-1) * target.norm(dim=-1)
    value = (prediction * target).sum(-1) / norm
    return torch.where(norm == 0, torch.zeros_like(value), value).mean(-1)


def correlation_time(prediction: Tensor, target: Tensor, dt: float, threshold: float) -> Tensor:
    """Physical time for which the forecast stays correlated with the truth.

    dt times the number of leading frames with correlation >= threshold. A forecast that never drops below has the whole
    forecast time, which is then a lower bound. A diverged (NaN) frame counts as uncorrelated, so this metric exists for
    diverged forecasts too.

    Args:
        prediction, target: (B, T, C, *space); frame 0 is the first *predicted* one.
        dt: physical time between two frames.
        threshold: smallest correlation that counts as correlated (0.8 is customary).

    Returns:
        (B,), in units of time.
    """
    correlated = correlation(prediction, target) >= threshold
    return dt * correlated.to(torch.float64).cumprod(1).sum(1)


def relative_l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Relative L2 error over space, time and channels: ||p - u|| / ||u|| of whole trajectories.

    The sums over space and time come first, then *one ratio per trajectory*; quiet late frames weigh less than in
    `nrmse`.

    Returns:
        (B,), dimensionless.
    """
    error, target = _pair(prediction, target)
    return error.flatten(1).norm(dim=1) / target.flatten(1).norm(dim=1)


def _pair(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return (prediction - target, target) in float64."""
    prediction, target = _promote(prediction, target)
    return prediction - target, target


def _promote(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if prediction.shape != target.shape or prediction.dim() < 4:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must both be (B, T, C, *space)"
        )
    return prediction.to(torch.float64), target.to(torch.float64)


def _rms(field: Tensor) -> Tensor:
    """Root mean square over space: (B, T, C, *space) -> (B, T, C)."""
    return (field**2).flatten(3).mean(-1).sqrt()


@dataclass(frozen=True)
class FrameMetric:
    """A metric per frame and how the frames of a horizon become one number."""

    compute: Callable[[Tensor, Tensor], Tensor]
    over_time: Literal["mean", "max"] = "mean"


_FRAME_METRICS: dict[str, FrameMetric] = {
    "rmse": FrameMetric(rmse),
    "nrmse": FrameMetric(nrmse),
    "vrmse": FrameMetric(vrmse),
    "max_error": FrameMetric(max_error, over_time="max"),
    "boundary_rmse": FrameMetric(boundary_rmse),
}
_SPECTRAL_METRICS: dict[str, FrameMetric] = {
    "spectral_error_low": FrameMetric(spectral_error_low),
    "spectral_error_mid": FrameMetric(spectral_error_mid),
    "spectral_error_high": FrameMetric(spectral_error_high),
}


def frame_metrics(metadata: FieldMetadata, coefficients: Tensor) -> dict[str, FrameMetric]:
    """Return the metrics per frame that exist for an equation, by name.

    Args:
        metadata: of the fields.
        coefficients: (B, P), of the trajectories that the metrics will be computed for.
    """

    def error_of(quantity: Quantity) -> FrameMetric:
        return FrameMetric(lambda p, u: conserved_error(p, u, quantity, coefficients, metadata))

    quantities = conserved(metadata)
    names = ["conserved_error", *(f"conserved_error_{name}" for name in list(quantities)[1:])]
    errors = {name: error_of(quantity) for name, quantity in zip(names, quantities.values(), strict=False)}
    return {**_FRAME_METRICS, **errors, **_SPECTRAL_METRICS}
