"""What MLflow shows a person: the errors of every trajectory as tables, descriptions, figures under their names."""

import json

import pytest
import torch
from example_fields import advected_sines, drift

from ups.errors import ArtifactError
from ups.evaluation.records import PER_TRAJECTORY, nested_metrics, per_trajectory
from ups.evaluation.scores import score
from ups.pipeline import collect, description
from ups.tracking import Run, log, store

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def artifacts(tmp_path):
    """Four models under two protocols, scored and written as `evaluate` does."""
    data = advected_sines(frames=14, first_index=7)
    scores = {
        "operator": {
            protocol: score(drift(0.1), data, protocol, batch_size=4) for protocol in ("one_step", "pdebench")
        },
        "assembled": {
            protocol: score(drift(0.2), data, protocol, batch_size=4) for protocol in ("one_step", "pdebench")
        },
    }
    for stage, models in (
        ("evaluate", scores),
        ("evaluate_ttc", {"search": {"pdebench": scores["operator"]["pdebench"]}}),
    ):
        (tmp_path / stage).mkdir()
        per_trajectory(models, data).to_parquet(tmp_path / stage / PER_TRAJECTORY)
        (tmp_path / stage / "metrics.json").write_text(json.dumps(nested_metrics(models)))
    return tmp_path, scores


def test_tables_hold_the_errors_of_every_trajectory(artifacts):
    folder, scores = artifacts
    tables = description.tables(folder)
    # The first table and the first column after the rows' are what MLflow shows first.
    assert list(tables) == ["evaluation/nrmse_pdebench.json", "evaluation/nrmse_one_step.json"]
    table = tables["evaluation/nrmse_pdebench.json"]
    assert list(table) == ["trajectory", "assembled", "operator", "ttc search"]
    assert table["trajectory"] == [7, 8, 9, 10]
    for model in ("operator", "assembled"):
        expected = scores[model]["pdebench"].horizons["nrmse"]["full"].tolist()
        assert table[model] == pytest.approx(expected, rel=1e-5)
    assert table["ttc search"] == table["operator"]
    json.dumps(tables, allow_nan=False)


def test_what_the_assembled_surrogate_is_stands_in_the_description_and_in_a_tag(artifacts):
    folder, _ = artifacts
    assert collect._verdicts(folder) == {}
    path = folder / "evaluate" / "metrics.json"
    decided = {"assembled": "operator", "reason": "The corrector does not pay."}
    path.write_text(json.dumps({**json.loads(path.read_text()), "assembly": decided}))
    assert collect._verdicts(folder) == {"assembled": "operator"}
    assert description.of_run(folder).endswith("|\n\nThe corrector does not pay.")


def test_a_diverged_forecast_is_an_empty_cell(artifacts):
    folder, scores = artifacts
    scores["operator"]["pdebench"].horizons["nrmse"]["full"][2] = torch.nan
    per_trajectory(scores, advected_sines(frames=14, first_index=7)).to_parquet(folder / "evaluate" / PER_TRAJECTORY)
    column = description.tables(folder)["evaluation/nrmse_pdebench.json"]["operator"]
    assert [value is None for value in column] == [False, False, True, False]


def test_the_description_orders_the_models_by_their_error(artifacts):
    lines = description.of_run(artifacts[0]).splitlines()
    assert lines[2:4] == ["| model | pdebench | one_step |", "|---|---:|---:|"]
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| operator", "| ttc search", "| assembled"]
    assert lines[5].endswith("| – |")
    assert description.of_run(artifacts[0] / "nowhere") == ""


def test_mlflow_gives_the_tables_back_run_beside_run(artifacts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tables = description.tables(artifacts[0])
    made = [
        log(Run("e", name, name * 16, 1e9, 1e9, tables=tables, about="All runs.", summary="This run."))
        for name in ("ab", "cd")
    ]
    client = mlflow.MlflowClient(tracking_uri=store())
    found = client.load_table(made[0].experiment_id, "evaluation/nrmse_pdebench.json", extra_columns=["run_id"])
    assert len(found) == 8
    assert set(found["run_id"]) == {link.run_id for link in made}
    one = found[found["run_id"] == made[1].run_id]
    expected = tables["evaluation/nrmse_pdebench.json"]["assembled"]
    assert one["assembled"].tolist() == pytest.approx(expected, rel=1e-9)  # mlflow writes ten decimals
    assert log(Run("e", "ab", "ab" * 16, 1e9, 1e9, tables=tables)).was_there  # nothing is appended
    assert len(client.load_table(made[0].experiment_id, "evaluation/nrmse_pdebench.json")) == 8


def test_a_description_that_a_person_wrote_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    link = log(Run("e", "a", "a" * 32, 1e9, 1e9, about="All runs."))
    client = mlflow.MlflowClient(tracking_uri=store())
    said = client.get_experiment(link.experiment_id).tags["mlflow.note.content"]
    assert said.startswith("All runs.\n")
    assert f"](#/experiments/{link.experiment_id}/runs?compareRunsMode=ARTIFACT" in said
    client.set_experiment_tag(link.experiment_id, "mlflow.note.content", "Mine.")
    log(Run("e", "b", "b" * 32, 1e9, 1e9, about="All runs."))
    assert client.get_experiment(link.experiment_id).tags["mlflow.note.content"] == "Mine."


def test_two_figures_of_one_name_are_refused(tmp_path):
    for stage in ("evaluate", "evaluate_ttc"):
        (tmp_path / "artifacts" / stage / "figures").mkdir(parents=True)
        (tmp_path / "artifacts" / stage / "figures" / "rollout.png").write_bytes(b"png")
    assert next(collect._files(tmp_path, ["evaluate"])) == (tmp_path / "artifacts/evaluate/figures/rollout.png", "")
    with pytest.raises(ArtifactError, match=r"name of a figure of 'evaluate'"):
        list(collect._files(tmp_path, ["evaluate", "evaluate_ttc"]))
