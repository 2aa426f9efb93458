"""Overlays resolve to what the recipe says, in the documented order, and refuse what they must."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ups.errors import ParameterError
from ups.parameters import overlay
from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import differences, flatten
from ups.parameters.overlay import complete, merge, resolve
from ups.parameters.schema import Parameters

ROOT = Path(__file__).parents[1]
TRANSFORMER = {
    "name": "pde_transformer",
    "hidden": 96,
    "depths": [1, 1, 1],
    "group": 12,
    "heads": 6,
    "mlp_ratio": 2.0,
    "dropout": 0.0,
    "stem": 5,
}
# Another base, in which everything that trains does so in another way.
STRANGE = {
    "latent": {"tokens": 16, "dim": 8},
    "train_codec": {
        "encoder": {"hidden": 16},
        "inverse_losses": {"frequency": 2},
        "optimization": {"optimizer": "adamw", "epochs": 3},
    },
    "train_operator": {"reencode": False, "optimization": {"ema_decay": 0.5}},
    "train_diffusion": {"depth": 2, "optimization": {"learning_rate": 0.1}},
    "distill": {"optimization": {"epochs": 1}},
    "train_baseline": {"layers": 2, "optimization": {"epochs": 7}},
    "evaluate_ttc": {"candidates": 2},
}

# science.md, every number marked *recipe* for golden. Typed from there, not copied from golden.yaml.
RECIPE = {
    "seed": 42,
    "latent.tokens": 32,
    "latent.dim": 16,
    "compute.deterministic": True,
    "train_codec.inverse_losses.weight": 0.01,
    "train_codec.inverse_losses.warmup_epochs": 5,
    "train_codec.inverse_losses.max_weight": 0.05,
    "train_codec.inverse_losses.num_queries": 2048,
    "train_operator.model.hidden": 96,
    "train_operator.model.depths": [1, 1, 1],
    "train_operator.model.group": 12,
    "train_operator.model.heads": 6,
    "train_operator.losses.spectral": 0.05,
    "train_operator.losses.relative": 0.0,
    "train_operator.optimization.epochs": 25,
    "train_operator.optimization.updates_per_epoch": 42,  # 25 x 42 = 1,050
    "train_operator.optimization.pairs_per_update": 1200,
    "train_operator.optimization.micro_batches": 4,
    "train_operator.optimization.learning_rate": 1e-3,
    "train_operator.optimization.schedule": "none",
    "train_operator.optimization.weight_decay": 0.03,
    "train_operator.optimization.betas": [0.9, 0.999],
    "train_operator.optimization.gradient_clip": 1.0,
    "train_operator.optimization.ema_decay": 0.999,
    "train_diffusion.objective.name": "residual",
    "train_diffusion.hidden": 96,
    "train_diffusion.depth": 3,
    "train_diffusion.tau.name": "beta",
    "train_diffusion.tau.alpha": 1.2,
    "train_diffusion.tau.beta": 1.2,
    "train_diffusion.losses.spectral": 0.05,
    "train_diffusion.losses.relative": 0.0,
    "train_diffusion.optimization.epochs": 8,
    "train_diffusion.optimization.updates_per_epoch": 42,  # 8 x 42 = 336
    "train_diffusion.optimization.pairs_per_update": 1200,
    "train_diffusion.optimization.learning_rate": 5e-5,
    "train_diffusion.optimization.min_learning_rate": 3e-6,
    "train_diffusion.optimization.schedule": "cosine",
    "train_diffusion.optimization.weight_decay": 0.015,
    "train_diffusion.optimization.betas": [0.9, 0.999],
    "train_diffusion.optimization.gradient_clip": 1.0,
    "train_diffusion.optimization.ema_decay": 0.999,
    "distill.student.num_taus": [5, 4, 3],
    "distill.optimization.epochs": 8,
    "distill.optimization.updates_per_epoch": 334,  # 8 x 334 = 2,672
    "distill.optimization.pairs_per_update": 300,
    "distill.optimization.learning_rate": 3e-5,
    "distill.optimization.weight_decay": 0.015,
    "distill.optimization.betas": [0.9, 0.999],
    "distill.optimization.ema_decay": 0.999,
    "evaluate_ttc.candidates": 8,
    "evaluate_ttc.beam": 3,
    "evaluate_ttc.horizon": 1,
    "evaluate_ttc.noise_std": [0.03, 0.015, 0.005],
    "evaluate_ttc.tau_range": [0.15, 0.85],
    "evaluate_ttc.max_evaluations": 150,
    "evaluate_ttc.rewards.conservation": 1.2,
    "evaluate_ttc.rewards.dissipation": 0.15,
    "evaluate_ttc.rewards.positivity": 0.6,
}
LIGHT = {
    "train_diffusion.optimization.epochs": 3,  # x 42 = 126 updates
    "train_diffusion.optimization.learning_rate": 2e-5,
    "train_diffusion.optimization.min_learning_rate": 1e-6,
    "train_diffusion.optimization.weight_decay": 0.05,
    "distill.optimization.epochs": 5,  # x 334 = 1,670 updates
    "evaluate_ttc.candidates": 16,
    "evaluate_ttc.beam": 5,
    "evaluate_ttc.noise_std": [0.08, 0.05, 0.02],
    "evaluate_ttc.max_evaluations": 200,
    "evaluate_ttc.rewards.conservation": 1.0,
    "evaluate_ttc.rewards.dissipation": 1.0,
    "evaluate_ttc.rewards.positivity": 0.5,
}
# What a preset may touch: sizes and lengths.
SIZES = {"samples", "points", "frames", "check_samples", "train", "validation", "test", "epochs", "updates_per_epoch"}
SIZES |= {"pairs_per_update", "cells", "panel_trajectories", "batch_size", "tokens", "dim", "hidden"}
# These change the time a run takes and not what comes out.
SIZES |= {"compile", "num_threads", "micro_batches"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def base(project: Path) -> dict:
    return read_yaml(BASE)


def write(project: Path, kind: str, name: str, text: str) -> None:
    (project / "params" / kind / f"{name}.yaml").write_text(text)


def test_golden_pins_the_recipe(project):
    pinned = flatten(overlay.read_variant("golden").overlay)
    assert {key: pinned.get(key) for key in RECIPE} == RECIPE


def test_golden_pins_it_whatever_base_becomes(base):
    other = merge(base, {"train_operator": {"optimization": {"weight_decay": 0.5, "betas": [0.5, 0.6]}}}, [Parameters])
    other = merge(other, {"evaluate_ttc": {"beam": 1}, "latent": {"dim": 8}, "seed": 1}, [Parameters])
    resolved = flatten(resolve(other, variant="golden", preset="full"))
    assert {key: resolved[key] for key in RECIPE} == RECIPE


def test_base_is_the_flagship_in_half_its_time(base):
    changes = differences(complete(base), resolve(base, variant="flagship", preset="default"))
    assert changes == {
        "train_operator.optimization.epochs": (14, 28),
        "train_baseline.optimization.epochs": (30, 60),
    }


def test_golden_depends_on_base_only_in_what_is_no_part_of_the_recipe(base):
    """Whatever base.yaml becomes: models, losses and optimisers of golden are golden's own."""
    other = merge(base, STRANGE, [Parameters])
    changes = differences(complete(base), complete(other))
    assert len(changes) == len(flatten(STRANGE))
    assert differences(resolve(base, variant="golden"), resolve(other, variant="golden")) == {}


