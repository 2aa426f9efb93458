"""`ups params`: show, compare, check and select parameters."""

from __future__ import annotations

from typing import Annotated, Any

import typer

app = typer.Typer(help="Show, compare, check and select parameters.", no_args_is_help=True)

Preset = Annotated[str, typer.Option(help="Sizes and lengths: a file in params/presets.")]
Task = Annotated[str | None, typer.Option(help="The equation: a file in params/tasks. The base's own by default.")]
Seed = Annotated[int | None, typer.Option(min=0, help="The seed. The variant's or the base's own by default.")]
ORIGINAL_NAME = "base"


@app.command()
def show(
    variant: Annotated[str | None, typer.Argument(help="A file in params/variants; what is in use by default.")] = None,
    preset: Preset = "default",
    task: Task = None,
    seed: Seed = None,
) -> None:
    """Print the complete parameters of a variant, or those in use."""
    import yaml

    shown = _resolved(variant, preset, task, seed)
    print(yaml.safe_dump(shown, sort_keys=False, default_flow_style=None, width=120), end="")


@app.command()
def diff(
    first: Annotated[str, typer.Argument(help="A variant; `base` is the original base file.")],
    second: Annotated[str | None, typer.Argument(help="Another one; what is in use by default.")] = None,
    preset: Preset = "default",
    task: Task = None,
    seed: Seed = None,
) -> None:
    """Print what differs between two variants, or between a variant and what is in use."""
    from ups.parameters.flat import differences

    one = _resolved(first, preset, task, seed)
    two = _resolved(second, preset, task, seed)
    changes = differences(two, one) if second is None else differences(one, two)
    _print_changes(changes, "No difference.")


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
            Selection(name, preset=preset).resolve()
    chosen = selection.current()
    print(f"In use: {chosen.arguments() if chosen else 'params/base.yaml as it stands'}. All parameters are valid.")
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

    if variant is None and (preset, task, seed) == ("default", None, None):
        return complete(read_yaml(BASE))
    return Selection(None if variant == ORIGINAL_NAME else variant, task=task, preset=preset, seed=seed).resolve()


def _print_changes(changes: dict[str, tuple[Any, Any]], otherwise: str) -> None:
    for key, (before, after) in changes.items():
        print(f"{key}: {_shown(before)} -> {_shown(after)}")
    if not changes:
        print(otherwise)


def _shown(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)
