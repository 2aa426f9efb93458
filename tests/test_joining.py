"""Files of one viscosity each, as PDEBench has them, become one file whose splits hold for all."""

import h5py
import numpy as np
import pytest
from flat_files import fields, write_flat
from typer.testing import CliRunner

from ups.cli.app import app
from ups.data.joining import join
from ups.data.readers import open_source
from ups.errors import DataError


@pytest.fixture
def files(tmp_path):
    """Seventy samples, so that they do not come in one block; 16 points, 9 frames."""
    tensors = {nu: fields(70, 9, 16) * np.float32(1 + nu) for nu in (0.1, 0.001, 0.01)}
    for tensor in tensors.values():
        tensor[:, 0] = fields(70, 9, 16)[:, 0]
    return {nu: write_flat(tmp_path / f"nu{nu}.h5", tensor, {"Nu": nu}) for nu, tensor in tensors.items()}, tensors


def test_samples_of_one_number_stand_together_and_regimes_rise(files, tmp_path):
    paths, tensors = files
    made = join(list(paths.values()), tmp_path / "all.h5", space_stride=2, time_stride=4)
    assert (made.initial_conditions, made.points, made.frames, made.largest_difference) == (70, 8, 3, 0.0)
    with open_source(tmp_path / "all.h5") as source:
        assert source.num_samples == 210
        assert source.coefficients["viscosity"].tolist() == [0.001, 0.01, 0.1] * 70
        assert source.initial.tolist() == [number for number in range(70) for _ in range(3)]
        assert source.dt == pytest.approx(0.5)
        stored = np.concatenate(list(source.chunks(0, 210)))[:, :, 0]
    for at, nu in enumerate((0.001, 0.01, 0.1)):
        assert np.array_equal(stored[at::3], tensors[nu][:, ::4, ::2])


def test_first_frames_that_differ_are_reported(files, tmp_path):
    paths, tensors = files
    other = tensors[0.01].copy()
    other[5, 0] *= np.float32(1.25)
    write_flat(paths[0.01], other, {"Nu": 0.01})
    assert join(list(paths.values()), tmp_path / "all.h5").largest_difference == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"tensor": fields(69, 9, 16)}, r"has trajectories 69, .* has 70"),
        ({"tensor": fields(70, 9, 32)}, r"has points \(32,\), .* has \(16,\)"),
        ({"attributes": {"Nu": 0.1}}, r"have the same coefficients \{'viscosity': 0\.1\}"),
        ({"attributes": {"beta": 0.1}}, r"holds 'advection', .* 'burgers'"),
        ({"attributes": {}}, r"holds 'None'"),
    ],
)
def test_files_that_do_not_fit_each_other(files, tmp_path, change, match):
    paths, tensors = files
    write_flat(paths[0.01], **({"tensor": tensors[0.01], "attributes": {"Nu": 0.01}} | change))
    with pytest.raises(DataError, match=match):
        join([paths[0.1], paths[0.01]], tmp_path / "all.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nu0.001.h5", "nu0.01.h5", "nu0.1.h5"]


def test_a_joined_file_is_not_joined_again(files, tmp_path):
    paths, _ = files
    join(list(paths.values()), tmp_path / "all.h5")
    with pytest.raises(DataError, match="has a viscosity for each trajectory already"):
        join([tmp_path / "all.h5", paths[0.1]], tmp_path / "more.h5")


def test_the_command(files, tmp_path):
    paths, _ = files
    names = [str(path) for path in paths.values()]
    result = CliRunner().invoke(app, ["data", "join", *names, "-o", str(tmp_path / "all.h5")])
    assert result.exit_code == 0, result.output
    assert "task.coefficients.viscosity: [0.001, 0.01, 0.1]" in result.output
    assert "differ" not in result.output
    with h5py.File(tmp_path / "all.h5") as file:
        assert file["tensor"].shape == (210, 9, 16)
