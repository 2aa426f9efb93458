"""Metrics against numbers computed by hand and PDEBench's formulas written out independently in numpy."""

import math

import numpy as np
import pytest
import torch
from example_fields import metadata

from ups.evaluation import metrics


def _field(*frames):
    """(1, T, 1, X) from lists of numbers."""
    return torch.tensor(frames, dtype=torch.float64)[None, :, None]


def _random(seed: int, shape: tuple[int, ...]):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(shape, generator=generator, dtype=torch.float64)
    return target + 0.1 * torch.randn(shape, generator=generator, dtype=torch.float64), target


def _mean_error(prediction, target):
    """The conserved error of Burgers' equation, whose mean is conserved."""
    table = torch.full((len(prediction), 1), 0.01)
    return metrics.frame_metrics(metadata(), table)["conserved_error"].compute(prediction, target)


def _pdebench(prediction, target):
    """RMSE, nRMSE, cRMSE, max and boundary RMSE of Takamoto et al. 2022 for one batch of (B, T, C, X)."""
    p, u = (field.numpy().transpose(0, 2, 3, 1) for field in (prediction, target))  # (B, C, X, T), as PDEBench has it
    points = p.shape[2]
    rms = np.sqrt(np.mean((p - u) ** 2, axis=2))
    norm = np.sqrt(np.mean(u**2, axis=2))
    conserved = np.sqrt(np.mean((p.sum(axis=2) - u.sum(axis=2)) ** 2, axis=0)) / points
    edge = np.sqrt(((p[:, :, 0] - u[:, :, 0]) ** 2 + (p[:, :, -1] - u[:, :, -1]) ** 2) / 2)
    return rms.mean(), (rms / norm).mean(), conserved.mean(), np.abs(p - u).max(axis=2).max(axis=0).mean(), edge.mean()


def test_hand_computed_numbers():
    target = _field([3.0, 4.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0])
    prediction = _field([3.0, 4.0, 0.0, 2.0], [2.0, 0.0, 2.0, 0.0])
    # Frame 0: one error of 2 at the end point. Frame 1: errors +1, -1, +1, -1.
    assert metrics.rmse(prediction, target).tolist() == [[1.0, 1.0]]
    assert metrics.nrmse(prediction, target)[0].tolist() == pytest.approx([1 / 2.5, 1.0])
    assert metrics.max_error(prediction, target).tolist() == [[2.0, 1.0]]
    assert metrics.boundary_rmse(prediction, target)[0].tolist() == pytest.approx([math.sqrt(2), 1.0])
    assert _mean_error(prediction, target)[0].tolist() == pytest.approx([0.5, 0.0])
    # ||error|| = sqrt(4 + 4), ||u|| = sqrt(25 + 4).
    assert metrics.relative_l2(prediction, target).tolist() == pytest.approx([math.sqrt(8 / 29)])
    # Unbiased variance of 3, 4, 0, 0: (25 - 4 * 1.75^2) / 3 = 4.25.
    assert float(metrics.vrmse(prediction, target)[0, 0]) == pytest.approx(1 / math.sqrt(4.25 + 1e-7))


def test_agrees_with_pdebench():
    prediction, target = _random(0, (5, 7, 2, 16))
    rmse, nrmse, _, _, edge = _pdebench(prediction, target)
    # Both are float64; only the order of sums differs.
    assert float(metrics.rmse(prediction, target).mean()) == pytest.approx(rmse, rel=1e-12)
    assert float(metrics.nrmse(prediction, target).mean()) == pytest.approx(nrmse, rel=1e-12)
    assert float(metrics.boundary_rmse(prediction, target).mean()) == pytest.approx(edge, rel=1e-12)
    # PDEBench takes the root mean square over the batch: of one trajectory that is the absolute value.
    one = _pdebench(prediction[:1], target[:1])[2]
    assert float(_mean_error(prediction[:1], target[:1]).mean()) == pytest.approx(one, rel=1e-12)
    # PDEBench keeps channels apart, here the worst channel counts: compare on one.
    single = _pdebench(prediction[:, :, :1], target[:, :, :1])[3]
    per_frame = metrics.max_error(prediction[:, :, :1], target[:, :, :1]).amax(0).mean()
    assert float(per_frame) == pytest.approx(single, rel=1e-12)


