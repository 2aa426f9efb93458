"""A surrogate with a flow: its forecasts, ensembles and searches, and a bundle that holds one."""

import json
import math

import numpy as np
import pytest
import torch
from example_fields import advected_sines
from search_settings import search_settings
from small_surrogate import write_bundle, write_dataset, write_models, write_no_reward

import ups
from ups.errors import ArtifactError, ParameterError
from ups.evaluation.ensemble_scores import ensemble_score
from ups.evaluation.records import nested_metrics
from ups.inference.choices import best_scored
from ups.inference.ensemble import EnsembleMean, drawing_forecaster
from ups.inference.rewards import Conservation
from ups.inference.search import BeamSearch
from ups.inference.surrogate import load_bundle
from ups.models.flow import FlowCorrector
from ups.models.teacher import kind_in, load_corrector
from ups.stages import evaluate_ttc

U = torch.randn(3, 1, 32, generator=torch.Generator().manual_seed(0))
C = torch.full((3, 1), 0.01)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("flow") / "bundle", flow=True)


@pytest.fixture(scope="module")
def surrogate(bundle):
    return load_bundle(bundle)


def settings(**changes):
    return search_settings(**{"horizon": 2, "noise_std": [0.0], "max_evaluations": 60, **changes})


def test_every_mode_forecasts_and_counts_its_evaluations(surrogate):
    frames = {mode: surrogate.forecaster(mode)(U[:, None], 2, C) for mode in surrogate.modes}
    assert torch.equal(frames["assembled"], frames["corrected"])
    for one, other in (("corrected", "operator"), ("student", "corrected"), ("student", "operator")):
        assert (frames[one] - frames[other]).abs().max() > 1e-3
    cost = {mode: surrogate.forecaster(mode).evaluations_per_step for mode in surrogate.modes}
    assert cost == {"operator": 1, "zero_correction": 1, "corrected": 5, "student": 2, "assembled": 5}


def test_a_part_of_the_wrong_kind_is_refused(bundle, tmp_path):
    folders = write_models(tmp_path)
    assert isinstance(load_corrector(bundle / "corrector"), FlowCorrector)
    with pytest.raises(ArtifactError, match="'LatentOperator', but a 'ResidualCorrector' or a 'FlowCorrector'"):
        load_corrector(folders["operator"])
    with pytest.raises(ArtifactError, match="a 'FlowCorrector' was expected"):
        kind_in(folders["operator"], (FlowCorrector,))


def test_the_library_draws_ensembles_from_it(bundle):
    emulator = ups.load(bundle)
    state = emulator.state(U.numpy(), viscosity=0.01)
    first, again, other = ([s.u for s in emulator.sample(state, 2, members=5, seed=seed)] for seed in (1, 1, 2))
    assert first[0].shape == (5, *U.shape)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first[0] - other[0]).max() > 1e-3
    assert np.abs(first[0][0] - first[0][1]).max() > 1e-3


def test_candidates_of_the_search_differ_by_the_flows_noise(surrogate):
    seen = []

    def watch(candidates, scores, step):
        seen.append(candidates)
        return best_scored(candidates, scores, step)

    search = BeamSearch(surrogate, Conservation(surrogate.metadata), settings(horizon=1), seed=3)
    search.rollout(U, C, 2, watch)
    frames = seen[0].frames[:, 0]
    base = surrogate.forecaster("corrected")(U[:, None], 1, C)[:, 0]
    torch.testing.assert_close(frames[:, 0], base)  # candidate 0 has no noise
    spread = (frames[:, 1:] - frames[:, :1]).abs().amax((2, 3))
    assert (spread > 1e-3).all()
    assert (frames[:, 1] - frames[:, 2]).abs().max() > 1e-3
    silent = BeamSearch(_without_noise(surrogate), Conservation(surrogate.metadata), settings(horizon=1), seed=3)
    silent.rollout(U, C, 1, watch)
    torch.testing.assert_close(seen[-1].frames[:, 0], base[:, None].expand_as(frames))


def _without_noise(surrogate):
    from dataclasses import replace

    quiet = FlowCorrector(dim=4, hidden=8, depth=2, zero_init=False, steps=2, solver="midpoint", noise=0.0)
    quiet.load_state_dict(surrogate.corrector.state_dict())
    return replace(surrogate, corrector=quiet)


def test_the_search_counts_every_evaluation_of_the_flow_and_keeps_to_its_budget(surrogate, monkeypatch):
    calls = []
    monkeypatch.setattr(FlowCorrector, "forward", _counting(FlowCorrector.forward, calls))
    monkeypatch.setattr(type(surrogate.operator), "forward", _counting(type(surrogate.operator).forward, calls))
    chosen = settings()
    result = BeamSearch(surrogate, Conservation(surrogate.metadata), chosen, seed=2).rollout(U, C, 2, best_scored)
    assert int(result.evaluations.sum()) == sum(calls)
    # Three states of the beam, each an operator pass and four corrections of four evaluations.
    assert result.evaluations.tolist() == [2 * chosen.evaluations_per_step(4)] * 3 == [2 * 51] * 3
    with pytest.raises(ParameterError, match="costs 51 network evaluations, more than max_evaluations = 50"):
        BeamSearch(surrogate, Conservation(surrogate.metadata), settings(max_evaluations=50), seed=2)


