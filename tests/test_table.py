import json
import subprocess
import sys

import pytest

from ups.errors import ArtifactError
from ups.evaluation.table import read_results, results_table


def _result(mean, stderr=1e-4, seconds=0.0125, evaluations=31, diverged=0):
    return {
        "nrmse": {"mean": mean, "stderr": stderr},
        "pdebench_nrmse": {"mean": None if mean is None else 1.5 * mean, "stderr": None},
        "diverged": diverged,
        "seconds_per_trajectory": seconds,
        "evaluations_per_trajectory": evaluations,
    }


EVALUATE = {
    "operator": {"one_step": _result(1e-3), "pdebench": _result(4.4e-3, 2.1e-4)},
    "persistence_last": {"one_step": _result(0.1), "pdebench": _result(0.62, 0.02, 1e-6, None)},
    "student": {"one_step": _result(2e-3), "pdebench": _result(None, None, diverged=3)},
    "finite_volume_256": {"one_step": _result(1e-4), "pdebench": _result(5e-4)},
    "finite_volume_64": {"one_step": _result(1e-2), "pdebench": _result(8e-3)},
    "reconstruction": {"nrmse": {"mean": 2e-4, "stderr": 1e-5}},
    "finite_volume_choice": {"against": "assembled", "equal_cost": {"cells": 256}, "equal_error": {"cells": None}},
    "corrector": {"status": "skipped"},
    "trajectories": 128,
}
SEARCH = {"base": {"pdebench": _result(4.0e-3)}, "search": {"pdebench": _result(3.9e-3, evaluations=900)}}


def test_rows_columns_and_numbers():
    table = results_table(EVALUATE, SEARCH)
    assert [row[0] for row in table.rows] == [
        "persistence (last given frame)",
        "finite volumes, 64 cells",
        "finite volumes, 256 cells",
        "operator",
        "student",
        "TTC base",
        "TTC search",
        "codec reconstruction (every frame)",
    ]
    assert table.header[1:3] == ("nRMSE one_step", "nRMSE pdebench")
    operator = dict(zip(table.header, table.rows[3], strict=True))
    assert operator["nRMSE pdebench"] == "4.40e-03 ± 2.1e-04"
    assert operator["PDEBench's own code"] == "6.60e-03"
    assert operator["ms / trajectory"] == "12.5"
    assert operator["network evaluations"] == "31"
    student = dict(zip(table.header, table.rows[4], strict=True))
    assert student["nRMSE pdebench"] == "diverged (3)"
    assert student["PDEBench's own code"] == "–"
    assert table.rows[0][-1] == "–"
    assert any("4.5% of the operator's error (pdebench)" in note for note in table.notes)  # 2e-4 / 4.4e-3
    assert any("equal cost" in note and "256 cells" in note for note in table.notes)
    assert any("equal error" in note and "no candidate" in note for note in table.notes)


@pytest.mark.parametrize(("beats", "words"), [(True, "beats"), (False, "does not beat")])
def test_single_steps_and_what_rollouts_decided_are_reported(beats, words):
    one_step = {"status": "trained", "explained_residual": 0.25 if beats else -0.5, "beats_zero_correction": beats}
    decided = {"reason": "Rollouts are worse with it. The assembled surrogate is the operator alone."}
    notes = results_table({**EVALUATE, "corrector": one_step, "assembly": decided}).notes
    said = next(note for note in notes if f"the corrector {words} the zero correction" in note)
    assert ("0.250" if beats else "-0.500") in said
    assert decided["reason"] in notes
    older = results_table({**EVALUATE, "corrector": one_step}).notes
    assert any("older than the decision" in note for note in older)


def test_text_is_aligned_and_markdown_is_a_table():
    table = results_table(EVALUATE)
    lines = table.text().splitlines()
    assert len({line.index("±") for line in lines[2:5]}) == 1
    marked = table.markdown().splitlines()
    assert marked[1].count("|") == marked[0].count("|") == len(table.header) + 1
    assert all(line.count("|") == marked[0].count("|") for line in marked[: len(table.rows) + 2])


def test_reads_files_without_torch(tmp_path):
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate" / "metrics.json").write_text(json.dumps(EVALUATE))
    code = (
        "import sys; from ups.evaluation.table import main; "
        f"status = main([{str(tmp_path)!r}, '--markdown']); assert 'torch' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "| operator | 1.00e-03 ± 1.0e-04 |" in done.stdout


def test_missing_results_say_what_to_run(tmp_path):
    with pytest.raises(ArtifactError, match="dvc repro evaluate"):
        read_results(tmp_path)
