"""Kept result tables: the numbers are the runs', and the document says what a single seed is worth."""

import json
import statistics
from pathlib import Path

import pytest
from report_project import make_project
from standin import ups

from ups.errors import ArtifactError, UpsError
from ups.report import result_document, result_tables
from ups.report.runs import choose


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Six seeds of golden and of light-diffusion, which is truly 30 % better."""
    return make_project(tmp_path_factory.mktemp("tables"), {"golden": 0.0, "light-diffusion": -0.3})


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project)
    return project


def _error(project, variant, seed, model, protocol="pdebench"):
    path = project / ".ups" / "results" / f"{variant}-{seed}" / "artifacts" / "evaluate" / "metrics.json"
    return json.loads(path.read_text())[model][protocol]["nrmse"]["mean"]


def test_the_rows_hold_what_the_runs_hold(here):
    table = result_tables.make("t", "T", choose(["golden", "light-diffusion"]))
    rows = {(row.variant, row.model): row for row in table.rows}
    for variant in ("golden", "light-diffusion"):
        found = rows[variant, "assembled"].errors["pdebench"]
        assert found == {str(seed): _error(here, variant, seed, "assembled") for seed in range(6)}
        # The operator alone was chosen: the corrector's training is not part of what the assembled surrogate needs.
        seconds = {model: rows[variant, model].training_seconds for model in ("assembled", "operator", "corrected")}
        assert seconds["assembled"] == seconds["operator"] != seconds["corrected"]
    assert rows["", "fno"].errors["pdebench"]["3"] == _error(here, "golden", 3, "fno")
    assert [each["verdict"] for each in table.verdicts["pdebench"]] == ["better"]
    assert table.seeds == (0, 1, 2, 3, 4, 5)
    assert "--seeds 0,1,2,3,4,5" in table.command


def test_a_table_survives_its_file(here, tmp_path):
    table = result_tables.make("t", "T", choose(["golden", "light-diffusion"]), "A note.", with_claims=True)
    path = result_tables.save(table, tmp_path / "results")
    assert result_document.document([result_tables.load(path)]) == result_document.document([table])
    path.write_text(path.read_text()[:-30])
    with pytest.raises(ArtifactError, match="is no result table"):
        result_tables.load(path)


def test_a_benchmark_answers_for_a_table_that_was_kept_before_it(here, tmp_path, monkeypatch):
    table = result_tables.make("t", "T", choose(["golden"], task="burgers1d"), with_claims=True)
    monkeypatch.chdir(tmp_path)
    before = result_document.document([table])
    kept = {
        "verdict": "does not hold",
        "measured": "0.9 times",
        "command": "python b.py",
        "commit": "c",
        "machine": "m",
    }
    Path("docs/results/benchmarks").mkdir(parents=True)
    Path("docs/results/benchmarks/compile-speeds-up.json").write_text(json.dumps(kept))
    changed = set(result_document.document([table]).splitlines()) - set(before.splitlines())
    assert [line for line in changed if "**does not hold** 0.9 times; `python b.py` at commit c, m" in line]
    assert len(changed) == 1


def test_a_kept_table_of_more_seeds_is_not_lost_by_a_slip(here, tmp_path):
    whole, one = (result_tables.make("t", "T", choose(["golden"], seeds)) for seeds in (None, [0]))
    path = result_tables.save(whole, tmp_path)
    before = path.read_bytes()
    result_tables.save(whole, tmp_path)
    with pytest.raises(UpsError, match=r"seeds 0, 1, 2, 3, 4, 5; these are .* seeds 0\..*--replace"):
        result_tables.save(one, tmp_path)
    assert path.read_bytes() == before
    result_tables.save(one, tmp_path, replace_fewer=True)
    assert path.read_bytes() != before


def test_the_document_gives_spread_and_worst_seed_and_a_single_seed_none(here):
    text = result_document.document([result_tables.make("t", "T", choose(["golden", "light-diffusion"]))])
    errors = [_error(here, "light-diffusion", seed, "assembled") for seed in range(6)]
    shown = f"{statistics.fmean(errors):.2e} ± {statistics.stdev(errors):.0e} (worst {max(errors):.2e})"
    assert f"| **light-diffusion** | – | {shown} |" in text
    single = result_document.document([result_tables.make("t", "T", choose(["golden"], [0]))])
    assert "±" not in single.split("## T")[1]
    assert f"{_error(here, 'golden', 0, 'assembled'):.2e}" in single


def test_a_missing_seed_is_no_table(here):
    with pytest.raises(ArtifactError, match="no results of golden with seed 9"):
        result_tables.make("t", "T", choose(["golden"], [0, 9]))


def test_the_command_keeps_and_writes(here):
    said = ups(here, "table", "lights", "golden", "light-diffusion", "--title", "Lights", "--claims", "--write")
    assert "docs/results/lights.json" in said.stdout, said.stderr
    text = (here / "docs" / "results.md").read_text()
    assert "## Lights" in text
    assert "light-diffusion against golden, `pdebench`, 6 pairs of seeds: **better**" in text
    assert "| claim of the recipe |" in text
