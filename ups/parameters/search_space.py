"""A search over parameters, as a sweep file describes it under `search:`; how its trials are drawn is not known here.

search:
  base: golden                                    # the variant that every trial changes
  sampler: tpe                                    # grid, random or tpe
  trials: 24                                      # a grid has as many as points
  batch: 2                                        # tpe: trials drawn at once, from the scores of all before
  seed: 0                                         # of the draws
  score: train_diffusion.explained_residual       # <stage>.<metric>, measured on the validation split
  direction: maximize
  space:
    train_diffusion.depth: {values: [2, 3, 4]}
    train_diffusion.optimization.epochs: {low: 2, high: 10, integer: true}
    train_diffusion.optimization.learning_rate: {low: 1.0e-6, high: 1.0e-4, log: true}
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ups.errors import ParameterError
from ups.parameters.files import check_keys, nearest
from ups.parameters.flat import covered
from ups.parameters.overlay import DEFAULT_PRESET
from ups.parameters.schema import Parameters

SAMPLERS = ("grid", "random", "tpe")
DIRECTIONS = ("minimize", "maximize")
_KEYS = ("base", "sampler", "trials", "batch", "seed", "score", "direction", "space")
# With other data or another seed a score is of another question: the search would find the easiest, or the luckiest.
_FIXED = ["seed", "task", "data", "simulate", "prepare_data", "compute"]
# What is measured on validation and does not say so in its name.
_ON_VALIDATION = {
    "train_codec": ("reconstruction_nrmse",),
    "train_diffusion": ("explained_residual",),
    "distill": ("error_over_teacher", "distance_over_operator_distance"),
}
_ON_TEST = ("evaluate", "evaluate_ttc")


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, both included; `log` draws their logarithm uniformly."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def points(self) -> tuple[Any, ...] | None:
        """Return every value; None where there are too many to try them all."""
        return tuple(range(int(self.low), int(self.high) + 1)) if self.integer else None


@dataclass(frozen=True)
class Choices:
    """Some values of any kind; a single one is the same in every trial."""

    values: tuple[Any, ...]

    def points(self) -> tuple[Any, ...]:
        """Return every value."""
        return self.values


@dataclass(frozen=True)
class Search:
    """See the module's header; `stage` and `metric` are the two parts of `score`, `sweep` is the file's name."""

    sweep: str
    base: str
    sampler: str
    trials: int
    batch: int
    seed: int
    stage: str
    metric: tuple[str, ...]
    direction: Literal["minimize", "maximize"]
    space: Mapping[str, Interval | Choices]

    def trial_name(self, number: int, preset: str, task: str | None) -> str:
        """Return the name of a trial: `corrector-search-007`.

        What `tpe` draws depends on scores, and these on preset and task; so there the name says them where they are
        not the default ones.
        """
        parts = () if self.known_in_advance else (preset if preset != DEFAULT_PRESET else None, task)
        return "-".join([self.sweep, *(part for part in parts if part), f"{number:03d}"])

    @property
    def score(self) -> str:
        return ".".join((self.stage, *self.metric))

    @property
    def known_in_advance(self) -> bool:
        """Whether no trial depends on the score of another."""
        return self.sampler != "tpe"

    @property
    def choices(self) -> list[str]:
        """Return the keys in which trials differ."""
        return [
            key for key, values in self.space.items() if not (isinstance(values, Choices) and len(values.values) == 1)
        ]

    def better(self, one: float, other: float) -> bool:
        """Return whether a score is better than another."""
        return one < other if self.direction == "minimize" else one > other

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of a space whose points can be counted; the last key changes fastest."""
        points = [values.points() or () for values in self.space.values()]
        for combination in itertools.product(*points):
            yield dict(zip(self.space, combination, strict=True))