def test_boundary_of_a_plane_counts_four_edges():
    target = torch.zeros(1, 1, 1, 3, 4)
    prediction = target.clone()
    prediction[..., 1, 1] = 9.0  # inside: no part of the boundary
    prediction[..., 0, 2] = 2.0  # one edge point of 2 * 3 + 2 * 4
    assert float(metrics.boundary_rmse(prediction, target)) == pytest.approx(math.sqrt(4 / 14))


def test_ratio_before_mean_differs_from_mean_before_ratio():
    """The planted bug: rms over everything divided by rms over everything is another number."""
    target = _field([1.0, -1.0, 1.0, -1.0], [0.1, -0.1, 0.1, -0.1])
    prediction = target + 0.1
    ours = float(metrics.nrmse(prediction, target).mean())
    swapped = float(metrics.rmse(prediction, target).mean() / (target**2).mean().sqrt())
    assert ours == pytest.approx((0.1 + 1.0) / 2)
    assert swapped == pytest.approx(0.1 / math.sqrt(0.505))
    assert float(metrics.relative_l2(prediction, target)) == pytest.approx(0.1 / math.sqrt(0.505))


def test_spatial_mean_scores_about_one_in_vrmse():
    _, target = _random(1, (2, 3, 1, 64))
    mean = target.mean(-1, keepdim=True).expand_as(target)
    # sqrt((N - 1) / N) for N = 64, up to the 1e-7 in the denominator.
    assert metrics.vrmse(mean, target).flatten().tolist() == pytest.approx([math.sqrt(63 / 64)] * 6, rel=1e-6)


def test_correlation_and_its_time():
    x = torch.arange(32, dtype=torch.float64) * 2 * math.pi / 32
    target = x.sin().expand(1, 4, 1, 32)
    # A shift by phi leaves a correlation of cos(phi): 1, .97, .70, .97.
    shifts = (0.0, 0.25, 0.8, 0.25)
    prediction = torch.stack([(x - shift).sin() for shift in shifts])[None, :, None]
    correlation = metrics.correlation(prediction, target)
    assert correlation[0].tolist() == pytest.approx([math.cos(shift) for shift in shifts])
    # The last frame is correlated again, but the forecast was lost before.
    assert metrics.correlation_time(prediction, target, dt=0.5, threshold=0.8).tolist() == [1.0]
    assert metrics.correlation_time(target, target, dt=0.5, threshold=0.8).tolist() == [2.0]
    constant = torch.ones_like(target)
    assert metrics.correlation(constant, target).tolist() == [[0.0] * 4]


def test_divergence_is_not_hidden():
    prediction, target = _random(2, (2, 3, 1, 32))
    prediction[1, 2, 0, 31] = math.nan  # an end point, so that the boundary sees it too
    for name, metric in metrics.frame_metrics(metadata(), torch.full((2, 1), 0.01)).items():
        values = metric.compute(prediction, target)
        assert values.isfinite().sum() == 5, name
        assert not values[1, 2].isfinite(), name
    assert metrics.correlation_time(prediction, target, 1.0, 0.5).tolist() == [3.0, 2.0]


def test_single_precision_input_is_measured_in_double():
    # Squares of 1e25 overflow float32; the metric must not.
    target = torch.full((1, 1, 1, 8), 1e25)
    assert float(metrics.rmse(2 * target, target)) == pytest.approx(1e25, rel=1e-6)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"must both be \(B, T, C, \*space\)"):
        metrics.rmse(torch.zeros(1, 2, 1, 8), torch.zeros(1, 1, 1, 8))
