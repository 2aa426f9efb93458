"""`ups params`: list, show, compare, check and select parameters.

ups params list
ups params diff golden light-diffusion
ups params diff golden golden.tiny        # two presets of one variant
ups params use light-diffusion --seed 1
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

app = typer.Typer(help="List, show, compare, check and select parameters.", no_args_is_help=True)

Preset = Annotated[str, typer.Option(help="Sizes and lengths: a file in params/presets.")]
Task = Annotated[str | None, typer.Option(help="The equation: a file in params/tasks. The base's own by default.")]
Seed = Annotated[int | None, typer.Option(min=0, help="The seed. The variant's or the base's own by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
ORIGINAL_NAME = "base"


@app.command("list")
def list_names(as_json: AsJson = False) -> None:
    """Name the variants with what each changes and why, the presets, the tasks and the sweeps."""
    import json
    from dataclasses import asdict

    from ups.parameters import overlay, selection, sweeps

    variants = [overlay.read_variant(name) for name in overlay.names("variants")]
    found = {kind: overlay.names(kind) for kind in ("presets", "tasks")}
    lists = [sweeps.read_sweep(name) for name in overlay.names("sweeps")]
    if as_json:
        print(
            json.dumps(
                {"variants": [asdict(v) for v in variants], **found, "sweeps": [asdict(s) for s in lists]}, indent=2
            )
        )
        return
    chosen = selection.current()
    for variant in variants:
        extends = f" (extends {variant.extends})" if variant.extends else ""
        extends += f" (for {', '.join(variant.tasks)})" if variant.tasks else ""
        print(f"{variant.name}{extends}: {variant.hypothesis}\n    varies {', '.join(variant.varies)}")
    for kind, known in found.items():
        print(f"{kind}: {', '.join(known)}")
    for sweep in lists:
        what = ", ".join(sweep.variants)
        if sweep.search:
            what = (
                f"{sweep.search.trials} trials around {what} by {sweep.search.sampler}, scored by {sweep.search.score}"
            )
        print(f"sweep {sweep.name}: {what}, seeds {', '.join(map(str, sweep.seeds)) or 'of each'}")
    print(f"in use: {chosen.arguments() if chosen else 'params/base.yaml as it stands'}")


@app.command()
def show(
    variant: Annotated[str | None, typer.Argument(help="A file in params/variants; what is in use by default.")] = None,
    preset: Preset = "default",
    task: Task = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Print the complete parameters of a variant, or those in use."""
    import json

    import yaml

    shown = _resolved(variant, preset, task, seed)
    if as_json:
        print(json.dumps(shown, indent=2))
        return
    print(yaml.safe_dump(shown, sort_keys=False, default_flow_style=None, width=120), end="")


@app.command()
def diff(
    first: Annotated[str, typer.Argument(help="VARIANT or VARIANT.PRESET; `base` is the original base file.")],
    second: Annotated[str | None, typer.Argument(help="Another one; what is in use by default.")] = None,
    preset: Preset = "default",
    task: Task = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Print what differs between two variants or presets, and which stages that reaches."""
    import json
    from pathlib import Path

    from ups.parameters.flat import differences
    from ups.pipeline.downstream import reached
    from ups.pipeline.stages import DVC_YAML

    one = _resolved(first, preset, task, seed)
    two = _resolved(second, preset, task, seed)
    before, after = (two, one) if second is None else (one, two)
    changes = differences(before, after)
    # A folder with parameters alone has no stages to reach.
    stages = reached(before, after) if Path(DVC_YAML).is_file() else []
    if as_json:
        named = {stage.stage: {"changed": stage.changed, "follows": stage.follows} for stage in stages}
        print(json.dumps({"changes": changes, "stages": named}, indent=2))
        return
    _print_changes(changes, "No difference.")
    if changes and Path(DVC_YAML).is_file():
        print(f"\n{len(stages)} stages differ{':' if stages else ': nothing runs again.'}")
        for stage in stages:
            print(f"  {stage.stage}: {stage.reason()}")


@app.command()
def check(
    variants: Annotated[list[str] | None, typer.Argument(help="Variants to check too; `all` takes every one.")] = None,
) -> None:
    """Check the parameters in use and that dvc.yaml matches the stages."""
    from ups.parameters import overlay, selection
    from ups.parameters.selection import Selection
    from ups.pipeline.check import check as check_working_tree

    check_working_tree()
    wanted = overlay.names("variants") if variants == ["all"] else variants or []
    for name in wanted:
        for preset in overlay.names("presets"):
            Selection(name, preset=preset, task=next(iter(overlay.read_variant(name).tasks), None)).resolve()
    chosen = selection.current()
    edits = selection.edits()
    print(f"In use: {chosen.arguments() if chosen else 'params/base.yaml as it stands'}. All parameters are valid.")
    for key, (before, after) in edits.items():
        print(f"edited since: {key}: {_shown(before)} -> {_shown(after)}")
    if wanted:
        print(f"Valid with every preset: {', '.join(wanted)}.")


@app.command()
def use(
    variant: Annotated[str, typer.Argument(help="A file in params/variants; `base` restores the original base file.")],
    preset: Preset = "default",
    task: Task = None,
    seed: Seed = None,
) -> None:
    """Write a variant's parameters into params/base.yaml, which is what DVC runs."""
    from ups.parameters import selection

    if variant == ORIGINAL_NAME and (preset, task, seed) == ("default", None, None):
        undone = selection.restore()
        print("params/base.yaml is the original again." if undone else "params/base.yaml was the original already.")
        return
    name = None if variant == ORIGINAL_NAME else variant
    changes = selection.use(selection.Selection(name, task=task, preset=preset, seed=seed))
    _print_changes(changes, "Nothing differs from the original.")
    print("Written into params/base.yaml. Run `make repro`; undo with `ups params use base`.")


def _resolved(variant: str | None, preset: str, task: str | None, seed: int | None) -> dict[str, Any]:
    from ups.parameters.files import BASE, read_yaml
    from ups.parameters.overlay import complete
    from ups.parameters.selection import Selection

    variant, preset = _with_preset(variant, preset)
    if variant is None and (preset, task, seed) == ("default", None, None):
        return complete(read_yaml(BASE))
    return Selection(None if variant == ORIGINAL_NAME else variant, task=task, preset=preset, seed=seed).resolve()


def _with_preset(name: str | None, preset: str) -> tuple[str | None, str]:
    """Return variant and preset of `golden.tiny`, which is how results are named too."""
    from ups.parameters.overlay import names

    variant, dot, ending = (name or "").rpartition(".")
    known = ending in names("presets") or variant in (ORIGINAL_NAME, *names("variants"))
    return (variant, ending) if dot and known else (name, preset)


def _print_changes(changes: dict[str, tuple[Any, Any]], otherwise: str) -> None:
    for key, (before, after) in changes.items():
        print(f"{key}: {_shown(before)} -> {_shown(after)}")
    if not changes:
        print(otherwise)


def _shown(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)
