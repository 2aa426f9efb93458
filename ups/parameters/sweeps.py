"""Sweep files, `params/sweeps/<name>.yaml`: `variants:` or a `search:` for the best of them, and `seeds:`."""

from __future__ import annotations

from dataclasses import dataclass

from ups.errors import ParameterError
from ups.parameters.files import BASE, nearest, read_yaml
from ups.parameters.search_space import Search, parse_search

FOLDER = BASE.parent / "sweeps"
_KEYS = ("variants", "search", "seeds")


@dataclass(frozen=True)
class Sweep:
    """What a sweep file holds; no seeds stand for each variant's own.

    With a search, `variants` holds the one that its trials change: the reference that they are measured against.
    """

    name: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    search: Search | None = None


def read_sweep(name: str) -> Sweep:
    """Read a sweep file.

    Raises:
        ParameterError: naming the file, the key and what is expected.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if name not in known:
        raise ParameterError(f"Unknown sweep '{name}': {FOLDER} has no {name}.yaml. {nearest(name, known)}")
    path = FOLDER / f"{name}.yaml"
    content = read_yaml(path)
    for key in content:
        if key not in _KEYS:
            raise ParameterError(f"{path}: unknown key '{key}'. {nearest(str(key), _KEYS)}")
    variants, seeds = content.get("variants"), content.get("seeds", [])
    search = parse_search(content["search"], name, path) if "search" in content else None
    if search and variants is not None:
        raise ParameterError(
            f"{path} holds `variants` and a `search`. Write two sweep files: variants that are listed are compared, "
            "those of a search are chosen from."
        )
    variants = [search.base] if search else variants
    if not isinstance(variants, list) or not variants or not all(isinstance(v, str) for v in variants):
        raise ParameterError(f"{path}: `variants` = {variants!r}: expected names of files in params/variants.")
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ParameterError(f"{path}: `seeds` = {seeds!r}: expected a list of whole numbers from 0 on.")
    return Sweep(name, tuple(dict.fromkeys(variants)), tuple(dict.fromkeys(seeds)), search)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds in `0,1,2` or `0-5`.

    Raises:
        ParameterError: if the text is neither.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ParameterError(f"--seeds {text}: expected whole numbers such as 0,1,2 or a range such as 0-5.")
        if int(last or first) < int(first):
            raise ParameterError(f"--seeds {text}: '{part}' runs backwards. Write {last}-{first}.")
        found.extend(range(int(first), int(last or first) + 1))
    return tuple(dict.fromkeys(found))
