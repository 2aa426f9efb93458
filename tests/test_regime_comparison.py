"""One model for several regimes beside specialists: which run is which, and ratios by hand."""

import json
from dataclasses import asdict

import pytest

from ups.evaluation.regime_table import regime_tables
from ups.report.regime_comparison import RegimeRow, markdown, mean, ratio, rows, specialty

REGIMES = ("viscosity=0.01", "viscosity=0.011", "viscosity=0.03", "viscosity=0.1")
KINDS = ("trained", "near", "between", "trained")


def metrics(errors, trained=(0, 3)):
    """Return what `evaluate` writes; `errors` are nRMSE of the assembled surrogate, by regime."""
    kinds = {}
    for at, regime in enumerate(REGIMES):
        kind = KINDS[at] if trained == (0, 3) else "trained" if at in trained else "outside"
        near = REGIMES[0 if at < 2 else 3] if trained == (0, 3) else REGIMES[trained[0]]
        kinds[regime] = {"kind": kind, "trajectories": 8, "nearest_trained": near}
    values = {
        regime: {"assembled": {"pdebench": {"nrmse": {"mean": error, "stderr": None}}}}
        for regime, error in zip(REGIMES, errors, strict=True)
    }
    return {"regime_kinds": kinds, "regimes": values, "assembled": {"pdebench": {}}}


RUNS = {
    "all": {"0": metrics([0.010, 0.012, 0.040, 0.020]), "1": metrics([0.014, 0.016, 0.044, 0.020])},
    "blind": {"0": metrics([0.10, 0.10, 0.10, None]), "1": metrics([0.10, 0.10, 0.10, 0.10])},
    "own-0.01": {"0": metrics([0.010, 0.5, 0.5, 0.5], (0,)), "1": metrics([0.006, 0.5, 0.5, None], (0,))},
    "own-0.03": {"0": metrics([0.5, 0.5, 0.014, 0.5], (2,)), "1": metrics([0.5, 0.5, 0.014, 0.5], (2,))},
}


def test_a_specialist_is_what_trained_on_one_regime_of_several():
    assert [specialty(next(iter(by_seed.values()))) for by_seed in RUNS.values()] == [
        None,
        None,
        "viscosity=0.01",
        "viscosity=0.03",
    ]
    assert specialty({"assembled": {}}) is None  # tested on one regime alone


def test_rows_take_each_specialist_at_its_own_regime_only():
    found = {row.regime: row for row in rows(RUNS)}
    assert [row.kind for row in found.values()] == list(KINDS)
    assert list(found["viscosity=0.01"].errors) == ["all", "blind"]
    assert found["viscosity=0.01"].specialists["assembled"]["pdebench"] == {"0": 0.010, "1": 0.006}
    assert found["viscosity=0.1"].specialists == {}
    own = found["viscosity=0.01"]
    # (0.010 + 0.014) / (0.010 + 0.006)
    assert ratio(own.errors["all"]["assembled"], own.specialists["assembled"], "pdebench") == pytest.approx(1.5)
    assert rows({"one": {"0": {"assembled": {}}}}) == ()
    assert rows({name: RUNS[name] for name in ("own-0.01", "own-0.03")}) == ()


def test_a_diverged_forecast_has_no_mean_and_no_ratio():
    errors = {row.regime: row for row in rows(RUNS)}["viscosity=0.1"].errors["blind"]["assembled"]
    assert mean(errors, "pdebench") is None
    assert ratio(errors, errors, "pdebench") is None


def test_the_document_says_the_largest_multiple_of_each_kind():
    text = "\n".join(markdown(rows(RUNS)))
    assert (
        "| viscosity=0.01 | trained | 8.00e-03 ± 3e-03 | 1.20e-02 ± 3e-03 | 1.50 | 1.00e-01 ± 0e+00 | 12.50 |" in text
    )
    assert "| viscosity=0.1 | trained | – | 2.00e-02 ± 0e+00 | – | diverged | – |" in text
    assert "* all, `pdebench`, on the regimes it was trained on: at most 1.50 times its specialist's error" in text
    assert "* all, `pdebench`, between them: at most 3.00 times its specialist's error (viscosity=0.03)." in text
    # No specialist at 0.011, but its own error at 0.01: 0.014 / 0.012.
    assert "within 10 % of one: at most 1.17 times its own error at the nearest regime" in text


def test_rows_survive_json():
    found = rows(RUNS)
    again = tuple(RegimeRow(**row) for row in json.loads(json.dumps([asdict(row) for row in found])))
    assert again == found


def test_the_table_of_one_run():
    (table,) = regime_tables(RUNS["all"]["0"])
    assert table.header == ("nRMSE pdebench by regime", "kind", "trajectories", "assembled surrogate")
    assert table.rows[1] == ("viscosity=0.011", "near", "8", "1.20e-02")
    assert regime_tables(RUNS["blind"]["0"])[0].rows[3][-1] == "diverged"
    assert "near, not trained on, within 10 %" in table.notes[0]
    assert "outside" not in table.notes[0]
    assert regime_tables({"assembled": {"pdebench": {}}}) == []
