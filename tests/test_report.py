"""`ups report` on a made-up sweep: what is on the page comes from the files, and what is missing is said."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from recorded_runs import write_json
from report_project import log_execution, make_project, search_values
from small_surrogate import write_dataset, write_models
from standin import ups

from ups.data.dataset import read_split
from ups.errors import UpsError
from ups.evaluation.metrics import nrmse
from ups.evaluation.protocols import forecast
from ups.inference.surrogate import load_surrogate
from ups.pipeline.executions import Execution
from ups.report import animation, figures
from ups.report.elements import Html, tag, text
from ups.report.page import page
from ups.report.plan import units
from ups.report.runs import Run, choose

VARIANTS = ("golden", "light-diffusion")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Six seeds of golden and of light-diffusion, which is truly 30 % better."""
    return make_project(tmp_path_factory.mktemp("report"), {"golden": 0.0, "light-diffusion": -0.3})


@pytest.fixture(scope="module")
def whole(original):
    """The page of two seeds, figures included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(original)
        return shown()


@pytest.fixture
def project(original, tmp_path, monkeypatch):
    """The same, to be changed; the current folder."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def artifacts(project, run="golden-0"):
    return project / ".ups" / "results" / run / "artifacts"


def words(html):
    """Return the page's text, without what is in pictures and styles."""
    plain = re.sub(r"<(style|script)>.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", plain).split())


def shown(*names, seeds=(0, 1)):
    return page(choose(names or VARIANTS, seeds), "ups report")


@pytest.fixture
def blank_figures(monkeypatch):
    """Draw nothing: half of a page's time, in tests of its words."""
    monkeypatch.setattr(figures, "drawn", lambda *_: b"<svg/>")


