"""The registry of equations, and everything that takes its word from there."""

from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml
from standin import ROOT

from ups.data.fields import FieldMetadata, Grid, Normalization
from ups.data.problems import _MAKERS
from ups.data.quantities import QUANTITIES, conserved, dissipated
from ups.errors import ParameterError
from ups.evaluation.baselines import exact_forecasters
from ups.evaluation.metrics import frame_metrics
from ups.inference.rewards import weighted_rewards
from ups.parameters.equations import EQUATIONS, EquationName
from ups.parameters.overlay import resolve

WEIGHTS = {"conservation": 1.0, "dissipation": 1.0, "pde_residual": 1.0, "positivity": 1.0}
TASKS = sorted(path.stem for path in (ROOT / "params/tasks").glob("*.yaml"))


def metadata(name):
    equation = EQUATIONS[name]
    channels = len(equation.channels)
    return FieldMetadata(
        equation=name,
        channels=equation.channel_names,
        units=tuple(channel.unit for channel in equation.channels),
        coefficients=equation.coefficient_names,
        grid=Grid(
            extent=(1.0,) * equation.rank,
            points=(16,) * equation.rank,
            origin=(0.0,) * equation.rank,
            periodic=(equation.periodic,) * equation.rank,
        ),
        dt=0.0 if equation.steady else 0.1,
        normalization=Normalization(mean=(0.0,) * channels, std=(1.0,) * channels),
    )


def test_names_agree():
    assert set(get_args(EquationName)) == set(EQUATIONS) == set(_MAKERS)
    named = {name for equation in EQUATIONS.values() for name in (*equation.conserved, equation.dissipated) if name}
    assert named == set(QUANTITIES)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("preset", ["tiny", "default"])
def test_every_task_resolves_and_names_its_own_method(task, preset, monkeypatch):
    monkeypatch.chdir(ROOT)
    resolved = resolve(yaml.safe_load(Path("params/base.yaml").read_text()), task, "golden", preset)
    assert resolved["task"]["name"] == task
    assert resolved["simulate"]["method"] in _MAKERS[resolved["task"]["equation"]]


# Written out once more on purpose: the laws of physics, not of the registry.
CONSERVED = {
    "burgers": ["mean"],
    "advection": ["mean", "square"],
    "diffusion_reaction": [],
    "wave": ["mean_velocity", "energy"],
    "darcy": [],
    "navier_stokes": ["mean"],
}


@pytest.mark.parametrize("name", list(EQUATIONS))
def test_metrics_and_rewards_follow_the_equation(name):
    meta = metadata(name)
    assert list(conserved(meta)) == CONSERVED[name]
    assert (dissipated(meta) is not None) == (name in ("burgers", "navier_stokes"))
    metrics = [key for key in frame_metrics(meta, torch.ones(1, len(meta.coefficients))) if key.startswith("conserved")]
    assert metrics == (
        ["conserved_error", *(f"conserved_error_{q}" for q in CONSERVED[name][1:])] if CONSERVED[name] else []
    )
    found = weighted_rewards(WEIGHTS, meta)
    assert ("conservation" in found.terms) == bool(CONSERVED[name])
    assert ("dissipation" in found.terms) == (name in ("burgers", "navier_stokes"))
    assert ("positivity" in found.terms) == (name in ("diffusion_reaction", "darcy"))
    assert set(found.terms) | set(found.not_applicable) == set(WEIGHTS)
    assert all(name in reason for reason in found.not_applicable.values())
    assert bool(exact_forecasters(meta)) == (name in ("advection", "wave"))


def test_the_waves_rewards_are_the_waves_and_not_burgers():
    """A string whose mean moves with its mean velocity obeys, though Burgers' law would punish it; braking does not."""
    meta, table = metadata("wave"), torch.tensor([[0.5]])
    reward = weighted_rewards({"conservation": 1.0}, meta)
    x = meta.grid.coordinates()
    u, v = torch.sin(2 * torch.pi * x).float(), torch.full((16,), 2.0)
    before = torch.stack([u, v])[None]
    drifting = torch.stack([u + 0.2, v])[None]  # u_t = v, dt = 0.1
    assert float(reward(before, drifting, table)) == pytest.approx(0.0, abs=1e-6)
    braking = torch.stack([u, v - 1.0])[None]
    # Mean velocity falls by 1 of 2, energy from (4 + c^2 <u_x^2>)/2 to (1 + c^2 <u_x^2>)/2.
    stretch = 0.25 * (2 * torch.pi) ** 2 / 2
    expected = -(1 / 2) - 3 / (4 + stretch)
    assert float(reward(before, braking, table)) == pytest.approx(expected, rel=1e-5)


def test_the_exact_waves_follow_dalembert():
    from ups.data.wave import draw_strings

    meta = metadata("wave")
    times = meta.dt * torch.arange(8, dtype=torch.float64)
    truth = draw_strings(0, 0, 3, 1.0).at(meta.grid.coordinates(), times, 0.7).float()
    found = exact_forecasters(meta)["exact_wave"](truth[:, :2], 6, torch.full((3, 1), 0.7))
    torch.testing.assert_close(found, truth[:, 2:], atol=2e-5, rtol=1e-5)  # the start is rounded to float32
    other = meta.model_copy(update={"equation": "burgers"})
    assert exact_forecasters(other) == {}


def test_impossible_numbers_and_methods_are_named(monkeypatch):
    from ups.data.problems import make_problem
    from ups.parameters.shared import Task
    from ups.parameters.simulate import Simulate

    monkeypatch.chdir(ROOT)
    base = yaml.safe_load(Path("params/base.yaml").read_text())
    settings = Simulate.model_validate(base["simulate"])
    task = {"name": "a", "equation": "wave", "coefficients": {"speed": 0.0}, "domain_extent": 1.0, "final_time": 1.0}
    with pytest.raises(ParameterError, match=r"coefficients.speed = 0.0 must be positive"):
        make_problem(Task.model_validate(task), settings)
    with pytest.raises(ParameterError, match=r"'spectral' does not solve 'wave'; allowed: exact"):
        make_problem(Task.model_validate(task), settings.model_copy(update={"method": "spectral"}))
    with pytest.raises(ValueError, match=r"coefficients of equation 'wave' are \['speed'\]"):
        Task.model_validate({**task, "coefficients": {"velocity": 1.0}})