def test_full_is_the_recipes_batch(base):
    resolved = flatten(resolve(base, variant="golden", preset="full"))
    assert {key: resolved[key] for key in RECIPE} == RECIPE


def test_light_diffusion_differs_from_golden_in_the_recipe_s_numbers_only(base):
    changes = differences(*(resolve(base, variant=name) for name in ("golden", "light-diffusion")))
    assert {key: after for key, (_, after) in changes.items()} == LIGHT


def test_no_diffusion_changes_one_number(base):
    changes = differences(*(resolve(base, variant=name) for name in ("golden", "no-diffusion")))
    assert changes == {"train_diffusion.optimization.epochs": (8, 0)}


def test_everything_resolves(base):
    for variant in (None, *overlay.names("variants")):
        for preset in overlay.names("presets"):
            for task in (variant and overlay.read_variant(variant).tasks) or (None, *overlay.names("tasks")):
                assert Parameters.model_validate(resolve(base, task, variant, preset, seed=7)).seed == 7


@pytest.mark.parametrize("preset", ["tiny", "default", "full", "two-minutes"])
def test_presets_set_sizes_and_lengths_only(project, preset):
    keys = [key for part in overlay.read_preset(preset) for key in flatten(part)]
    assert {key.split(".")[-1] for key in keys} <= SIZES


