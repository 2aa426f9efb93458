"""Nested parameters as dotted keys: the form in which they are compared, logged and named in messages."""

from collections.abc import Mapping, MutableMapping
from typing import Any

MISSING = "(not set)"


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"a.b": value}` for `{"a": {"b": value}}`; lists and empty mappings are values."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def put(nested: MutableMapping[str, Any], key: str, value: Any) -> None:
    """Set the value at a dotted key, sections that are not there included; `MISSING` removes the key."""
    *parents, name = key.split(".")
    for parent in parents:
        nested = nested.setdefault(parent, {})
    if value == MISSING:
        del nested[name]
    else:
        nested[name] = value


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return every dotted key whose value differs, with both values; `MISSING` stands for a key that one lacks."""
    one, two = flatten(first), flatten(second)
    keys = [*one, *(key for key in two if key not in one)]
    pairs = {key: (one.get(key, MISSING), two.get(key, MISSING)) for key in keys}
    return {key: pair for key, pair in pairs.items() if not _same(*pair)}


def covered(key: str, declared: list[str]) -> bool:
    """Return whether a dotted key is one of the declared keys or lies in a declared section."""
    return any(key == name or key.startswith(f"{name}.") for name in declared)


def _same(one: Any, two: Any) -> bool:
    """Compare values as YAML shows them: 1 and true differ, 1 and 1.0 do not, lists and tuples are alike."""
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(_same(a, b) for a, b in zip(one, two, strict=True))
    return isinstance(one, bool) == isinstance(two, bool) and bool(one == two)
