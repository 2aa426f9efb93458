"""The stages of `dvc.yaml` as a graph, with one variant's parameters filled in. Read without DVC, in milliseconds.

Understands what this project's `dvc.yaml` uses and refuses the rest: a plan that misread a stage would be worse
than none.
"""

from __future__ import annotations

import graphlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ups.errors import UpsError
from ups.parameters.files import BASE, read_yaml
from ups.pipeline.stages import DVC_YAML

_REFERENCE = re.compile(r"\$\{\s*([\w.-]+)\s*\}")
_KNOWN_KEYS = {"cmd", "params", "deps", "outs", "desc", "meta"}


@dataclass(frozen=True)
class Step:
    """A stage whose references to parameters are filled in.

    Attributes:
        stage: its name.
        command: the shell command that runs it.
        params: the values it depends on, by file and dotted key, as DVC tracks them.
        sources: files and folders it reads that no stage writes: code and data.
        products: files and folders it reads that a stage writes, with that stage.
        outs: files and folders it writes.
        resource: `cpu` or `gpu`; what it needs one of while it runs, where there is one.
    """

    stage: str
    command: str
    params: Mapping[str, Mapping[str, Any]]
    sources: tuple[str, ...]
    products: tuple[tuple[str, str], ...]
    outs: tuple[str, ...]
    resource: str

    @property
    def upstream(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(producer for _, producer in self.products))


def steps(raw: Mapping[str, Any], content: Mapping[str, Any] | None = None) -> list[Step]:
    """Return every stage, each after those whose outputs it reads.

    Args:
        raw: the content of `params/base.yaml` to fill in.
        content: that of `dvc.yaml`; read if not given.

    Raises:
        UpsError: naming the stage and what in it cannot be planned.
    """
    content = read_yaml(DVC_YAML) if content is None else content
    files: dict[str, Mapping[str, Any]] = {BASE.as_posix(): raw}
    values: dict[str, Any] = {}
    for name in content.get("vars", []):
        values.update(_values(name, files))
    stages = content.get("stages")
    if not isinstance(stages, Mapping):
        raise UpsError(f"{DVC_YAML} must hold a mapping `stages`, not {type(stages).__name__}.")
    filled = {name: _fill_stage(name, stage, values) for name, stage in stages.items()}
    writer = {out: name for name, stage in filled.items() for out in stage["outs"]}
    found = {name: _step(name, stage, writer, files) for name, stage in filled.items()}
    try:
        graphlib.TopologicalSorter({name: step.upstream for name, step in found.items()}).prepare()
    except graphlib.CycleError as error:
        raise UpsError(f"{DVC_YAML}: the stages {' -> '.join(error.args[1])} read each other in a circle.") from None
    # In the order of dvc.yaml as far as possible, which is that of a reader.
    done: list[str] = []
    while len(done) < len(found):
        done.append(next(n for n in found if n not in done and set(found[n].upstream) <= set(done)))
    return [found[name] for name in done]


def _fill_stage(name: str, stage: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(stage, Mapping) or not isinstance(stage.get("cmd"), str):
        raise UpsError(f"{DVC_YAML}: stage {name} must hold a command `cmd`, one string.")
    foreign = sorted(set(stage) - _KNOWN_KEYS)
    if foreign:
        raise UpsError(
            f"{DVC_YAML}: stage {name} uses {', '.join(foreign)}, which `ups plan` does not know; "
            f"it knows {', '.join(sorted(_KNOWN_KEYS))}."
        )
    for key in ("deps", "outs"):
        entries = stage.get(key)
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, str) for entry in entries):
            raise UpsError(
                f"{DVC_YAML}: stage {name} needs `{key}`, a list of paths without options; otherwise DVC keeps no "
                f"cache of its runs."
            )
    filled = {key: [_fill(entry, values, name) for entry in stage[key]] for key in ("deps", "outs")}
    return {**stage, **filled, "cmd": _fill(stage["cmd"], values, name)}


def _fill(text: str, values: Mapping[str, Any], name: str) -> str:
    def value(match: re.Match[str]) -> str:
        found = look_up(values, match.group(1))
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            raise UpsError(f"{DVC_YAML}: stage {name} refers to {match.group(0)} = {found!r}, which is no plain value.")
        return str(found)

    return _REFERENCE.sub(value, text)


def look_up(values: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key.

    Raises:
        UpsError: if there is none.
    """
    found: Any = values
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise UpsError(f"{DVC_YAML} refers to the parameter '{key}', which {BASE} does not hold.")
        found = found[part]
    return found


def _values(name: Any, files: dict[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    if not isinstance(name, str):
        raise UpsError(f"{DVC_YAML}: `vars` may hold names of files only, not {name!r}.")
    if name not in files:
        files[name] = read_yaml(Path(name))
    return files[name]


def _step(name: str, stage: Mapping[str, Any], writer: Mapping[str, str], files: dict[str, Mapping[str, Any]]) -> Step:
    products, sources = [], []
    for dep in stage["deps"]:
        producer = next((writer[out] for out in _with_parents(dep) if out in writer), None)
        if producer is None:
            sources.append(dep)
        else:
            products.append((dep, producer))
    meta = stage.get("meta") or {}
    resource = meta.get("resource", "cpu")
    if resource not in ("cpu", "gpu"):
        raise UpsError(f"{DVC_YAML}: stage {name}: meta.resource = {resource!r}: expected cpu or gpu.")
    params = _params(name, stage.get("params") or [], files)
    return Step(name, stage["cmd"], params, tuple(sources), tuple(products), tuple(stage["outs"]), resource)


def _params(name: str, entries: Any, files: dict[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if not isinstance(entry, Mapping) or not all(isinstance(keys, list) and keys for keys in entry.values()):
            raise UpsError(f"{DVC_YAML}: stage {name}: params must be {{file: [keys]}}, not {entry!r}.")
        for file, keys in entry.items():
            content = _values(file, files)
            found.setdefault(file, {}).update({key: look_up(content, key) for key in keys})
    return {file: dict(sorted(values.items())) for file, values in sorted(found.items())}


def _with_parents(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]