@pytest.mark.parametrize("variant", ["golden", "light-diffusion", "no-diffusion"])
def test_a_preset_keeps_variants_apart(base, variant):
    """The number of epochs is what the shipped variants differ in, so no preset may overwrite it."""
    for stage in ("train_diffusion", "distill"):
        lengths = {
            resolve(base, variant=variant, preset=preset)[stage]["optimization"]["epochs"]
            for preset in overlay.names("presets")
        }
        assert len(lengths) == 1


def test_order_of_the_overlays(project, base):
    write(
        project,
        "tasks",
        "t",
        "train_codec: {optimization: {epochs: 1, updates_per_epoch: 1, warmup_updates: 1}}\nseed: 1",
    )
    varies = "hypothesis: h\nvaries: [train_codec.optimization, seed]\n"
    write(project, "variants", "v", varies + "train_codec: {optimization: {epochs: 2, updates_per_epoch: 2}}\nseed: 2")
    write(project, "presets", "p", "train_codec: {optimization: {epochs: 3}}\nseed: 3")
    resolved = resolve(base, "t", "v", "p", seed=4)
    optimization = resolved["train_codec"]["optimization"]
    lengths = (optimization["epochs"], optimization["updates_per_epoch"], optimization["warmup_updates"])
    assert (*lengths, resolved["seed"]) == (3, 2, 1, 4)


def test_a_bound_of_a_preset_shortens_and_never_lengthens(project, base):
    varies = "hypothesis: h\nvaries: [train_codec.optimization]\n"
    lengths = "train_codec: {optimization: {epochs: %s, updates_per_epoch: %s}}"
    write(project, "variants", "long", varies + lengths % (50, "null"))
    write(project, "variants", "brief", varies + lengths % (2, 3))
    write(project, "presets", "p", "at_most:\n  " + lengths % (10, 7))
    found = {}
    for variant in ("long", "brief"):
        optimization = resolve(base, variant=variant, preset="p")["train_codec"]["optimization"]
        found[variant] = (optimization["epochs"], optimization["updates_per_epoch"])
    assert found == {"long": (10, 7), "brief": (2, 3)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("at_most: {train_codec: {optimization: {epoch: 3}}}", "Did you mean 'train_codec.optimization.epochs'"),
        ("at_most: {task: {name: t}}", "only a number can be a bound"),
        ("at_most: 3", "expected sections with numbers"),
    ],
)
def test_a_wrong_bound_is_named(project, base, content, message):
    write(project, "presets", "p", content)
    with pytest.raises(ParameterError, match=message):
        resolve(base, preset="p")


def test_a_task_replaces_the_coefficients(base):
    assert resolve(base, task="advection1d")["task"]["coefficients"] == {"velocity": 0.4}


