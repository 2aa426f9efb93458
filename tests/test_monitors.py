"""What watches the trainings, from planted trouble to the words on the page: gradients, gaps, rollouts."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import torch
from recorded_runs import write_json
from report_project import make_project
from torch import nn

from ups.parameters.section import Optimization, Section
from ups.report import figures
from ups.report.material import Material
from ups.report.monitors import alarms_of, monitor_section
from ups.report.runs import choose
from ups.stages.training import Execution
from ups.training.losses import Term, mse
from ups.training.machine import Machine


class Params(Section):
    seed: int


def finished(folder, factor=None, gap=()):
    """Train a small regression; `factor` multiplies the loss of some updates, `gap` are the validation losses."""
    folder.mkdir()
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    epochs = 8
    seen = []

    def loss(model, indices, progress, generator):
        value = mse(model(x[indices]), x[indices, :1])
        return {"mse": Term(value * (factor or {}).get(progress.update, 1.0))}

    def validate(model):
        seen.append(1)
        return {"train_loss": 1.0, "val_loss": gap[len(seen) - 1] if gap else 1.0}

    torch.manual_seed(0)
    optimization = Optimization(epochs=epochs, updates_per_epoch=2, pairs_per_update=8, learning_rate=1e-3)
    execution = Execution("train_codec", Params(seed=0), {}, folder, Machine(torch.device("cpu")))
    trained = execution.train(nn.Linear(4, 1), loss, validate, 32, optimization)
    return execution.finish(trained, {})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # checkpoints are kept below the current folder
    monkeypatch.setattr(figures, "drawn", lambda *_: b"<svg/>")


def test_a_quiet_training_raises_no_alarm(tmp_path):
    metrics = finished(tmp_path / "out")
    assert metrics["alarms"] == []
    assert metrics["gradients"]["large"] == metrics["gradients"]["skipped"] == 0
    assert 0 < metrics["gradients"]["median"] <= metrics["gradients"]["largest"] < 100
    assert metrics["gradients"]["updates"] == 16
    json.dumps(metrics, allow_nan=False)


def test_runaway_gradients_are_counted_and_said(tmp_path):
    """Planted: two updates whose gradient is above 100 and skipped, one that is above 100 and taken."""
    quiet = finished(tmp_path / "quiet")["gradients"]["median"]
    metrics = finished(tmp_path / "out", factor={3: 1e6, 7: 1e5, 9: 300 / quiet})
    assert (metrics["gradients"]["large"], metrics["gradients"]["skipped"]) == (3, 2)
    assert metrics["skipped_updates"] == 2
    (alarm,) = metrics["alarms"]
    assert alarm.startswith("GRADIENTS: gradient norm above 100 in 3 of 16 updates; 2 above 1000 skipped, largest ")
    assert metrics["gradients"]["median"] < 10  # most updates are as they were


def test_a_gap_that_grows_is_said(tmp_path):
    metrics = finished(tmp_path / "out", gap=[1.0, 1.1, 1.22, 1.29, 1.41, 1.5, 1.58, 1.71])
    (alarm,) = metrics["alarms"]
    assert alarm.startswith("OVERFITS: validation loss 1.71 times the training loss and rising by 0.0")
    assert metrics["overfitting"]["gap_slope_low"] > 0


# --- on the page ------------------------------------------------------------------------------------------------------


class Rows(HTMLParser):
    """The cells of every table row, as text."""

    def __init__(self, html):
        super().__init__()
        self.rows, self.inside = [], False
        self.feed(html)

    def handle_starttag(self, name, attributes):
        if name == "tr":
            self.rows.append([])
        if name in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, name):
        self.inside = self.inside and name not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += f" {data}"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("monitors"), {"golden": 0.0, "light-diffusion": -0.3}, seeds=2)


@pytest.fixture
def project(original, tmp_path):
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path


def stage(project, run, name):
    return project / ".ups" / "results" / run / "artifacts" / name


def shown():
    html = monitor_section(Material(choose(("golden", "light-diffusion"))))
    rows = Rows(html).rows
    cells = [[" ".join(cell.split()) for cell in row] for row in rows[1:] if len(row) > 6]
    return html, {(row[0], row[1].rsplit(" ", 2)[0]): row for row in cells}


def write_history(folder, large=0, skipped=0, largest=3.0, losses=None):
    header = "epoch,updates,train_loss,val_loss,val_zero_correction,grad_norm_median,grad_norm_max,large_gradients"
    rows = [
        f"{n},{10 * n},1.0,{(losses or [1.0] * 8)[n - 1]},0.9,0.5,{largest if n == 4 else 1.0},"
        f"{large if n == 4 else 0},{skipped if n == 4 else 0},{n}"
        for n in range(1, 9)
    ]
    (folder / "history.csv").write_text(f"{header},skipped_updates,seconds\n" + "\n".join(rows) + "\n")


def test_one_row_for_each_stage_that_trained_shared_ones_once(project):
    html, rows = shown()
    assert list(rows) == [(name, "all variants") for name in ("train_codec", "train_operator", "train_diffusion")]
    assert all(row[1].endswith("2 trainings") for row in rows.values())
    assert rows["train_codec", "all variants"][2:4] == ["– largest 3", "–"]  # these histories have no counts
    assert rows["train_codec", "all variants"][6] == "reached in 2 of 2, first in epoch 2 of 8"  # 1.2 / n < 1
    assert "Across runs. Overfitting alarm" in html


def test_planted_runaway_gradients_stand_in_the_row_of_their_stage(project):
    folder = stage(project, "golden-0", "train_codec")
    write_history(folder, large=5, skipped=3, largest=6e10)
    alarm = "GRADIENTS: gradient norm above 100 in 5 of 80 updates; 3 above 1000 skipped, largest 6e+10."
    write_json(folder / "metrics.json", {"status": "trained", "alarms": [alarm], "skipped_updates": 3})
    _, rows = shown()
    row = rows["train_codec", "golden"]
    assert row[2:4] == ["0.5 largest 6e+10", "5 of 160 3 skipped, above 1000"]
    assert f"seed 0: {alarm}" in row[7]
    assert row[7].count("seed") == 1  # the other seed is quiet
    assert rows["train_codec", "light-diffusion"][7] == "none"


def test_a_planted_gap_and_a_corrector_above_the_zero_line_stand_in_their_row(project):
    for seed, gap in ((0, 1.71), (1, 1.75)):
        folder = stage(project, f"golden-{seed}", "train_diffusion")
        write_history(folder, losses=[gap] * 8)
        state = {"gap": gap, "gap_slope": 0.1, "gap_slope_low": 0.09, "gap_slope_high": 0.11, "overfits": True}
        alarm = f"OVERFITS: validation loss {gap} times the training loss and rising."
        measured = {"epochs": 8, "r": -0.97, "low": -0.99, "high": -0.8, "alarm": True}
        metrics = {"train_loss": 1.0, "overfitting": state, "alarms": [alarm], "loss_against_rollouts": measured}
        write_json(folder / "metrics.json", metrics)
    html, rows = shown()
    row = rows["train_diffusion", "golden"]
    assert row[4] == "1.730 1.710 to 1.750"
    assert row[5].startswith("+0.1 ")
    assert row[6] == "NOT reached in any of 2"
    assert [f"seed {seed}: OVERFITS: validation loss {gap}" in row[7] for seed, gap in ((0, 1.71), (1, 1.75))] == [
        True
    ] * 2
    assert re.search(r"golden.*-0\.97.*-0\.99 to -0\.80.*RINGS", re.sub(r"<[^>]+>", " ", html), re.DOTALL)


def test_one_training_has_the_interval_over_its_epochs(project):
    shutil.rmtree(project / ".ups/results/golden-1")
    shutil.rmtree(project / ".ups/results/light-diffusion-1")
    for run in ("golden-0", "light-diffusion-0"):
        state = {"gap": 1.1, "gap_slope": 0.02, "gap_slope_low": -0.01, "gap_slope_high": 0.05, "overfits": False}
        write_json(stage(project, run, "train_codec") / "metrics.json", {"overfitting": state, "alarms": []})
    _, rows = shown()
    row = rows["train_codec", "all variants"]
    assert row[1].endswith("1 training")
    assert row[5] == "+0.02 -0.01 to +0.05"


def test_results_from_before_the_words_say_what_their_numbers_say():
    older = {"skipped_updates": 4, "overfitting": {"overfits": True, "gap": 1.7}}
    assert alarms_of(older) == [
        "OVERFITS: validation loss 1.70 times the training loss and rising.",
        "4 updates were skipped for exploding gradients.",
    ]
    assert alarms_of({"status": "skipped"}) == []


def test_without_a_training_the_section_says_so(project):
    for path in project.glob(".ups/results/*/artifacts/*/history.csv"):
        path.unlink()
    assert "No stage left a history" in monitor_section(Material(choose(("golden", "light-diffusion"))))