def _counting(forward, calls):
    def counted(self, first, *rest):
        calls.append(len(first))
        return forward(self, first, *rest)

    return counted


def test_the_stage_searches_with_a_flow(tmp_path, monkeypatch):
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "base.yaml").write_text(
        "compute: {device: cpu, precision: fp32, num_threads: 1, compile: false, deterministic: true}\n"
    )
    monkeypatch.chdir(tmp_path)
    folders = write_models(tmp_path, flow=True)
    inputs = {part: folders[part] / "model.safetensors" for part in ("codec", "operator", "corrector")}
    inputs |= {"dataset": write_dataset(tmp_path / "dataset.h5"), **write_no_reward(tmp_path / "reward")}
    (tmp_path / "out").mkdir()
    metrics = evaluate_ttc.run(evaluate_ttc.Params(seed=1, evaluate_ttc=settings(horizon=1)), inputs, tmp_path / "out")
    assert json.loads(json.dumps(metrics)) == metrics
    cost = {mode: metrics[mode]["rollout_ic"]["evaluations_per_trajectory"] for mode in ("base", "search")}
    assert cost == {"base": 4 * 5, "search": 4 * 17}
    error = {mode: metrics[mode]["rollout_ic"]["nrmse"]["mean"] for mode in ("base", "search", "oracle")}
    assert error["oracle"] < min(error["base"], error["search"])


class Draws:
    """Forecasts the last given frame plus noise of a known deviation, for every row of a batch its own."""

    evaluations_per_step = 3

    def __init__(self, std: float) -> None:
        self.std, self.generator = std, torch.Generator().manual_seed(0)

    def __call__(self, given, num_steps, coefficients):
        frames = given[:, -1:].repeat(1, num_steps, *[1] * (given.dim() - 2))
        return frames + self.std * torch.randn(frames.shape, generator=self.generator)


@pytest.mark.parametrize("protocol", ["one_step", "rollout_ic"])
def test_spread_skill_and_crps_of_an_honest_ensemble(protocol):
    """The truth is the first frame plus noise like the ensemble's: spread over skill is 1, CRPS is std / sqrt(pi)."""
    data = advected_sines(trajectories=4, frames=9)
    fields = data.fields[:, :1].repeat(1, 9, 1, 1)
    noise = torch.randn(fields.shape, generator=torch.Generator().manual_seed(1))
    fields = fields.clone()
    fields[:, 1:] += 0.2 * noise[:, 1:]
    data = type(data)(**{**vars(data), "fields": fields})
    draw = Draws(0.2)
    mean = EnsembleMean(draw, 8)
    scores = ensemble_score(mean, draw, data, protocol, members=8, batch_size=3, horizons=[2], num_examples=1)
    full = {name: float(values["full"].mean()) for name, values in scores.horizons.items()}
    assert full["spread"] == pytest.approx(0.2, rel=0.05)
    assert scores.frames["crps"].shape == (4, 8)
    assert scores.evaluations_per_trajectory == 8 * 8 * 3
    if protocol == "rollout_ic":  # under one_step every start has noise of its own
        assert full["spread_skill_ratio"] == pytest.approx(1.0, abs=0.1)
        assert full["crps"] == pytest.approx(0.2 / math.sqrt(math.pi), rel=0.1)
        assert set(scores.horizons["crps"]) == {"2", "full"}
        # The mean of 8 members has 1/8 of their variance, beside the truth's own.
        assert full["rmse"] == pytest.approx(0.2 * math.sqrt(1 + 1 / 8), rel=0.05)
        narrow = ensemble_score(mean, Draws(0.05), data, protocol, members=8, batch_size=4)
        assert float(narrow.horizons["spread_skill_ratio"]["full"].mean()) < 0.5
    written = nested_metrics({"ensemble": {protocol: scores}})["ensemble"][protocol]
    assert {"spread", "skill", "crps", "spread_skill_ratio", "nrmse"} <= set(written)


def test_evaluate_reports_the_ensemble_of_a_flow_alone(surrogate):
    draw = drawing_forecaster(surrogate, 0)
    first, second = draw(U[:, None], 2, C), draw(U[:, None], 2, C)
    assert (first - second).abs().max() > 1e-3
    assert torch.equal(first, drawing_forecaster(surrogate, 0)(U[:, None], 2, C))
    assert draw.evaluations_per_step == 5
