"""The recipe's capacity and codec variants hold the recipe's numbers, and change nothing else."""

import pytest
from standin import ROOT

from ups.parameters import overlay
from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import differences
from ups.parameters.overlay import read_variant, resolve
from ups.parameters.sweeps import read_sweep

# The steady prior is none of the recipe's, and has no place on tasks with a time.
VARIANTS = sorted(
    path.stem for path in (ROOT / "params/variants").glob("*.yaml") if not path.stem.startswith("steady-prior")
)
WITHOUT = [name for name in VARIANTS if name.startswith("flagship-without-")]
# science.md, section 3: tokens, dim, hidden, depths, group, heads.
SIZES = {
    "upt-64": (64, 64, 128, [2, 2, 2], 16, 4),
    "upt-128": (128, 128, 256, [3, 3, 2], 32, 8),
    "upt-17m": (256, 192, 384, [4, 4, 4], 32, 8),
    "upt-68m": (512, 384, 768, [8, 8, 8], 64, 8),
}
# science.md, sections 2, 3 and 9: what a variant changes, and nothing else.
INVERSE, OPERATOR = "train_codec.inverse_losses", "train_operator.optimization"
EXACTLY = {
    "inverse-off": {f"{INVERSE}.weight": 0.0, f"{INVERSE}.max_weight": 0.0},
    "inverse-small": {f"{INVERSE}.weight": 0.001, f"{INVERSE}.warmup_epochs": 15},
    "inverse-strong": {f"{INVERSE}.weight": 0.5, f"{INVERSE}.max_weight": 0.5, f"{INVERSE}.warmup_epochs": 0},
    "tokens-64": {"latent.tokens": 64},
    "tokens-128": {"latent.tokens": 128},
    "tokens-256": {"latent.tokens": 256},
    "physics-loss": {"train_operator.losses.physics": 0.01},
    "golden-v2": {
        f"{OPERATOR}.weight_decay": 0.01,
        f"{OPERATOR}.schedule": "cosine",
        f"{OPERATOR}.gradient_clip": 0.5,
        "distill.optimization.weight_decay": 0.01,
    },
}
# One ingredient each, by the parameters it is made of.
INGREDIENTS = {
    "comoving-frame": {"latent.frame"},
    "token-convolution": {"train_operator.model"},
    "reencoding": {"train_operator.reencode"},
    "muon": {"train_codec.optimization.optimizer", "train_operator.optimization.optimizer"},
    "early-starts": {"train_operator.rollout.early_starts"},
    "symmetries": {"train_operator.symmetries"},
    "decoded-loss": {"train_operator.losses.forward", "train_operator.losses.decoded"},
    "small-batches": {"train_operator.optimization.pairs_per_update", "train_operator.optimization.updates_per_epoch"},
    "linear-codec": {"train_codec.encoder", "train_codec.decoder"},
}


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def changes(variant: str, parent: str) -> dict:
    found = differences(*(resolve(read_yaml(BASE), variant=name, preset=None) for name in (parent, variant)))
    return {key: after for key, (_, after) in found.items()}


@pytest.mark.parametrize("variant", list(SIZES))
def test_a_size_is_the_recipes(variant):
    raw = resolve(read_yaml(BASE), variant=variant, preset=None)
    model = raw["train_operator"]["model"]
    found = (*(raw["latent"][key] for key in ("tokens", "dim")), model["hidden"], model["depths"])
    assert (*found, model["group"], model["heads"]) == SIZES[variant]
    assert raw["train_operator"]["optimization"]["clip_per_parameter"] == 0.3
    assert raw["simulate"]["points"] % raw["latent"]["tokens"] == 0


@pytest.mark.parametrize("variant", list(EXACTLY))
def test_a_variant_changes_exactly_what_it_should(variant):
    assert changes(variant, "golden") == EXACTLY[variant]


def test_the_confounded_runs_say_so():
    for variant in VARIANTS:
        confounded = variant.startswith("upt-") and variant != "upt-68m"
        assert ("onfounded" in read_variant(variant).hypothesis) == confounded, variant
        keys = {key.split(".")[0] for key in changes(variant, "golden")}
        assert not confounded or len(keys) > 1, variant


def test_the_ablation_removes_every_ingredient_alone():
    assert {name.removeprefix("flagship-without-") for name in WITHOUT} == set(INGREDIENTS)
    assert read_sweep("ablation").variants[0] == "flagship"
    assert set(read_sweep("ablation").variants[1:]) == set(WITHOUT)
    for variant in WITHOUT:
        allowed = INGREDIENTS[variant.removeprefix("flagship-without-")]
        changed = changes(variant, "flagship")
        assert changed, variant
        for key in changed:
            assert any(key == part or key.startswith(f"{part}.") for part in allowed), (variant, key)


def test_the_sweeps_name_variants_that_exist_with_the_reference_first():
    for name in overlay.names("sweeps"):
        assert set(read_sweep(name).variants) <= set(VARIANTS), name
    assert read_sweep("capacity").variants[0] == read_sweep("codec").variants[0] == "golden"


def test_two_minutes_bounds_the_flagships_training():
    """9,000 updates of 11.5 ms and 3,000 of 4.4 ms (docs/log.md) are 117 s; equal samples stay equal samples."""

    def optimization(variant, stage):
        return resolve(read_yaml(BASE), variant=variant, preset="two-minutes")[stage]["optimization"]

    def updates(variant, stage):
        return optimization(variant, stage)["epochs"] * optimization(variant, stage)["updates_per_epoch"]

    assert (updates("flagship", "train_codec"), updates("flagship", "train_operator")) == (3000, 9000)
    large = "flagship-without-small-batches"
    pairs = [optimization(name, "train_operator")["pairs_per_update"] for name in ("flagship", large)]
    assert pairs == [30, 60]
    assert updates(large, "train_operator") * 60 == updates("flagship", "train_operator") * 30
    assert max(updates(name, "train_operator") for name in VARIANTS) <= 9000
