"""Resolve a selection of task, variant, preset and seed to one complete, validated set of parameters.

Order of the overlays: base < tasks/<task> < variants/<variant>, its parents first < presets/<preset> < seed. Sections
merge key by key; every other value, lists and the free mapping `task.coefficients` included, is replaced as a whole.
So is a section that may be of several kinds when an overlay gives it another `name`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ups.errors import ParameterError
from ups.parameters.files import BASE, check_keys, nearest, read_yaml, sections_under, validate_section
from ups.parameters.flat import covered, flatten, put
from ups.parameters.schema import Parameters

DEFAULT_PRESET = "default"
TRIALS = BASE.parent / "trials"  # variants that searches drew: they have names like all others, and are not in git


@dataclass(frozen=True)
class Layer:
    """One overlay and the file it comes from."""

    source: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Variant:
    """What one variant changes against its parent, and why.

    Attributes:
        name: the file's name without its ending.
        hypothesis: what the variant is expected to show.
        varies: the dotted keys or sections it may change against its parent.
        extends: the parent variant; None stands for the base.
        overlay: the changes themselves.
        tasks: the tasks it is for, where it is not for all.
    """

    name: str
    hypothesis: str
    varies: tuple[str, ...]
    extends: str | None
    overlay: Mapping[str, Any]
    tasks: tuple[str, ...] = ()


def names(kind: str) -> list[str]:
    """Return the names that exist of a kind: `tasks`, `variants` or `presets`."""
    return sorted(path.stem for path in (BASE.parent / kind).glob("*.yaml"))


def resolve(
    base: Mapping[str, Any],
    task: str | None = None,
    variant: str | None = None,
    preset: str | None = DEFAULT_PRESET,
    seed: int | None = None,
) -> dict[str, Any]:
    """Return the parameters of a selection, complete and validated.

    Args:
        base: the content of the original base file, see `ups.parameters.selection.original_base`.
        task: name of a file in `params/tasks`; None leaves the base's task.
        variant: name of a file in `params/variants`; None takes none.
        preset: name of a file in `params/presets`; None takes none.
        seed: the seed; None leaves that of the base or of the variant.

    Raises:
        ParameterError: unknown name (with the nearest one), unknown or ill-typed key, impossible combination, or a
            variant that changes what it does not declare.
    """
    layers = [Layer(str(BASE), base)]
    if task is not None:
        layers.append(_overlay_file("tasks", task))
    if variant is not None:
        layers.extend(Layer(str(_path("variants", v.name)), v.overlay) for v in lineage(variant))
    if preset is not None:
        set_by, at_most = read_preset(preset)
        layers.append(Layer(str(_path("presets", preset)), set_by))
        layers.append(Layer(str(_path("presets", preset)), _capped(layers, at_most)))
    if seed is not None:
        layers.append(Layer("the seed asked for", {"seed": seed}))
    return complete(_merged(layers), lambda key: _origin(key, layers))


def complete(raw: Mapping[str, Any], origin: Callable[[str], str] | None = None) -> dict[str, Any]:
    """Return validated parameters with every default written out, as plain YAML and JSON values.

    Raises:
        ParameterError: see `ups.parameters.files.validate_section`.
    """
    return validate_section(Parameters, raw, origin).model_dump(mode="json")


def merge(below: Mapping[str, Any], above: Mapping[str, Any], sections: Iterable[type[BaseModel]]) -> dict[str, Any]:
    """Return `below` overlaid by `above`, both being content of one of `sections`."""
    merged = copy.deepcopy(dict(below))
    for key, value in above.items():
        kinds = sections_under(sections, key)
        old = merged.get(key)
        if kinds and isinstance(value, Mapping) and isinstance(old, Mapping):
            renamed = len(kinds) > 1 and value.get("name", old.get("name")) != old.get("name")
            merged[key] = copy.deepcopy(value) if renamed else merge(old, value, kinds)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def lineage(name: str) -> list[Variant]:
    """Return a variant and its ancestors, the oldest first.

    Raises:
        ParameterError: if one of them does not exist or they extend each other in a circle.
    """
    line = [read_variant(name)]
    while (parent := line[0].extends) is not None:
        if parent in [variant.name for variant in line]:
            raise ParameterError(f"{_path('variants', name)}: `extends` runs in a circle through '{parent}'. Break it.")
        line.insert(0, read_variant(parent))
    return line


def read_variant(name: str) -> Variant:
    """Read one variant file and check that it changes nothing but what it declares.

    Raises:
        ParameterError: naming the file, the key and what is allowed.
    """
    path = _path("variants", name)
    overlay = read_yaml(path)
    hypothesis, varies, extends = (overlay.pop(key, None) for key in ("hypothesis", "varies", "extends"))
    if not isinstance(hypothesis, str) or not hypothesis.strip():
        raise ParameterError(f"{path}: `hypothesis` = {hypothesis!r}: expected a sentence on what it should show.")
    if not isinstance(varies, list) or not all(isinstance(key, str) for key in varies):
        raise ParameterError(f"{path}: `varies` = {varies!r}: expected a list of the keys it may change.")
    tasks = overlay.pop("tasks", [])
    if not isinstance(tasks, list) or not set(tasks) <= set(names("tasks")):
        raise ParameterError(f"{path}: `tasks` = {tasks!r}: expected a list of tasks, of {', '.join(names('tasks'))}.")
    if extends is not None and not isinstance(extends, str):
        raise ParameterError(f"{path}: `extends` = {extends!r}: expected the name of another variant.")
    check_keys(Parameters, [*flatten(overlay), *varies], str(path))
    for key in flatten(overlay):
        if not covered(key, varies):
            parent = f"its parent '{extends}'" if extends else "the base"
            raise ParameterError(
                f"{path} sets '{key}', which is not among the keys that it declares to vary against {parent}: "
                f"{', '.join(varies) or 'none'}. Add it to `varies`, or do not set it."
            )
    return Variant(name, " ".join(hypothesis.split()), tuple(varies), extends, overlay, tuple(tasks))


def declared_changes(variant: str | None) -> list[str]:
    """Return every key that a variant or one of its ancestors declares to vary against the base."""
    if variant is None:
        return []
    return list(dict.fromkeys(key for v in lineage(variant) for key in v.varies))


def read_preset(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a preset file: what it sets, and what it only bounds from above.

    Under `at_most` stand numbers that a variant may undercut: a preset for small machines makes long trainings short,
    and leaves those alone that are shorter still.

    Raises:
        ParameterError: naming the file and the key.
    """
    path = _path("presets", name)
    content = read_yaml(path)
    bounds = content.pop("at_most", {})
    if not isinstance(bounds, dict):
        raise ParameterError(f"{path}: `at_most` = {bounds!r}: expected sections with numbers.")
    for part in (content, bounds):
        check_keys(Parameters, flatten(part), str(path))
    for key, value in flatten(bounds).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ParameterError(f"{path}: `at_most` sets '{key}' = {value!r}; only a number can be a bound.")
    return content, bounds


