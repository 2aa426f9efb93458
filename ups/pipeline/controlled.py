"""Is a comparison a controlled experiment? It is if two runs differ in what their variants declare and in nothing else.

Compared are all parameters, the code of every stage, the data, and the environment of every stage. A file that a stage
made may differ where a declared parameter of that stage, or of one before it, was changed; otherwise it is named too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ups.parameters.flat import MISSING, covered, differences
from ups.parameters.overlay import lineage
from ups.pipeline.run_record import ARTIFACTS, RunRecord

NO_VARIANT = "base"


@dataclass(frozen=True)
class Difference:
    """One thing in which two runs differ without having declared it.

    Attributes:
        kind: "parameter", "stage", "command", "code", "data" or "environment".
        name: the parameter, file, package, or stage.
        first, second: what either run has.
        stages: the stages it reaches; empty for a parameter.
    """

    kind: str
    name: str
    first: str
    second: str
    stages: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" (in {', '.join(self.stages)})" if self.stages else ""
        return f"{self.kind} {self.name}: {_short(self.first)} -> {_short(self.second)}{where}"


def undeclared(first: RunRecord, second: RunRecord, declared: list[str]) -> list[Difference]:
    """Return every difference between two runs that is not declared; the runs are CONTROLLED if there is none.

    Args:
        first, second: the runs.
        declared: dotted keys or sections that may differ, see `declared_between`.
    """
    changed = differences(first.params, second.params)
    found = [
        Difference("parameter", key, str(one), str(two))
        for key, (one, two) in changed.items()
        if not covered(key, declared)
    ]
    shared = [name for name in first.stages if name in second.stages]
    for name in {**first.stages, **second.stages}:
        if name not in shared:
            one, two = (MISSING if name not in run.stages else "run" for run in (first, second))
            found.append(Difference("stage", name, one, two))
    allowed = {key for key in changed if covered(key, declared)}
    return [
        *found,
        *_commands(first, second, shared),
        *_files("code", first, second, shared),
        *_data(first, second, shared, allowed),
        *_environment(first, second, shared),
    ]


def declared_between(first: str, second: str) -> list[str]:
    """Return the keys that two variants declare to vary against each other: those of the lines that lead to them from
    the nearest ancestor they share. The name `base` stands for the parameters without a variant.

    Raises:
        ParameterError: if a variant does not exist.
    """
    lines = [[] if name == NO_VARIANT else lineage(name) for name in (first, second)]
    names = [{variant.name for variant in line} for line in lines]
    apart = [variant for line in lines for variant in line if variant.name in names[0] ^ names[1]]
    return list(dict.fromkeys(key for variant in apart for key in variant.varies))


def _commands(first: RunRecord, second: RunRecord, shared: list[str]) -> Iterable[Difference]:
    for name in shared:
        one, two = first.stages[name].command, second.stages[name].command
        if one != two:
            yield Difference("command", name, one, two, (name,))


def _files(
    kind: str, first: RunRecord, second: RunRecord, shared: list[str], explained: frozenset[str] = frozenset()
) -> Iterable[Difference]:
    """Name the files whose hashes differ, each once for every pair of hashes, with the stages that read it."""
    seen: dict[tuple[str, str, str], list[str]] = {}
    for name in shared:
        one, two = (run.stages[name].code if kind == "code" else run.stages[name].inputs for run in (first, second))
        for path in {**one, **two}:
            pair = one.get(path, MISSING), two.get(path, MISSING)
            if pair[0] != pair[1] and path not in explained:
                seen.setdefault((path, *pair), []).append(name)
    for (path, before, after), stages in seen.items():
        yield Difference(kind, path, before, after, tuple(stages))


def _data(first: RunRecord, second: RunRecord, shared: list[str], allowed: set[str]) -> Iterable[Difference]:
    remade = _remade(first, shared, allowed) | _remade(second, shared, allowed)
    read = {path for run in (first, second) for stage in run.stages.values() for path in stage.inputs}
    explained = {path for path in read if _producer(path) in remade}
    if "data.path" in allowed:  # another file was declared; the same file with other content never is
        explained |= {str(run.params["data"]["path"]) for run in (first, second)}
    return _files("data", first, second, shared, frozenset(explained))


def _remade(run: RunRecord, shared: list[str], allowed: set[str]) -> set[str]:
    """Return the stages whose results differ because a declared parameter of theirs, or of a stage before, changed."""
    reached = {name for name in shared if any(covered(key, list(run.stages[name].params)) for key in allowed)}
    while True:
        below = {
            name for name in shared if any(_producer(path) in reached for path in run.stages[name].inputs)
        } | reached
        if below == reached:
            return reached
        reached = below


def _producer(path: str) -> str | None:
    """Return the stage that made a file, None for a file from outside."""
    folder, _, rest = path.partition("/")
    return rest.split("/")[0] if folder == ARTIFACTS.name and rest else None


def _environment(first: RunRecord, second: RunRecord, shared: list[str]) -> Iterable[Difference]:
    seen: dict[tuple[str, str, str], list[str]] = {}
    for name in shared:
        one, two = first.stages[name], second.stages[name]
        if one.environment is None or two.environment is None:
            # One execution shared by both needs no record; two executions without one may have been anywhere.
            if one.output != two.output:
                before, after = ("not recorded" if side.environment is None else "recorded" for side in (one, two))
                seen.setdefault(("all of it", before, after), []).append(name)
            continue
        for key in {**one.environment, **two.environment}:
            pair = one.environment.get(key, MISSING), two.environment.get(key, MISSING)
            if pair[0] != pair[1]:
                seen.setdefault((key, *pair), []).append(name)
    for (key, before, after), stages in seen.items():
        yield Difference("environment", key, before, after, tuple(stages))


def over_seeds(pairs: Mapping[int, tuple[RunRecord, RunRecord]], declared: list[str]) -> dict[Difference, list[int]]:
    """Return every undeclared difference with the seeds in which it occurs; empty for a controlled comparison."""
    found: dict[Difference, list[int]] = {}
    for seed, (first, second) in sorted(pairs.items()):
        for difference in undeclared(first, second, declared):
            found.setdefault(difference, []).append(seed)
    return found


def _short(value: str) -> str:
    """Shorten a hash as git does; everything else is shown as it is."""
    return value[:10] if len(value) == 32 and set(value) <= set("0123456789abcdef") else value
