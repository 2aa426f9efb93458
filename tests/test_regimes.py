"""Several viscosities in one file: made, read, split and audited as one expects, and refused where they do not fit."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from flat_files import fields, write_flat

from ups.data.cole_hopf import cole_hopf
from ups.data.dataset import read_metadata, read_split
from ups.data.initial_conditions import cell_centres, draw
from ups.data.readers import open_source
from ups.data.regime_kind import kind, label, nearest
from ups.data.simulation import relative_error
from ups.errors import DataError, ParameterError
from ups.parameters.shared import Data, Task
from ups.stages import prepare_data, simulate
from ups.stages.runner import execute

OWN = "artifacts/simulate/data.h5"
VISCOSITIES = [0.02, 0.03, 0.08]
TASK = {
    "name": "burgers1d",
    "equation": "burgers",
    "coefficients": {"viscosity": VISCOSITIES},
    "domain_extent": 1.0,
    "final_time": 1.0,
}
DATA = {
    "path": OWN,
    "space_stride": 1,
    "time_stride": 1,
    "splits": {"test": [0, 2], "validation": [2, 3], "train": [3, None]},
    "train_on": {"viscosity": [0.02, 0.08]},
}
SIMULATE = {
    "seed": 42,
    "samples": 6,
    "points": 32,
    "frames": 5,
    "method": "exact",
    "nodes": 512,
    "refinement": 8,
    "substeps": 8,
    "courant": 0.8,
    "batch_size": 4,
    "check_samples": 2,
    "max_error": 3e-4,
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Run a stage with the parameters above, changed section by section."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").mkdir()

    def run(stage, task=None, data=None, **settings):
        sections = {"task": TASK | (task or {}), "data": DATA | (data or {}), "simulate": SIMULATE | settings}
        sections["prepare_data"] = {"min_distance": 1e-3}
        (tmp_path / "params" / "base.yaml").write_text(yaml.safe_dump(sections))
        return execute(stage.NAME, stage.Params, stage.INPUTS, stage.run)

    return run


def write_regimes(path, tensor, viscosity, initial=None, name="Nu"):
    """Write a flat file that says a viscosity for each trajectory."""
    write_flat(path, tensor, attributes={})
    with h5py.File(path, "a") as file:
        file[name] = np.asarray(viscosity)
        if initial is not None:
            file["initial-condition"] = np.asarray(initial)
    return path


# --- the data ----------------------------------------------------------------------------------------------------


def test_every_regime_is_the_exact_solution_of_its_own_viscosity(project):
    """nu/pi is the diffusivity in each: neither nu itself nor the nu of another regime comes near."""
    metrics = project(simulate)
    assert metrics["samples"] == 18
    assert list(metrics["error_nrmse_by_regime"]) == ["viscosity=0.02", "viscosity=0.03", "viscosity=0.08"]
    with open_source(Path(OWN)) as source:
        assert source.initial.tolist() == [number for number in range(6) for _ in VISCOSITIES]
        stored = {nu: np.concatenate(list(source.chunks(at, at + 1))) for at, nu in enumerate(VISCOSITIES)}
        assert source.coefficients["viscosity"].tolist() == VISCOSITIES * 6
    times = torch.linspace(0, 1, 5, dtype=torch.float64)

    def error(field, viscosity):
        exact = cole_hopf(draw(42, 0, 1), cell_centres(32), times, viscosity)
        return float(relative_error(torch.from_numpy(field[:, :, 0]), exact).max())

    for nu, field in stored.items():
        assert error(field, nu) < 2e-5  # kinks at 512 nodes
        assert error(field, nu * np.pi) > 0.01
        assert all(error(field, other) > 0.01 for other in VISCOSITIES if other != nu)


def test_one_regime_of_several_is_made_as_it_is_alone(project):
    project(simulate)
    with h5py.File(OWN) as file:
        several = file["tensor"][1::3]
    project(simulate, task={"coefficients": {"viscosity": 0.03}}, data={"train_on": None})
    with h5py.File(OWN) as file:
        assert np.array_equal(file["tensor"][:], several)
        assert file.attrs["Nu"] == 0.03
        assert "initial-condition" not in file


def test_a_coarse_regime_is_named(project):
    with pytest.raises(DataError, match=r"viscosity=0\.02; simulate\.max_error allows"):
        project(simulate, method="finite_volume", refinement=1, max_error=1e-3)


# --- splits and what they carry ----------------------------------------------------------------------------------


def test_splits_are_by_initial_condition_alike_in_every_regime(project):
    project(simulate)
    project(prepare_data)
    path = "artifacts/prepare_data/dataset.h5"
    wanted = {"test": (range(2), VISCOSITIES), "validation": (range(2, 3), [0.02, 0.08])}
    wanted["train"] = (range(3, 6), [0.02, 0.08])
    with open_source(Path(OWN)) as source:
        everything = np.concatenate(list(source.chunks(0, 18)))
    for name, (initial, values) in wanted.items():
        data = read_split(Path(path), name)
        found = [(int(i) // 3, round(float(nu), 6)) for i, nu in zip(data.index, data.coefficients[:, 0], strict=True)]
        assert found == [(i, nu) for i in initial for nu in values]
        assert np.array_equal(data.fields.numpy(), everything[data.index.numpy()])
    training = read_metadata(Path(path)).training
    assert training.coefficients == ((0.02, 0.08),)
    assert training.regimes == ((0.02,), (0.08,))
    assert training.trajectories == 6
    audit = json.loads(Path("artifacts/prepare_data/audit.json").read_text())
    assert [(one["coefficients"]["viscosity"], one["kind"]) for one in audit["regimes"]] == [
        (0.02, "trained"),
        (0.03, "between"),
        (0.08, "trained"),
    ]
    assert audit["regimes"][1]["trajectories"] == {"train": 0, "validation": 0, "test": 2}


def test_normalisation_is_that_of_the_trained_regimes(project):
    project(simulate)
    project(prepare_data)
    train = read_split(Path("artifacts/prepare_data/dataset.h5"), "train")
    assert train.metadata.normalization.std[0] == pytest.approx(float(train.fields.double().std(correction=0)))


def test_an_initial_condition_of_test_under_another_viscosity_in_train_is_refused(project, tmp_path):
    """A file that calls them different initial conditions, and a field that is a copy all the same."""
    tensor = fields(6, 4, 32)
    tensor[5, 0] = tensor[0, 0]  # sample 5 is in train, sample 0 in test
    path = write_regimes(tmp_path / "data" / "a.h5", tensor, [0.02, 0.03, 0.08] * 2)
    with pytest.raises(DataError, match="byte for byte: sample 5 equals sample 0"):
        project(prepare_data, data={"path": str(path)})


def test_shared_initial_conditions_without_their_numbers_are_refused(project, tmp_path):
    """The file of all regimes with `initial-condition` left out: samples 0..17 would be split as if each were new."""
    project(simulate)
    with h5py.File(OWN, "a") as file:
        del file["initial-condition"]
    splits = {"test": [0, 4], "validation": [5, 6], "train": [6, None]}
    with pytest.raises(DataError, match="byte for byte: sample 5 equals sample 3"):
        project(prepare_data, data={"splits": splits})


# --- what does not fit is said -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("viscosity", "initial", "match"),
    [
        ([0.02, 0.03, 0.08, 0.02, 0.03, 0.5], None, r"holds viscosity = 0\.5, which task\.coefficients does not name"),
        ([0.02, 0.03] * 3, None, r"holds no trajectory with viscosity = 0\.08"),
        ([0.02, 0.03, 0.08], None, r"`Nu` has shape \(3,\).*\(6,\) numbers"),
        ([0.02, 0.03, float("nan")] * 2, None, r"`Nu` holds nan for trajectory 2"),
        ([0.02, 0.03, 0.08] * 2, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], r"`initial-condition` has .* type float64.* whole"),
        ([0.02, 0.03, 0.08] * 2, [0, 0, 0, -1, 1, 1], r"`initial-condition` holds -1"),
    ],
)
def test_files_that_do_not_fit_are_refused(project, tmp_path, viscosity, initial, match):
    path = write_regimes(tmp_path / "a.h5", fields(6, 4, 32), viscosity, initial)
    with pytest.raises(DataError, match=match):
        project(prepare_data, data={"path": str(path)})


def test_a_file_that_says_nothing_cannot_have_several_regimes(project, tmp_path):
    path = write_flat(tmp_path / "a.h5", fields(6, 4, 32), attributes={})
    with pytest.raises(DataError, match=r"does not say the viscosity of its trajectories.*lists 3 values"):
        project(prepare_data, data={"path": str(path)})


def test_a_number_for_all_and_one_for_each_contradict_each_other(tmp_path):
    path = write_regimes(tmp_path / "a.h5", fields(6, 4, 32), [0.02] * 6)
    with h5py.File(path, "a") as file:
        file.attrs["Nu"] = 0.02
    with pytest.raises(DataError, match="as an attribute, for all trajectories, and as a dataset"):
        open_source(path)


def test_a_split_without_trained_trajectories_is_refused(project, tmp_path):
    path = write_regimes(tmp_path / "a.h5", fields(6, 4, 32), [0.02, 0.02, 0.03, 0.08, 0.08, 0.08], list(range(6)))
    splits = {"test": [0, 2], "validation": [2, 3], "train": [3, None]}
    with pytest.raises(DataError, match=r"data\.splits\.validation = \[2, 3\] finds no trajectory"):
        project(prepare_data, data={"path": str(path), "splits": splits})


@pytest.mark.parametrize(
    ("coefficients", "match"),
    [
        ({"viscosity": []}, "holds no value"),
        ({"viscosity": [0.1, 0.1]}, "must not repeat"),
        ({"viscosity": [0.1, "thick"]}, "a number, or a list of numbers, was expected"),
        ({"viscosity": float("inf")}, "a number, or a list of numbers, was expected"),
        ({}, r"are \['viscosity'"),
    ],
)
def test_coefficients_that_make_no_regimes(coefficients, match):
    with pytest.raises(ValueError, match=match):
        Task.model_validate(TASK | {"coefficients": coefficients})


def test_a_viscosity_that_is_not_positive_is_named(project):
    with pytest.raises(ParameterError, match=r"task\.coefficients\.viscosity = -1\.0 must be positive"):
        project(simulate, task={"coefficients": {"viscosity": [0.02, -1.0]}}, data={"train_on": None})


def test_regimes_are_all_combinations():
    coefficients = {"diffusivity": [0.5, 1.0], "reaction_rate": [1.0, 2.0]}
    task = Task.model_validate(TASK | {"equation": "diffusion_reaction", "coefficients": coefficients})
    assert [tuple(regime.values()) for regime in task.regimes] == [(0.5, 1.0), (0.5, 2.0), (1.0, 1.0), (1.0, 2.0)]
    data = Data.model_validate(DATA | {"train_on": {"diffusivity": 0.5}})
    assert [data.trains_on(regime) for regime in task.regimes] == [True, True, False, False]
    with pytest.raises(ValueError, match="steady"):
        Task.model_validate(TASK | {"equation": "darcy", "coefficients": {"force": [1.0, 2.0]}})


# --- words -------------------------------------------------------------------------------------------------------


def test_kinds_of_regimes():
    trained = [(0.001,), (0.01,), (0.1,)]
    found = {value: kind((value,), trained) for value in (0.01, 0.011, 0.009, 0.012, 0.05, 0.11, 0.2, 0.0005)}
    assert list(found.values()) == ["trained", "near", "near", "between", "between", "near", "outside", "outside"]
    assert kind((float(np.float32(0.001)),), trained) == "trained"
    assert nearest((0.04,), trained) == (0.1,)  # by ratio, not by difference
    assert label(("viscosity",), (float(np.float32(0.1)),)) == "viscosity=0.1"
    # Of two coefficients both have to be near those of one and the same regime.
    assert kind((1.0, 2.0), [(1.0, 1.0), (2.0, 2.0)]) == "between"
