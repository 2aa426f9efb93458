"""Every variant of the search, and its learned reward, through its stages at the preset `tiny`; minutes long."""

import math

import pytest
from standin import ROOT
from swept_variants import metrics, run

from ups.parameters.files import read_yaml

MODES = ("base", "search", "random", "mean", "oracle", "equal_compute")

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("variant", read_yaml(ROOT / "params/sweeps/ttc.yaml")["variants"])
def test_a_variant_of_the_search_is_reported_beside_its_controls(variants_project, variant):
    for name in ("golden", variant):
        run(variants_project, name)
    found, golden = (metrics(variants_project, name, "evaluate_ttc") for name in (variant, "golden"))
    error = {mode: found[mode]["pdebench"]["nrmse"]["mean"] for mode in MODES}
    cost = {mode: found[mode]["pdebench"]["evaluations_per_trajectory"] for mode in MODES}
    assert all(math.isfinite(value) for value in error.values())
    assert found["verdict"]["recommended"] in (True, False)
    assert error["base"] == golden["base"]["pdebench"]["nrmse"]["mean"]
    assert abs(cost["equal_compute"] - cost["search"]) <= cost["base"]
    steps = found["base"]["pdebench"]["frames_predicted"]
    assert cost["base"] == 2 * steps
    reward = metrics(variants_project, variant, "train_reward")
    assert (reward["status"] == "trained") == (variant == "ttc-learned")
    match variant:
        case "ttc-off":
            assert error["search"] == error["oracle"] == error["random"] == error["base"]
            assert cost["search"] == cost["base"]
        case "ttc-golden":
            assert error == {mode: golden[mode]["pdebench"]["nrmse"]["mean"] for mode in MODES}
            assert cost["search"] == 9 * steps
        case "ttc-light":
            assert cost["search"] == 17 * steps
        case "ttc-adaptive":
            share = found["adaptive"]["pdebench"]["searched_share"]
            assert cost["search"] == round((2 + 7 * share) * steps)
            assert 2 * steps < cost["search"] < 9 * steps
        case "ttc-modest":
            # A state, and the eight of the beam: a prediction and eight corrections each, for three steps.
            assert cost["search"] == 3 * 9 * 9 + 2 * (steps - 3)
        case "ttc-learned":
            assert found["rewards"]["used"] == ["learned"]
            assert (reward["chance"], reward["beats_chance"] in (True, False)) == (0.5, True)
            assert cost["search"] == 9 * steps