class Elements(HTMLParser):
    """Collects tags and attributes; HTML that does not nest is an error."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes += attributes
        if name not in ("meta", "img", "input", "br"):
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name


def test_the_page_of_a_sweep(project):
    write_json(
        artifacts(project, "golden-2") / "train_codec" / "metrics.json", {"overfitting": {"overfits": True, "gap": 1.7}}
    )
    (project / "params/sweeps/mine.yaml").write_text(
        "# Is light better?\n# Or not?\nvariants: [golden, light-diffusion]\n"
    )
    log_execution(project, "train_codec", "golden", 2, "lost", returncode=-9)
    shutil.rmtree(project / ".ups/results/light-diffusion-1")
    result = ups(project, "report", "mine", "--seeds", "0-2", "-o", "out/page.html")
    assert result.stderr == ""
    assert result.stdout.startswith("out/page.html: 5 runs of golden, light-diffusion")
    html = (project / "out" / "page.html").read_text()
    elements, said = Elements(html), words(html)
    assert [name for name in elements.tags if name == "h2"] == ["h2"] * 12
    assert "Is light better? Or not?" in said
    assert "The reference recipe as it stands" in said
    assert "OVERFITS: validation loss 1.70 times" in said
    assert "light-diffusion, seed 1: no results" in said
    assert "-9 never ran" in said
    assert "train_reward (all runs): epochs is 0." in said
    assert "too few seeds to tell" in said  # two shared ones
    assert "This page was made by ups report mine --seeds 0-2 -o out/page.html" in said
    assert "Files that could not be used" in said
    pictures = [value for name, value in elements.attributes if name == "src"]
    assert len(pictures) >= 6
    assert all(value.startswith("data:image/") for value in pictures)
    assert elements.tags.count("img") == sum(name == "alt" and bool(value) for name, value in elements.attributes)


def test_nothing_on_the_page_comes_from_elsewhere(whole):
    wanted = ("src", "href", "srcset", "action", "poster")
    links = [value for name, value in Elements(whole).attributes if name in wanted]
    assert len(links) > 15
    assert "could not be made" not in whole
    assert all(value.startswith(("data:", "#")) for value in links)
    assert "url(" not in whole
    assert "@import" not in whole
    # Addresses inside of embedded SVG are names of its XML vocabulary, which no browser fetches; none is in the page.
    assert "http" not in whole


def test_verdict_and_claim_follow_from_the_planted_effect(project, blank_figures):
    said = words(shown(seeds=None))
    assert "▲ better" in said
    assert re.search(r"light-diffusion forecasts better than golden .{0,200}✓ holds", said)
    few = words(shown())
    assert "▲ better" not in few
    assert "? too few seeds to tell" in few
    assert "a verdict needs 6 seeds" in few.lower()


def test_numbers_are_those_of_the_files(project, blank_figures):
    before = words(shown("golden"))
    path = artifacts(project) / "evaluate" / "per_trajectory.parquet"
    table = pd.read_parquet(path)
    chosen = (table["model"] == "assembled") & (table["metric"] == "nrmse")
    others = [
        pd.read_parquet(artifacts(project, f"golden-{seed}") / "evaluate" / "per_trajectory.parquet")[chosen][
            "value"
        ].mean()
        for seed in range(2)
    ]
    assert f"{np.mean(others):.2e}" in before
    table.loc[chosen, "value"] += 7.0
    table.to_parquet(path)
    expected = f"{np.mean(others) + 7.0 / 2:.2e}"
    assert expected not in before
    assert expected in words(shown("golden"))


def test_figures_follow_the_files(project, whole):
    def pictures(html):
        return [value for name, value in Elements(html).attributes if name == "src"]

    path = artifacts(project) / "train_codec" / "history.csv"
    path.write_text(path.read_text().replace("8,80,0.125", "8,80,0.001"))
    before, after = pictures(whole), pictures(shown())
    # The same numbers make the same bytes: one figure is another one.
    assert sum(one != two for one, two in zip(before, after, strict=True)) == 1


def test_hostile_names_and_words_are_text(project, blank_figures):
    name = "<img src=x onerror=alert(1)>"
    for seed in range(6):
        folder = project / ".ups/results" / f"light-diffusion-{seed}"
        record = json.loads((folder / "result.json").read_text())
        record |= {"variant": name, "varies": {"</code><script>alert(2)</script>": '"><b>'}}
        write_json(folder / "result.json", record)
        write_json(
            folder / "artifacts/train_codec/metrics.json", {"status": "skipped", "reason": "<script>alert(3)</script>"}
        )
    overlay = "hypothesis: '<script>alert(4)</script> & \"quotes\"'\nvaries: [seed]\n"
    (project / "params/variants" / f"{name}.yaml").write_text(overlay)
    html = page(choose(["golden", name], (0, 1)), 'ups report "<b>"')
    elements = Elements(html)
    assert elements.tags.count("script") == 1  # the page's own
    assert not [value for attribute, value in elements.attributes if attribute.startswith("on")]
    assert "alert(" not in re.sub(r"&lt;script&gt;alert\(|onerror=alert\(", "", html)
    assert "&lt;script&gt;alert(4)&lt;/script&gt; &amp; &quot;quotes&quot;" in html


def test_text_is_escaped_unless_it_is_html():
    assert tag("b", ["<i>", Html("<i></i>")], title='"<') == '<b title="&quot;&lt;">&lt;i&gt;<i></i></b>'
    assert text(None) == ""


PARTS = [
    ("evaluate/metrics.json", None),
    ("evaluate/per_trajectory.parquet", "per_trajectory.parquet: it is not there"),
    ("evaluate/error_vs_time.csv", None),
    ("evaluate_ttc", None),
    ("train_diffusion", None),
    ("train_codec/history.csv", None),
    ("prepare_data", None),
]


@pytest.mark.parametrize(("part", "said"), PARTS)
def test_missing_parts_are_said_and_do_not_stop_the_page(project, blank_figures, part, said):
    for seed in range(6):
        path = artifacts(project, f"golden-{seed}") / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = words(shown())
    assert "Where every number comes from" in found
    assert said is None or said in found


def test_a_project_with_results_and_nothing_in_them(project):
    for path in (project / ".ups/results").glob("*/artifacts"):
        shutil.rmtree(path)
    for name in ("dvc.lock", "params/base.yaml"):
        for path in (project / ".ups/results").glob(f"*/{name}"):
            path.unlink()
    html = shown()
    Elements(html)
    found = words(html)
    assert "No run has results of the stage `evaluate`." in found
    assert "golden, seed 0: no evaluation" in found
    assert found.count("not measured here") >= 18


@pytest.mark.parametrize("content", ["{", "[]", '{"assembled": 3, "corrector": {}}'])
def test_broken_files_are_named(project, blank_figures, content):
    path = artifacts(project) / "evaluate" / "metrics.json"
    path.write_text(content)
    found = words(shown())
    assert "Where every number comes from" in found
    if not content.startswith('{"'):
        after = found.split("Files that could not be used")[1]
        assert str(path.relative_to(project)) in after.split("The claims of the recipe")[0]


def test_words_that_choose_nothing_are_errors(project):
    with pytest.raises(UpsError, match="Did you mean 'golden'"):
        choose(["goldn"])
    with pytest.raises(UpsError, match="no results of no-diffusion"):
        choose(["no-diffusion"])
    with pytest.raises(UpsError, match=r"no results of golden, preset tiny"):
        choose(["golden"], preset="tiny")
    with pytest.raises(UpsError, match="with the seeds 77"):
        choose(["golden"], seeds=[77])
    with pytest.raises(UpsError, match="no results in the working tree"):
        choose()
    shutil.copytree(project / ".ups/results/golden-0", project / ".ups/results/golden-0.tiny")
    record = project / ".ups/results/golden-0.tiny/result.json"
    record.write_text(record.read_text().replace('"default"', '"tiny"'))
    with pytest.raises(UpsError, match="--preset default; --preset tiny"):
        choose(["golden"])
    assert choose(["golden"], preset="tiny").command == "ups sweep golden --seeds 0 --preset tiny"


def test_the_working_tree(project, blank_figures):
    shutil.copytree(artifacts(project), project / "artifacts")
    shutil.copy(artifacts(project).parent / "dvc.lock", project / "dvc.lock")
    chosen = choose()
    assert [(run.variant, run.folder.as_posix()) for run in chosen.runs] == [("base", ".")]
    found = words(page(chosen, "ups report"))
    assert "Report: working tree" in found
    assert "These stages were run by DVC in the working tree" in found
    assert "over the test trajectories of a single seed" in found
    assert "artifacts/evaluate/metrics.json" in found
    assert "base the original parameters" in found
    assert "Unknown variant 'base'" not in found  # it has no file of its own, and none is missing


def test_units_are_what_is_distinct(tmp_path):
    runs = [
        Run("a", 0, tmp_path, fingerprints={"s": "1", "t": "2"}),
        Run("b", 0, tmp_path, fingerprints={"s": "1", "t": "3"}),
    ]
    log = [Execution("s", "1", "k", "a", 0, 0.0, 5.0, 1), Execution("s", "1", "k", "a", 0, 9.0, 12.0, 0)]
    found = units(runs, log)
    assert [(unit.stage, len(unit.runs)) for unit in found] == [("s", 2), ("t", 1), ("t", 1)]
    assert found[0].executed is log[1]
    assert found[0].attempts == (log[0],)
    assert found[1].executed is None


def test_shared_and_cached_stages_are_counted(project, blank_figures):
    log_execution(project, "simulate", "golden", 0, "simulate-all")
    found = words(shown(seeds=None))
    assert "12 runs need 144 stage results; 133 of them are distinct. 1 were executed" in found
    assert "simulate 1 0 12 30.0 s all" in found


@pytest.fixture
def filmed(tmp_path):
    """A run with a surrogate, its data and an evaluation that agrees with both."""
    data = read_split(write_dataset(tmp_path / "data.h5", rows=5, frames=9), "test")
    folders = write_models(tmp_path / "models")
    surrogate = load_surrogate(**folders, metadata=data.metadata)
    home = tmp_path / "artifacts"
    surrogate.save(home / "evaluate" / "surrogate")
    for stage in ("prepare_data", "evaluate_ttc"):
        (home / stage).mkdir()
    shutil.move(tmp_path / "data.h5", home / "prepare_data" / "dataset.h5")
    result = forecast(surrogate.forecaster(), "pdebench", data.fields, data.coefficients)
    errors = nrmse(result.prediction, result.target).mean(1).numpy()
    search_values(home, errors, errors, 1.0)
    table = pd.read_parquet(home / "evaluate_ttc" / "per_trajectory.parquet").query("model == 'base'")
    table.assign(model="assembled").to_parquet(home / "evaluate" / "per_trajectory.parquet")
    return Run("golden", 0, tmp_path)


def test_the_film_is_the_forecast_that_was_evaluated(filmed):
    found = animation.film(filmed, "pdebench")
    assert found.agrees
    assert found.error == pytest.approx(found.recorded, rel=1e-5)
    assert found.truth.shape == found.prediction.shape == (6, 32)  # 3 of 9 frames are given
    drawing = animation.animated(found)
    Elements(drawing)
    assert drawing.count('class="frame') == 6
    assert drawing.count("still") == 1
    assert len(drawing) < 1_000_000
    assert "prediction" in drawing
    table = pd.read_parquet(filmed.artifacts / "evaluate" / "per_trajectory.parquet")
    table["value"] *= 1.5
    table.to_parquet(filmed.artifacts / "evaluate" / "per_trajectory.parquet")
    assert not animation.film(filmed, "pdebench").agrees


def test_a_forecast_that_ran_away_is_drawn_within_the_frame(filmed):
    found = animation.film(filmed, "pdebench")
    found.prediction[2:] = np.nan
    found.prediction[1] = 1e9
    heights = [float(y) for y in re.findall(r"\d+,(-?\d+)", animation.animated(found))]
    assert 0 <= min(heights) <= max(heights) <= 480


def test_help_needs_nothing_heavy(project):
    assert "report.html" in ups(project, "report", "--help").stdout
