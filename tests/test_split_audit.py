"""The audit must find a planted copy, exact or perturbed, and let clean data pass; its figures are right."""

import numpy as np
import pytest
from flat_files import fields

from ups.data.audit import SplitAudit, check_overlap, nearest_pair
from ups.data.splits import resolve_splits
from ups.data.statistics import ChannelStatistics
from ups.errors import DataError, ParameterError
from ups.parameters.files import BASE, read_yaml, validate_section
from ups.parameters.schema import Parameters


def audits(tensor, **ranges):
    result = {}
    for name, (start, stop) in ranges.items():
        result[name] = SplitAudit(range(start, stop))
        for row in range(start, stop, 5):  # in chunks, as the stage does
            result[name].update(tensor[row : min(row + 5, stop), :, None])
    return result


RANGES = {"train": (10, 60), "validation": (60, 70), "test": (0, 10)}


def test_clean_data_pass():
    report = check_overlap(audits(fields(70, 3, 32), **RANGES), min_distance=1e-3)
    assert set(report["nearest"]) == {"train/validation", "train/test", "validation/test"}
    assert min(pair["distance"] for pair in report["nearest"].values()) > 1e-2
    assert report["duplicates_inside"] == {"train": 0, "validation": 0, "test": 0}


def test_a_copy_in_another_split_is_found():
    tensor = fields(70, 3, 32)
    tensor[4, 0] = tensor[33, 0]
    with pytest.raises(DataError, match="byte for byte: sample 33 equals sample 4"):
        check_overlap(audits(tensor, **RANGES), min_distance=1e-3)


@pytest.mark.parametrize("size", [1e-6, 3e-4])
def test_a_perturbed_copy_is_found(size):
    tensor = fields(70, 3, 32)
    noise = np.random.default_rng(0).normal(size=32)
    scale = np.linalg.norm(tensor[33, 0]) / np.linalg.norm(noise)
    tensor[65, 0] = tensor[33, 0] + np.float32(size * scale * noise)
    with pytest.raises(DataError, match=r"sample 33 \(train\) and sample 65 \(validation\)"):
        check_overlap(audits(tensor, **RANGES), min_distance=1e-3)
    check_overlap(audits(tensor, **RANGES), min_distance=1e-6 if size > 1e-5 else 1e-7)


def test_a_later_frame_in_common_is_no_overlap():
    tensor = fields(70, 3, 32)
    tensor[4, 2] = tensor[33, 2]
    check_overlap(audits(tensor, **RANGES), min_distance=1e-3)


def test_duplicates_inside_one_split_are_counted():
    tensor = fields(70, 3, 32)
    tensor[20, 0] = tensor[21, 0] = tensor[22, 0]
    assert check_overlap(audits(tensor, **RANGES), 1e-3)["duplicates_inside"]["train"] == 2


def test_nearest_pair_equals_brute_force(monkeypatch):
    monkeypatch.setattr("ups.data.audit._BLOCK", 7)
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(23, 5)).astype(np.float32), rng.normal(size=(30, 5)).astype(np.float32)
    distances = [
        [np.linalg.norm(p - q) / max(np.linalg.norm(p), np.linalg.norm(q)) for q in b.astype(float)]
        for p in a.astype(float)
    ]
    found = nearest_pair(a, b)
    row, column = np.unravel_index(np.argmin(distances), (23, 30))
    assert found.samples == (row, column)
    assert found.distance == pytest.approx(np.min(distances), rel=1e-12)
    assert nearest_pair(np.zeros((2, 5)), np.zeros((3, 5))).distance == 0


def test_figures_of_a_split():
    u = np.zeros((2, 3, 1, 4), np.float32)
    u[1, :, 0] = [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 6]]
    audit = SplitAudit(range(2))
    audit.update(u)
    report = audit.report()
    assert (report["minimum"], report["maximum"]) == (0, 6)
    assert report["largest_change_of_mean"] == pytest.approx(0.5)
    assert report["largest_wrap_ratio"] == pytest.approx(5 / 3)  # |1 - 6| over |6 - 3|
    assert report["mean"] == [pytest.approx(32 / 24)]


def test_streamed_statistics_do_not_cancel():
    """A mean 1e4 times the deviation: the difference of sums of squares in float32 would lose everything."""
    values = (1e4 + np.random.default_rng(0).normal(size=(50, 4, 2, 8))).astype(np.float32)
    statistics = ChannelStatistics()
    for row in range(0, 50, 7):
        statistics.update(values[row : row + 7])
    exact = values.astype(np.float64)
    assert statistics.mean == pytest.approx(exact.mean(axis=(0, 1, 3)), rel=1e-14)
    assert statistics.std == pytest.approx(exact.std(axis=(0, 1, 3)), rel=1e-9)


def test_splits_resolve_and_refuse():
    ranges = {"train": (192, None), "validation": (128, 192), "test": (0, 128)}
    assert resolve_splits(ranges, 704, "f.h5") == {
        "train": range(192, 704),
        "validation": range(128, 192),
        "test": range(128),
    }
    with pytest.raises(DataError, match=r"train = \[192, None\] asks for more than the 192"):
        resolve_splits(ranges, 192, "f.h5")
    with pytest.raises(DataError, match=r"validation = \[128, 192\] asks for more than the 150"):
        resolve_splits(ranges | {"train": (100, 128), "test": (0, 90)}, 150, "f.h5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": [5, 5]}, r"test = \[5, 5\] is empty"),
        ({"validation": [100, 192]}, r"test and validation overlap: both hold the samples 100 to 127"),
        ({"test": [200, 300]}, r"train and test overlap: both hold the samples 200 to 299"),
        ({"test": [500, None]}, r"train and test overlap: both hold the samples 500 to the end"),
    ],
)
def test_no_parameters_put_a_trajectory_into_two_splits(change, message):
    raw = read_yaml(BASE)
    raw["data"]["splits"] = {"train": [192, None], "validation": [128, 192], "test": [0, 128]}
    validate_section(Parameters, raw)
    raw["data"]["splits"] |= change
    with pytest.raises(ParameterError, match=rf"data.splits.*{message}"):
        validate_section(Parameters, raw)