def parse_search(raw: Any, sweep: str, path: Path) -> Search:
    """Return what stands under `search:` in a sweep file.

    Raises:
        ParameterError: naming the file, the key, its value and what is expected.
    """
    if not isinstance(raw, Mapping):
        raise ParameterError(f"{path}: `search` = {raw!r}: expected the keys {', '.join(_KEYS)}.")
    for key in raw:
        if key not in _KEYS:
            raise ParameterError(f"{path}: unknown key 'search.{key}'. {nearest(str(key), _KEYS)}")
    for key in ("base", "sampler", "score", "direction", "space"):
        if key not in raw:
            raise ParameterError(f"{path}: `search.{key}` is missing.")

    def one_of(key: str, allowed: tuple[str, ...]) -> str:
        if raw[key] not in allowed:
            raise ParameterError(f"{path}: `search.{key}` = {raw[key]!r}: {nearest(str(raw[key]), allowed)}")
        return str(raw[key])

    def whole(key: str, default: int, smallest: int) -> int:
        value = raw.get(key, default)
        if type(value) is not int or value < smallest:
            raise ParameterError(f"{path}: `search.{key}` = {value!r}: expected a whole number from {smallest} on.")
        return value

    if not isinstance(raw["base"], str):
        raise ParameterError(f"{path}: `search.base` = {raw['base']!r}: expected the name of a variant.")
    sampler = one_of("sampler", SAMPLERS)
    space = _space(raw["space"], sampler, path)
    if sampler == "grid":
        trials = math.prod(len(values.points() or ()) for values in space.values())
        if raw.get("trials", trials) != trials:
            raise ParameterError(
                f"{path}: `search.trials` = {raw['trials']!r}, but the grid has {trials} points and all of them are "
                "tried. Leave `trials` out, shorten the lists of values, or take the sampler random."
            )
    elif "trials" not in raw:
        raise ParameterError(f"{path}: `search.trials` is missing: how many trials the sampler {sampler} may make.")
    else:
        trials = whole("trials", 1, 1)
    if "batch" in raw and sampler != "tpe":
        raise ParameterError(f"{path}: `search.batch` is for the sampler tpe alone; the trials of {sampler} are known.")
    stage, metric = _score(raw["score"], path)
    batch, seed = whole("batch", 1, 1), whole("seed", 0, 0)
    direction: Literal["minimize", "maximize"] = (
        "minimize" if one_of("direction", DIRECTIONS) == "minimize" else "maximize"
    )
    return Search(sweep, raw["base"], sampler, trials, batch, seed, stage, metric, direction, space)


def _score(text: Any, path: Path) -> tuple[str, tuple[str, ...]]:
    """Return stage and metric of a score; only what is measured on validation may choose."""
    stage, *metric = str(text).split(".")
    if not isinstance(text, str) or not all((stage, *metric)) or not metric:
        raise ParameterError(
            f"{path}: `search.score` = {text!r}: expected STAGE.METRIC, as in the stage's metrics.json."
        )
    named = any(part == "validation" or part.startswith("val_") for part in metric)
    if named or metric[0] in _ON_VALIDATION.get(stage, ()):
        return stage, tuple(metric)
    where = (
        "is measured on the test split. A test score that chooses among trials is the best of many draws and says "
        "nothing any more about the one chosen"
        if stage in _ON_TEST
        else "is not measured on the validation split"
    )
    known = [f"{name}.{key}" for name, keys in _ON_VALIDATION.items() for key in keys]
    raise ParameterError(
        f"{path}: `search.score` = {text} {where}. Take a validation metric: evaluate.validation.<model>.<protocol>."
        f"nrmse, <stage>.val_loss, {', '.join(known)}."
    )


def _space(raw: Any, sampler: str, path: Path) -> dict[str, Interval | Choices]:
    if not isinstance(raw, Mapping) or not raw or not all(isinstance(key, str) for key in raw):
        raise ParameterError(f"{path}: `search.space` = {raw!r}: expected dotted parameters with what they may be.")
    check_keys(Parameters, raw, str(path))
    found = {}
    for key, content in raw.items():
        if covered(key, _FIXED):
            raise ParameterError(
                f"{path}: `search.space` holds '{key}': scores of trials on other data, with other seeds or on other "
                "devices cannot be compared. Take it out."
            )
        nested = [other for other in raw if other != key and covered(other, [key])]
        if nested:
            raise ParameterError(f"{path}: `search.space` holds '{key}' and '{nested[0]}' inside it. Keep one of them.")
        found[key] = _values(content, f"{path}: `search.space.{key}`")
        if sampler == "grid" and found[key].points() is None:
            raise ParameterError(f"{path}: `search.space.{key}` is an interval: a grid needs {{values: [...]}}.")
    return found


def _values(content: Any, where: str) -> Interval | Choices:
    expected = "expected {values: [...]} or {low, high, log, integer}"
    if not isinstance(content, Mapping):
        raise ParameterError(f"{where} = {content!r}: {expected}.")
    if "values" in content:
        values = content["values"]
        if set(content) != {"values"} or not isinstance(values, list) or not values:
            raise ParameterError(f"{where} = {dict(content)!r}: {expected}, at least one value.")
        if any(value in values[:at] for at, value in enumerate(values)):
            raise ParameterError(f"{where} = {values!r} holds a value twice. Take one of them out.")
        return Choices(tuple(values))
    unknown = set(content) - {"low", "high", "log", "integer"}
    log, integer = content.get("log", False), content.get("integer", False)
    if unknown or not {"low", "high"} <= set(content) or type(log) is not bool or type(integer) is not bool:
        raise ParameterError(f"{where} = {dict(content)!r}: {expected}.")
    low, high = content["low"], content["high"]
    for bound in (low, high):
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise ParameterError(f"{where}: {bound!r} is no bound; expected a number.")
        if integer and bound != int(bound):
            raise ParameterError(f"{where}: {bound!r} is not whole, but `integer` is true.")
    if low >= high or (log and low <= 0):
        raise ParameterError(f"{where}: low = {low}, high = {high}: expected {'0 < ' if log else ''}low < high.")
    return Interval(low, high, log, integer)
