import math

import pytest
import torch

from ups.evaluation.ensemble import crps, skill, spread, spread_skill_ratio


def test_two_members_by_hand():
    # Members 0 and 2, truth 1.5: mean 1, variance 2, skill .5; CRPS = (1.5 + .5)/2 - |2 - 0| / 2 = 0.
    ensemble = torch.tensor([0.0, 2.0]).reshape(2, 1, 1, 1, 1)
    target = torch.tensor(1.5).reshape(1, 1, 1, 1)
    assert float(spread(ensemble)) == pytest.approx(math.sqrt(2))
    assert float(skill(ensemble, target)) == pytest.approx(0.5)
    assert float(spread_skill_ratio(ensemble, target)) == pytest.approx(math.sqrt(1.5 * 2) / 0.5)
    assert float(crps(ensemble, target)) == pytest.approx(0.0)


def test_crps_equals_its_double_sum():
    generator = torch.Generator().manual_seed(0)
    ensemble = torch.randn(5, 2, 3, 1, 8, generator=generator, dtype=torch.float64)
    target = torch.randn(2, 3, 1, 8, generator=generator, dtype=torch.float64)
    pairs = (ensemble[:, None] - ensemble[None]).abs().sum((0, 1)) / (2 * 5 * 4)
    expected = ((ensemble - target).abs().mean(0) - pairs).flatten(2).mean(-1)
    torch.testing.assert_close(crps(ensemble, target), expected, rtol=1e-12, atol=1e-15)


def test_honest_gaussian_ensemble():
    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(9, 4, 50, 1, 64, generator=generator, dtype=torch.float64)
    ensemble, target = draws[:8], draws[8]
    # 12,800 independent points: the ratio's standard error is about 1/sqrt(2 * 12800) = .6 %; 5 of them.
    assert float(spread_skill_ratio(ensemble, target).mean()) == pytest.approx(1.0, abs=0.03)
    # The CRPS of a standard normal forecast of a standard normal is 1/sqrt(pi); the standard error is about .004.
    assert float(crps(ensemble, target).mean()) == pytest.approx(1 / math.sqrt(math.pi), abs=0.02)


def test_one_member_is_no_ensemble():
    with pytest.raises(ValueError, match="at least 2 members"):
        spread(torch.zeros(1, 1, 1, 1, 4))