def test_a_variant_may_only_change_what_it_declares(project, base):
    write(
        project, "variants", "sly", "extends: golden\nhypothesis: h\nvaries: [latent.dim]\nlatent: {dim: 8, tokens: 64}"
    )
    with pytest.raises(ParameterError, match=r"sly\.yaml sets 'latent\.tokens'.*parent 'golden': latent\.dim"):
        resolve(base, variant="sly")


def test_a_section_declared_in_part_does_not_cover_its_namesake(project, base):
    write(project, "variants", "sly", "hypothesis: h\nvaries: [train_diffusion.tau]\ntrain_diffusion: {tau_bins: 5}")
    with pytest.raises(ParameterError, match=r"tau_bins"):
        resolve(base, variant="sly")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("varies: []\nlatent: {dim: 8}", "hypothesis"),
        ("hypothesis: h\nlatent: {dim: 8}", "varies"),
        ("hypothesis: h\nvaries: [latent.dims]", r"unknown parameter 'latent\.dims'.*'latent\.dim'"),
        ("hypothesis: h\nvaries: []\nextends: gold", r"Unknown variant 'gold'.*'golden'"),
        ("hypothesis: h\nvaries: []\nextends: v", "circle"),
        ("hypothesis: h\nvaries: [latnt]\nlatnt: {dim: 8}", r"v\.yaml: unknown parameter 'latnt'.*'latent'"),
        ("hypothesis: h\nvaries: [latent]\nlatent: {dim: eight}", r"'latent\.dim' = 'eight' \(set in .*v\.yaml\)"),
        ("hypothesis: h\nvaries: []\ntasks: [darcy]", r"`tasks` = \['darcy'\].*darcy2d"),
        ("- a list", "must hold a mapping"),
        ("hypothesis: h\nvaries: []\nvaries: []", "given twice"),
    ],
)
def test_bad_variants_are_explained(project, base, text, message):
    write(project, "variants", "v", text)
    with pytest.raises(ParameterError, match=message):
        resolve(base, variant="v")


