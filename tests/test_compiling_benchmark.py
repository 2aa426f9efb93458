"""The benchmark of compiled updates: its table by hand, and an operator really compiled."""

import sys

import pytest
from standin import ROOT

sys.path.insert(0, str(ROOT))

from benchmarks.model import compiling


def test_the_table_by_hand():
    """2 ms saved in each update earn 10 s of compiling after 5,000 of them; a slower compiled update never does."""
    faster = [{"eager": 0.006, "compiled": 0.004, "first": 10.0}] * 2
    assert compiling.row("golden", faster)[1:] == ["6", "4", "1.50 (1.50 to 1.50)", "10.0", "5,000"]
    slower = [{"eager": 0.006, "compiled": 0.008, "first": 10.0}, {"eager": 0.006, "compiled": 0.012, "first": 10.0}]
    assert compiling.row("golden", slower)[3:] == ["0.62 (0.50 to 0.75)", "10.0", "never"]


@pytest.mark.nightly
def test_a_measurement_compiles_the_operator():
    measured = compiling.in_a_process("golden", 1, 3)
    assert min(measured.values()) > 0
    assert measured["first"] > measured["eager"]
