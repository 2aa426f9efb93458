"""Point values, cell averages and grids of different fineness, on functions whose averages are known."""

import math

import pytest
import torch

from ups.data.cells import averages_from_points, coarsen, points_from_averages, refine, values_at_coarse_centres
from ups.data.initial_conditions import cell_centres


def points(cells):
    return torch.sin(2 * math.pi * cell_centres(cells) + 0.3)


def averages(cells):
    return points(cells) * math.sin(math.pi / cells) / (math.pi / cells)


def order(error_at):
    errors = [float(error_at(cells).abs().max()) for cells in (24, 48, 96)]
    return -torch.tensor(errors).log2().diff().mean().item()


def test_order_of_every_conversion():
    assert order(lambda n: averages_from_points(points(n)) - averages(n)) == pytest.approx(4, abs=0.1)
    assert order(lambda n: points_from_averages(averages(n)) - points(n)) == pytest.approx(4, abs=0.1)
    assert order(lambda n: refine(averages(n), 3) - averages(3 * n)) == pytest.approx(5, abs=0.2)
    for factor in (2, 3, 4):
        assert order(
            lambda n, factor=factor: values_at_coarse_centres(averages(factor * n), factor) - points(n)
        ) == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
def test_refining_is_undone_by_coarsening(factor):
    values = torch.randn(5, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(coarsen(refine(values, factor), factor), values, atol=1e-12, rtol=0)


def test_sums_are_conserved():
    values = torch.randn(5, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for changed in (averages_from_points(values), points_from_averages(values), refine(values, 4)):
        assert torch.allclose(changed.mean(-1), values.mean(-1), atol=1e-13, rtol=0)
