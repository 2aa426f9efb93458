"""Surrogates in MLflow's registry, and the alias `champion` that moves by a verdict alone."""

import os
import shutil
import sqlite3

import numpy as np
import pytest
from recorded_runs import make_run
from small_surrogate import write_bundle
from standin import ROOT

import ups
from ups import tracking
from ups.errors import ArtifactError
from ups.pipeline import publish
from ups.report.champion import promote

pytest.importorskip("mlflow")

SEEDS = range(6)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Six seeds of golden, of one variant that is clearly better and of one that is not, each with a surrogate."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(ROOT)  # make_run hashes the code that is there
    generator = np.random.default_rng(0)
    scale = {"golden": 1.0, "light-diffusion": 0.5, "no-diffusion": 1.0}
    for variant, factor in scale.items():
        for seed in SEEDS:
            folder = tmp_path / ".ups/results" / f"{variant}-{seed}"
            make_run(folder, variant, seed, factor * generator.lognormal(0.0, 0.05, 8))
            write_bundle(folder / "artifacts/evaluate/surrogate")
    for name in ("params", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)

    def published(folder):
        variant, _, seed = folder.name.rpartition("-")
        tags = {"variant": variant, "preset": "default", "seed": seed}
        return tracking.log(tracking.Run("burgers1d", folder.name, folder.name, 1e9, 1e9, tags=tags))

    monkeypatch.setattr(publish, "publish_results", published)


def test_the_champion_changes_only_for_a_better_variant(project):
    chosen, reason = promote("golden")
    assert (chosen.version, reason) == ("1", "there was none for burgers1d before, so nothing was compared.")
    with pytest.raises(ArtifactError, match="champion of burgers1d already"):
        promote("golden")
    with pytest.raises(ArtifactError, match="stays version 1"):
        promote("no-diffusion")
    assert tracking.champion("burgers1d") == chosen
    better, reason = promote("light-diffusion")
    assert "better" in reason
    assert tracking.champion("burgers1d") == better
    assert tracking.read_run(better.run_id).tags["seed"] == "0"  # not the seed with the best test error
    with pytest.raises(ArtifactError, match="stays version"):
        promote("golden")


def test_the_base_may_be_what_the_working_tree_holds(project, tmp_path, monkeypatch):
    """After `make repro` alone: no sweep ever ran."""
    made = tmp_path / ".ups/results/golden-0"
    for name in ("artifacts", "dvc.lock"):
        (tmp_path / name).symlink_to(made / name)
    (tmp_path / "params").unlink()
    shutil.copytree(made / "params", tmp_path / "params")
    tags = {"variant": "base", "preset": "default", "seed": "0"}
    monkeypatch.setattr(
        publish, "publish", lambda: tracking.log(tracking.Run("burgers1d", "b", "b", 1e9, 1e9, tags=tags))
    )
    chosen, _ = promote("base")
    assert tracking.read_run(chosen.run_id).tags["variant"] == "base"


def test_a_variant_without_results_is_no_champion(project):
    with pytest.raises(ArtifactError, match="There are no results of"):
        promote("tokens-64")
    assert tracking.champion("burgers1d") is None


def test_a_surrogate_is_registered_once_and_loads_by_its_alias(project, tmp_path):
    link = tracking.log(tracking.Run("burgers1d", "r", "f" * 32, 1e9, 1e9))
    bundle = tmp_path / ".ups/results/golden-0/artifacts/evaluate/surrogate"
    first = tracking.register(link.run_id, bundle, "burgers1d")
    assert tracking.register(link.run_id, bundle, "burgers1d") == first
    assert tracking.read_run(link.run_id).status == "FINISHED"
    tracking.set_champion(first, "test")
    loaded, original = ups.load("models:/burgers1d@champion"), ups.load(bundle)
    state = original.state(np.sin(2 * np.pi * original.x), viscosity=0.01)
    np.testing.assert_array_equal(loaded.step(loaded.state(state.u, viscosity=0.01)).u, original.step(state).u)


def test_a_store_that_a_server_opened_first_takes_surrogates_too(project, tmp_path):
    """Its default experiment keeps files where only the server writes; the model belongs to the run's experiment."""
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=tracking.store())
    client.search_experiments()  # makes the database
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("update experiments set artifact_location = 'mlflow-artifacts:/0' where experiment_id = 0")
    link = tracking.log(tracking.Run("burgers1d", "r", "f" * 32, 1e9, 1e9))
    bundle = tmp_path / ".ups/results/golden-0/artifacts/evaluate/surrogate"
    tracking.set_champion(tracking.register(link.run_id, bundle, "burgers1d"), "test")
    assert [model.experiment_id for model in client.search_logged_models([link.experiment_id])] == [link.experiment_id]
    assert client.search_logged_models(["0"]) == []
    assert "MLFLOW_EXPERIMENT_ID" not in os.environ
    ups.load("models:/burgers1d@champion")
