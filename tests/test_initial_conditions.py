"""The law of the initial conditions: what is drawn, how it looks, and that a sample is a function of seed and index."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from ups.data.initial_conditions import SLOTS, cell_centres, draw

COUNT = 20_000


@pytest.fixture(scope="module")
def many():
    return draw(seed=7, start=0, stop=COUNT)


def test_wavenumbers_follow_summed_one_hot_vectors(many):
    # Two draws from four slots: all ordered pairs are equally likely, so a slot is drawn twice with probability 1/16
    # and then carries twice its number; it is drawn once with probability 2 * 3/16, and not at all with 9/16.
    for slot in range(SLOTS):
        k = many.wavenumber[:, slot]
        share = torch.tensor([(k == value * (slot + 1)).double().mean() for value in (0, 1, 2)])
        # Five standard deviations of a share p of COUNT samples: 5 sqrt(p (1-p) / COUNT) <= 0.018.
        assert torch.allclose(share, torch.tensor([9 / 16, 6 / 16, 1 / 16], dtype=share.dtype), atol=0.018)
    numbers = (many.wavenumber / torch.arange(1, SLOTS + 1)).sum(dim=1)
    assert (numbers == 2).all()


def test_continuous_parameters_are_uniform(many):
    bounds = {
        "amplitude": (0.0, 1.0),
        "phase": (0.0, 2 * math.pi),
        "left": (0.1, 0.45),
        "right": (0.55, 0.9),
    }
    for name, (low, high) in bounds.items():
        values = getattr(many, name).flatten().numpy()
        # With a fixed seed this cannot fail by chance; p > 1e-3 says the seed is an ordinary one.
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3, name


def test_probabilities(many):
    # Five standard deviations at p = 0.1 and 0.5 with COUNT samples: 0.011 and 0.018.
    assert many.rectified.double().mean().item() == pytest.approx(0.1, abs=0.011)
    assert many.windowed.double().mean().item() == pytest.approx(0.1, abs=0.011)
    assert (many.sign == 1).double().mean().item() == pytest.approx(0.5, abs=0.018)


def test_every_sample_is_the_formula(many):
    x = cell_centres(64)
    values = many.select(slice(0, 300))(x)
    for i in range(300):
        u = sum(
            float(many.amplitude[i, j])
            * np.sin(2 * np.pi * float(many.wavenumber[i, j]) * x.numpy() + float(many.phase[i, j]))
            for j in range(SLOTS)
        )
        u = np.abs(u) if many.rectified[i] else u
        u = u * float(many.sign[i])
        if many.windowed[i]:
            left, right = float(many.left[i]), float(many.right[i])
            u = u * 0.5 * (np.tanh((x.numpy() - left) / 0.01) - np.tanh((x.numpy() - right) / 0.01))
        # The periodic images of the window, left out here, contribute up to exp(-20) = 2e-9 of |u| <= 4.
        assert np.abs(values[i].numpy() - u).max() < 1e-8


@pytest.mark.parametrize("extent", [1.0, 3.7])
def test_exactly_periodic(extent):
    initial = draw(seed=3, start=0, stop=200, extent=extent)
    x = cell_centres(50, extent)
    # Positions are reduced modulo the period: rounding of x + 2 L, 1e-15, times the largest slope, 2 pi 8 + 100.
    assert torch.allclose(initial(x), initial(x + 2 * extent), atol=1e-12, rtol=0)
    edge = torch.tensor([0.0, extent * (1 - 1e-15)], dtype=torch.float64)
    values = initial(edge)
    assert torch.allclose(values[:, 0], values[:, 1], atol=1e-12, rtol=0)


def test_a_sample_depends_on_seed_and_index_alone():
    whole = draw(seed=11, start=0, stop=37)
    x = cell_centres(32)
    for start, stop in ((0, 1), (5, 6), (5, 30), (36, 37)):
        assert torch.equal(draw(seed=11, start=start, stop=stop)(x), whole.select(slice(start, stop))(x))
    assert not torch.allclose(draw(seed=12, start=0, stop=37)(x), whole(x))


def test_cell_averages_are_averages():
    initial = draw(seed=1, start=0, stop=60)
    averages = initial.cell_averages(256)
    fine = initial(cell_centres(256 * 128)).unflatten(1, (256, 128)).mean(dim=2)
    smooth = ~(initial.rectified | initial.windowed)
    # Midpoint rule with spacing h = 1/32768: h^2 u''/24 with u'' <= 4 (2 pi 8)^2.
    assert torch.allclose(averages[smooth], fine[smooth], atol=4e-7, rtol=0)
    # A kink with a jump of slope J <= 200 somewhere in a cell: at most 0.02 J dx with four nodes.
    assert torch.allclose(averages, fine, atol=0.02 * 200 / 256, rtol=0)
