import math

import pytest
import torch

from ups.evaluation.reductions import estimate, over_horizon, paired_difference, pdebench_nrmse


def test_mean_and_standard_error_by_hand():
    # Deviations -1, 0, 1: sample variance 1, standard error 1 / sqrt(3).
    assert estimate(torch.tensor([1.0, 2.0, 3.0])) == {"mean": 2.0, "stderr": pytest.approx(1 / math.sqrt(3))}
    assert estimate(torch.tensor([5.0])) == {"mean": 5.0, "stderr": None}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_lost_trajectory_leaves_no_mean(bad):
    assert estimate(torch.tensor([1.0, bad, 3.0])) == {"mean": None, "stderr": None}


def test_pairing_removes_what_trajectories_share():
    generator = torch.Generator().manual_seed(0)
    difficulty = 10 * torch.rand(50, generator=generator)
    difference = paired_difference(difficulty + 1.0, difficulty)
    assert difference["mean"] == pytest.approx(1.0, abs=1e-5)
    assert difference["stderr"] < 1e-5
    assert estimate(difficulty)["stderr"] > 0.1


def test_horizons():
    frames = torch.tensor([[1.0, 2.0, 6.0]])
    assert over_horizon(frames, 2, "mean").tolist() == [1.5]
    assert over_horizon(frames, None, "mean").tolist() == [3.0]
    assert over_horizon(frames, 2, "max").tolist() == [2.0]


def test_pdebench_divides_by_one_batch_too_few():
    """20 batches are added up and divided by 19; a last, smaller batch counts in full."""
    frames = torch.rand(1000, 31, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert pdebench_nrmse(frames) == pytest.approx(float(frames.mean()) * 20 / 19, rel=1e-12)
    uneven = torch.tensor([[1.0], [1.0], [4.0]])
    assert pdebench_nrmse(uneven, batch_size=2) == pytest.approx(1.0 + 4.0)
    assert pdebench_nrmse(frames[:50]) is None
    frames[3, 3] = math.nan
    assert pdebench_nrmse(frames) is None
