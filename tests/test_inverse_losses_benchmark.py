"""The benchmark of the inverse losses: its verdicts by hand, and one configuration really measured."""

import sys

import pytest
from standin import ROOT

sys.path.insert(0, str(ROOT))

from benchmarks.model import inverse_losses as benchmark


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([-0.5, -0.48], "holds"),
        ([-0.5, -0.44], "cannot tell"),
        ([-0.1, 0.1], "does not hold"),
        ([-0.9, -0.6], "does not hold"),
        ([-0.9, -0.4], "cannot tell"),
    ],
)
def test_a_verdict_needs_all_repetitions_on_one_side(changes, expected):
    assert benchmark.verdict(changes, (-0.55, -0.45)) == expected


def test_the_report_by_hand():
    """Sampling halves the memory of one decoder and leaves the other's; times fall by a quarter."""
    found = {}
    for each in benchmark.configurations():
        some = each.queries == benchmark.SOME
        memory = 100e6 * (0.5 if some and each.decoder == "global" else 1.0) * (0.5 if each.precision == "bf16" else 1)
        found[each] = [{"memory": memory, "seconds": 0.75 if some else 1.0}] * 2
    text = "\n".join(benchmark.report(found))
    assert "| global decoder, 2048 of 4096 queries, fp32 | 50 (50 to 50) | 0.50 | 750 (750 to 750) | 0.75 |" in text
    assert "| sampling saves half of the memory | local | +0% (+0% to +0%) | does not hold |" in text
    assert "| sampling saves half of the memory | global | -50% (-50% to -50%) | holds |" in text
    assert "| sampling saves 20 to 30 % of the time | local | -25% (-25% to -25%) | holds |" in text
    assert "| sampling and bf16 save three quarters of the memory | global | -75% (-75% to -75%) | holds |" in text


def test_every_decoder_is_measured_with_and_without_sampling_in_both_precisions():
    kinds = {(each.decoder, each.queries, each.precision) for each in benchmark.configurations()}
    for decoder in ("local", "global"):
        for precision in ("fp32", "bf16"):
            assert {(decoder, benchmark.ALL, precision), (decoder, benchmark.SOME, precision)} <= kinds
    assert ("local", 0, "fp32") in kinds


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_measurement_counts_the_memory_of_the_loss():
    """The queries' hidden values alone, (B, Q, K, H) in float32, are a lower bound for the local decoder."""
    chosen = benchmark.Configuration("local", 256, "fp32")
    measured = benchmark.in_a_process(chosen, "cpu", 1)
    assert measured["seconds"] > 0
    assert 4 * 10 * 256 * 9 * 256 < measured["memory"] < 2e9
