"""Read parameter files and turn validation failures into errors a user can act on."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ups.errors import ParameterError

BASE = Path("params/base.yaml")

S = TypeVar("S", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML as DVC reads it: 1e-3 is a number, and a key given twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is given twice in one section", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(  # type: ignore[no-untyped-call]
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        ParameterError: if the file is missing, is not YAML, or does not hold a mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise ParameterError(f"{path} does not exist. Run the command in the project's folder.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        kind = "nothing" if content is None else type(content).__name__
        raise ParameterError(f"{path} must hold a mapping of sections, but holds {kind}.")
    return content


def validate_section(model: type[S], raw: Mapping[str, Any], origin: Callable[[str], str] | None = None) -> S:
    """Build `model` from raw YAML content; a partial section takes only the keys it declares.

    Args:
        model: the section, or the whole parameter file.
        raw: its content.
        origin: given a dotted key, says in which file it was set; for messages about merged files.

    Raises:
        ParameterError: naming the key, its value, what is allowed and the nearest valid spelling.
    """
    try:
        return model.model_validate(_restrict(model, raw))
    except ValidationError as error:
        messages = [_explain(model, raw, entry, origin) for entry in error.errors()]
        raise ParameterError(" ".join(dict.fromkeys(messages))) from None


def check_keys(model: type[BaseModel], keys: Iterable[str], file: str) -> None:
    """Refuse dotted keys that no section has.

    Raises:
        ParameterError: naming the file, the key and the nearest valid spelling.
    """
    for key in keys:
        location = key.split(".")
        for depth, part in enumerate(location):
            fields = _fields_at(model, location[:depth])
            if not fields:
                break  # inside a value that is not a section, such as the free mapping task.coefficients
            if part not in fields:
                wrong = location[: depth + 1]
                raise ParameterError(f"{file}: unknown parameter '{'.'.join(wrong)}'. {_nearest_key(model, wrong)}")


def nearest(name: str, allowed: Iterable[str], cutoff: float = 0.5) -> str:
    """Return a hint: the nearest allowed spelling, or the list of all."""
    options = list(allowed)
    near = difflib.get_close_matches(name, options, n=1, cutoff=cutoff)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Allowed: {', '.join(options)}." if options else "There is none yet."


def sections_under(sections: Iterable[type[BaseModel]], key: str) -> list[type[BaseModel]]:
    """Return the section classes that the field `key` of any of `sections` may hold; none if it holds a plain value."""
    found: list[type[BaseModel]] = []
    for section in sections:
        field = section.model_fields.get(key)
        annotation = field.annotation if field else None
        is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
        for kind in typing.get_args(annotation) if is_union else (annotation,):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found.append(kind)
    return found


def _restrict(model: type[BaseModel], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the keys of partial sections that this model does not read."""
    from ups.parameters.section import PartialSection

    content = dict(raw)
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, PartialSection) and isinstance(raw.get(key), Mapping):
            content[key] = {name: raw[key][name] for name in kind.model_fields if name in raw[key]}
    return content


def _explain(model: type[BaseModel], raw: Mapping[str, Any], entry: Any, origin: Callable[[str], str] | None) -> str:
    location = _without_tags(model, [str(part) for part in entry["loc"]])
    key = ".".join(location)
    value = entry.get("input")
    source = f" (set in {origin(key)})" if origin and key else ""
    if entry["type"] == "extra_forbidden":
        return f"Unknown parameter '{key}' = {value!r}{source}. {_nearest_key(model, location)}"
    if entry["type"] == "missing":
        return f"Parameter '{key}' is missing; {BASE} must hold every parameter."
    where = f"Parameter '{key}'" if key else "Parameters"
    if entry["type"] in ("model_type", "dict_type"):
        inside = ", ".join(_fields_at(model, location)) or "its values by name"
        return f"{where} = {value!r}{source}: expected a section that holds {inside}."
    reason = entry["msg"].removeprefix("Value error, ").removeprefix("Input ")
    shown = "" if isinstance(value, Mapping) else f" = {value!r}"
    hint = ""
    if entry["type"] == "literal_error" and isinstance(value, str):
        options = typing.cast(str, entry["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        near = difflib.get_close_matches(value, options, n=1, cutoff=0.4)
        hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"{where}{shown}{source}: {reason}.{hint}"


def _without_tags(model: type[BaseModel], location: list[str]) -> list[str]:
    """Drop the names by which pydantic says which kind of a section it looked at: they are no keys of the file."""
    kept: list[str] = []
    current: list[type[BaseModel]] = [model]
    for part in location:
        if len(current) > 1:
            tagged = [kind for kind in current if part in typing.get_args(kind.model_fields["name"].annotation)]
            if tagged:
                current = tagged
                continue
        kept.append(part)
        current = sections_under(current, part)
    return kept


def _nearest_key(model: type[BaseModel], location: list[str]) -> str:
    """Return a hint for an unknown key: a similar key beside it, the same key elsewhere, or what is allowed here."""
    beside = list(_fields_at(model, location[:-1]))
    if location[-1] in beside:
        owners = [kind for kind in _sections_at(model, location[:-1]) if location[-1] in kind.model_fields]
        kinds = [name for kind in owners for name in typing.get_args(kind.model_fields["name"].annotation)]
        return f"It belongs to other kinds of '{'.'.join(location[:-1])}': {', '.join(kinds)}."
    near = difflib.get_close_matches(location[-1], beside, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{'.'.join([*location[:-1], near[0]])}'?"
    elsewhere = [key for key in _all_keys([model]) if key.split(".")[-1] == location[-1]]
    if elsewhere:
        same_section = [key for key in elsewhere if key.startswith(f"{location[0]}.")]
        return f"Did you mean '{(same_section or elsewhere)[0]}'?"
    return f"Allowed here: {', '.join(beside)}."


def _all_keys(sections: list[type[BaseModel]], prefix: str = "") -> list[str]:
    """Return every dotted key below `sections`, sections themselves included."""
    keys: list[str] = []
    for name in dict.fromkeys(name for section in sections for name in section.model_fields):
        keys.append(f"{prefix}{name}")
        keys.extend(_all_keys(sections_under(sections, name), f"{prefix}{name}."))
    return keys


def _fields_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """Return the names of the fields of the section at `location`, whatever its kind."""
    return list(dict.fromkeys(name for section in _sections_at(model, location) for name in section.model_fields))


def _sections_at(model: type[BaseModel], location: list[str]) -> list[type[BaseModel]]:
    """Return the section classes that may stand at `location`, looking through optional types."""
    current: list[type[BaseModel]] = [model]
    for part in location:
        current = sections_under(current, part)
    return current