@pytest.mark.parametrize(
    ("kind", "name", "near"), [("variant", "ligth-diffusion", "light-diffusion"), ("preset", "tyni", "tiny")]
)
def test_unknown_names_get_the_nearest(base, kind, name, near):
    with pytest.raises(ParameterError, match=f"Unknown {kind} '{name}'.*'{near}'"):
        resolve(base, **{kind: name})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_opperator": {}}, r"Unknown parameter 'train_opperator'.*'train_operator'"),
        (
            {"train_operator": {"model": {"hiden": 3}}},
            r"'train_operator\.model\.hiden' = 3.*'train_operator\.model\.hidden'",
        ),
        ({"train_codec": {"learning_rate": 1}}, r"Did you mean 'train_codec\.optimization\.learning_rate'"),
        ({"train_operator": {"model": {**TRANSFORMER, "heads": 5}}}, r"heads = 5 must divide group = 12; .* is [46]"),
        (
            {"train_operator": {"model": {"heads": 5}}},
            r"model\.heads' = 5.* It belongs to other kinds of 'train_operator\.model': pde_transformer",
        ),
        ({"train_operator": {"optimization": {"epochs": "many"}}}, r"epochs' = 'many'.*should be a valid integer"),
        ({"train_operator": {"optimization": {"epochs": 2.5}}}, r"epochs' = 2\.5.*should be a valid integer"),
        ({"train_operator": {"optimization": {"learning_rate": -1}}}, r"learning_rate' = -1.*greater than 0"),
        ({"train_operator": {"optimization": {"learning_rate": True}}}, r"learning_rate' = True.*valid number"),
        ({"train_operator": {"optimization": {"learning_rate": float("nan")}}}, r"learning_rate' = nan.*finite"),
        ({"train_operator": {"optimization": {"schedule": "cosin"}}}, r"schedule' = 'cosin'.*Did you mean 'cosine'"),
        ({"train_operator": {"optimization": {"micro_batches": 7}}}, r"micro_batches = 7 must divide pairs_per_update"),
        ({"train_operator": {"optimization": 3}}, r"'train_operator\.optimization' = 3.*holds epochs"),
        (
            {"latent": {"tokens": 30}, "train_operator": {"model": TRANSFORMER}},
            r"latent\.tokens = 30 must be divisible by 4",
        ),
        ({"task": {"coefficients": {"viscosty": 1.0}}}, r"coefficients of equation 'burgers' are \['viscosity'\]"),
        ({"seed": None}, r"'seed' = None.*valid integer"),
        ({"train_diffusion": {"tau": {"name": "strafitied"}}}, r"train_diffusion\.tau.*stratified"),
        (
            {"train_diffusion": {"tau": {"name": "uniform", "alpha": 1.0}}},
            r"Unknown parameter 'train_diffusion\.tau\.alpha'",
        ),
        ({"train_diffusion": {"skip": True, "depth": 2}}, r"skip = true needs a layer between two hidden ones"),
        ({"train_diffusion": {"mixing": 2}}, r"mixing = 2 must be odd"),
        ({"train_reward": {"kernel": 4}}, r"kernel = 4 must be odd"),
        (
            {"train_steady_prior": {"optimization": {"epochs": 1}}},
            r"needs a steady equation, and 'burgers' has a time: choose a steady task \(--task darcy2d\)",
        ),
        ({"evaluate_ttc": {"rewards": {"learned": 1.0}}}, r"learned = 1 needs a trained reward"),
        (
            {"train_reward": {"optimization": {"epochs": 1}}, "evaluate_ttc": {"candidates": 2}},
            r"the worst of evaluate_ttc\.candidates = 2",
        ),
        ({"evaluate_ttc": {"adaptive": {"quantile": 1.5}}}, r"adaptive\.quantile' = 1\.5.*less than 1"),
        ({"evaluate_ttc": {"rewards": {"mass": 1.0}}}, r"Unknown parameter 'evaluate_ttc\.rewards\.mass'"),
        ({"evaluate_ttc": {"tau_range": [0.8, 0.2]}}, r"tau_range = \[0\.8, 0\.2\] must rise"),
        ({"evaluate_ttc": {"horizon": 9}}, r"more than max_evaluations = 150"),
        (
            {"train_diffusion": {"objective": {"name": "flow", "steps": 4, "solver": "heun", "noise": 1.0}}},
            r"distill\.student\.name = 'merged': the student of a 'flow' corrector is 'consistency'",
        ),
        (
            {
                "train_diffusion": {"objective": {"name": "flow", "steps": 20, "solver": "heun", "noise": 1.0}},
                "distill": {"student": {"name": "consistency", "steps": 1}},
            },
            r"costs 321 network evaluations, more than max_evaluations = 150",
        ),
    ],
)
def test_bad_values_are_explained(base, change, message):
    with pytest.raises(ParameterError, match=message):
        complete(merge(base, change, [Parameters]))


def test_a_missing_parameter_is_named(base):
    del base["train_operator"]["optimization"]["epochs"]
    with pytest.raises(ParameterError, match=r"'train_operator\.optimization\.epochs' is missing"):
        complete(base)


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1e-3\nb: 2E5\nc: 1.5e+2\nd: 12\ne: 1e3x\n")
    assert read_yaml(path) == {"a": 0.001, "b": 2e5, "c": 150.0, "d": 12, "e": "1e3x"}


leaves = st.one_of(st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2))
trees = st.dictionaries(
    st.sampled_from("abc"), st.recursive(leaves, lambda t: st.dictionaries(st.sampled_from("abc"), t, min_size=1))
)


@settings(deadline=None)  # timing depends on the machine's load
@given(trees, trees)
def test_differences_are_empty_exactly_for_equal_trees(one, two):
    assert (differences(one, two) == {}) == (flatten(one) == flatten(two))
    assert differences(one, one) == {}
