"""Every variant through all stages at the preset `tiny`, one after the other in one project; an hour long.

What variants share comes from the cache, so each costs the stages that it changes. Whether a variant has to give other
results than its parent follows from their parameters.
"""

import math
from pathlib import Path

import pytest
from standin import ROOT
from swept_variants import metrics, run

from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import differences
from ups.parameters.overlay import read_variant, resolve
from ups.parameters.train_codec import InverseLosses
from ups.training.codec import inverse_weight

# Those of steady tasks: test_steady_pipeline.py.
STEADY = {"steady-prior", "steady-prior-one-step"}
VARIANTS = sorted({path.stem for path in (ROOT / "params/variants").glob("*.yaml")} - STEADY)
INVERSE = "train_codec.inverse_losses."


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def resolved(variant: str | None, preset: str = "tiny") -> dict:
    return resolve(read_yaml(BASE), variant=variant, preset=preset)


def inverse_weights(parameters: dict) -> list[float]:
    """Return the weight of the inverse losses in each epoch of the codec's training."""
    settings = InverseLosses.model_validate(parameters["train_codec"]["inverse_losses"])
    return [inverse_weight(epoch, settings) for epoch in range(parameters["train_codec"]["optimization"]["epochs"])]


def has_an_effect(variant: str, parent: str | None) -> bool:
    """Tell from the parameters at `tiny` whether the results of two variants can differ at all."""
    one, two = resolved(parent), resolved(variant)
    changed = {key for key in differences(one, two) if not key.startswith("compute.")}
    if not any(inverse_weights(one) + inverse_weights(two)):
        changed = {key for key in changed if not key.startswith(INVERSE)}
    return bool(changed)


def test_what_has_no_effect_at_tiny_has_one_at_full_length_or_is_golden_by_another_name():
    without = {v for v in VARIANTS if (parent := read_variant(v).extends) and not has_an_effect(v, parent)}
    # The codec's four epochs are over before golden's inverse losses begin, and lengths are cut to the same.
    cut_short = {"inverse-off", "inverse-small", "operator-longer"}
    assert without == {"corrector-depth-3", "tau-beta", "ttc-golden", *cut_short}
    for variant in cut_short:
        parent = read_variant(variant).extends
        assert differences(resolved(parent, "default"), resolved(variant, "default")), variant


def results(project: Path, variant: str) -> dict[str, object]:
    """Return the losses of all trained stages, and what the evaluations found."""
    found: dict[str, object] = {}
    for stage in ("train_codec", "train_operator", "train_diffusion", "distill"):
        kept = metrics(project, variant, stage)
        found[stage] = (kept["status"], kept.get("train_loss"), kept.get("val_loss"))
    for stage, part in (("evaluate", "assembled"), ("evaluate_ttc", "search")):
        scores = metrics(project, variant, stage).get(part, {})
        found[stage] = scores and scores["pdebench"]["nrmse"]["mean"]
    return found


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_runs_through_all_stages_and_differs_from_its_parent_where_it_should(variants_project, variant):
    project = variants_project
    run(project, variant)
    evaluated, corrector = metrics(project, variant, "evaluate"), metrics(project, variant, "train_diffusion")
    error = evaluated["assembled"]["pdebench"]["nrmse"]["mean"]
    assert error is not None
    assert math.isfinite(error)
    trains_one = resolved(variant)["train_diffusion"]["optimization"]["epochs"] > 0
    assert (corrector["status"] == "trained") == trains_one
    if trains_one:
        assert corrector["explained_residual"] is not None
        assert metrics(project, variant, "evaluate_ttc")["verdict"]["recommended"] in (True, False)
    assert ("ensemble" in evaluated) == variant.startswith("flow")
    parent = read_variant(variant).extends
    if parent:
        run(project, parent)
        assert (results(project, parent) != results(project, variant)) == has_an_effect(variant, parent)
