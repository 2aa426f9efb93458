"""Every variant of the corrector through all the stages that it concerns, at the preset `tiny`; minutes long."""

import math

import pytest
from tiny_variants import FROM_THE_CORRECTOR_ON, metrics, run_variant, variants_of

ALL_BUT_GOLDEN = [name for name in variants_of("diffusion") if name != "golden"]

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("variant", ALL_BUT_GOLDEN)
def test_a_variant_runs_through_all_stages(tiny_golden, variant, tmp_path):
    first = ["train_operator"] if variant == "operator-longer" else []
    folder = run_variant(tiny_golden, tmp_path / "project", variant, [*first, *FROM_THE_CORRECTOR_ON])
    found = metrics(folder, "evaluate")
    error = found["assembled"]["pdebench"]["nrmse"]["mean"]
    assert error is not None
    assert math.isfinite(error)
    corrector, before = metrics(folder, "train_diffusion"), metrics(tiny_golden, "train_diffusion")
    if variant in ("no-diffusion", "operator-longer"):
        assert corrector["status"] == "skipped"
        return
    assert corrector["explained_residual"] is not None
    same = variant in ("tau-beta", "corrector-depth-3")
    assert (corrector["train_loss"] == before["train_loss"]) == same
    assert ("ensemble" in found) == variant.startswith("flow")
    assert metrics(folder, "evaluate_ttc")["verdict"]["recommended"] in (True, False)
