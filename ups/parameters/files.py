"""Read parameter files and turn validation failures into errors a user can act on."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ups.errors import ParameterError

BASE = Path("params/base.yaml")

S = TypeVar("S", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        ParameterError: if the file is missing, is not YAML, or does not hold a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ParameterError(f"{path} does not exist. Run the command in the project's folder.") from None
    except yaml.YAMLError as error:
        raise ParameterError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ParameterError(f"{path} must hold a mapping of sections, not {type(content).__name__}")
    return content


def validate_section(model: type[S], raw: Mapping[str, Any]) -> S:
    """Build `model` from raw YAML content; a partial section takes only the keys it declares.

    Raises:
        ParameterError: naming the key, its value, what is allowed and the nearest valid spelling.
    """
    try:
        return model.model_validate(_restrict(model, raw))
    except ValidationError as error:
        raise ParameterError(" ".join(_explain(model, raw, entry) for entry in error.errors())) from None


def _restrict(model: type[BaseModel], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the keys of partial sections that this model does not read."""
    from ups.parameters.section import PartialSection

    content = dict(raw)
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, PartialSection) and isinstance(raw.get(key), Mapping):
            content[key] = {name: raw[key][name] for name in kind.model_fields if name in raw[key]}
    return content


def _explain(model: type[BaseModel], raw: Mapping[str, Any], entry: Any) -> str:
    location = [str(part) for part in entry["loc"]]
    key = ".".join(location)
    value = entry.get("input")
    if entry["type"] == "extra_forbidden":
        allowed = list(_fields_at(model, location[:-1]))
        near = difflib.get_close_matches(location[-1], allowed, n=1, cutoff=0.5)
        hint = f"Did you mean '{near[0]}'?" if near else f"Allowed here: {', '.join(allowed)}."
        return f"Unknown parameter '{key}' (value {value!r}). {hint}"
    if entry["type"] == "missing":
        return f"Parameter '{key}' is missing; params/base.yaml must hold every parameter."
    reason = entry["msg"].removeprefix("Value error, ")
    where = f"Parameter '{key}'" if key else "Parameters"
    shown = "" if isinstance(value, Mapping) else f" = {value!r}"
    hint = ""
    if entry["type"] == "literal_error" and isinstance(value, str):
        options = typing.cast(str, entry["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        near = difflib.get_close_matches(value, options, n=1, cutoff=0.4)
        hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"{where}{shown}: {reason[0].lower() + reason[1:]}.{hint}"


def _fields_at(model: type[BaseModel], location: list[str]) -> Mapping[str, Any]:
    """Return the fields of the section at `location`, looking through optional types."""
    current: Any = model
    for part in location:
        fields = getattr(current, "model_fields", {})
        if part not in fields:
            return {}
        current = fields[part].annotation
        if typing.get_origin(current) in (typing.Union, types.UnionType):
            current = next(a for a in typing.get_args(current) if a is not type(None))
    return getattr(current, "model_fields", {})