def _capped(layers: list[Layer], bounds: Mapping[str, Any]) -> dict[str, Any]:
    """Return those bounds that lie below what the layers set; a number that is not set (null) is unbounded."""
    values = flatten(_merged(layers))
    found: dict[str, Any] = {}
    for key, bound in flatten(bounds).items():
        if key not in values:
            continue  # of another kind of model than this variant's
        value = values[key]
        if value is None or (isinstance(value, int | float) and value > bound):
            put(found, key, bound)
    return found


def _merged(layers: Iterable[Layer]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer.content, [Parameters])
    return merged


def _overlay_file(kind: str, name: str) -> Layer:
    path = _path(kind, name)
    content = read_yaml(path)
    check_keys(Parameters, flatten(content), str(path))
    return Layer(str(path), content)


def _path(kind: str, name: str) -> Path:
    trial = TRIALS / f"{name}.yaml"
    if kind == "variants" and name not in names(kind) and trial.is_file():
        return trial
    if name not in names(kind):
        singular = kind.removesuffix("s")
        raise ParameterError(
            f"Unknown {singular} '{name}': {BASE.parent / kind} has no {name}.yaml. {nearest(name, names(kind))}"
        )
    return BASE.parent / kind / f"{name}.yaml"


def _origin(key: str, layers: list[Layer]) -> str:
    """Return the topmost layer that sets a key, or a key above or below it."""
    for layer in reversed(layers):
        if any(covered(set_key, [key]) or covered(key, [set_key]) for set_key in flatten(layer.content)):
            return layer.source
    return str(BASE)
