"""Draw the trials of a search. The only place that imports optuna.

Every draw has a seed of its own, made from the search's and the trial's number. So what is drawn depends on the search
and on the scores it was drawn from, and on nothing else: a search that was killed draws the same trials again, and one
with more trials begins with those that it had.
"""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ups.parameters.search_space import Choices, Interval, Search

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

_DIGITS = 4  # significant ones of a drawn number: nobody wants to read, or copy, sixteen


@dataclass(frozen=True)
class Told:
    """A trial that is over: its values and its score; None for one that is bad but has no score."""

    values: Mapping[str, Any]
    score: float | None


def draw(search: Search, first: int, count: int, told: Sequence[Told] = ()) -> list[dict[str, Any]]:
    """Return the values of some trials, by dotted key.

    Args:
        search: the search.
        first, count: number of the first trial, and how many; they are drawn without knowing each other's scores.
        told: the trials before; read by the sampler tpe alone.
    """
    if search.sampler == "grid":
        return list(itertools.islice(search.grid(), first, first + count))
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=search.direction)
    distributions = {key: _distribution(values) for key, values in search.space.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if search.sampler == "tpe":
            for one in told:
                _tell(study, search, distributions, one)
        return [_ask(study, search, distributions, number) for number in range(first, first + count)]


def _ask(study: Study, search: Search, distributions: Mapping[str, BaseDistribution], number: int) -> dict[str, Any]:
    from optuna.samplers import RandomSampler, TPESampler

    seed = random.Random(f"{search.seed} {number}").getrandbits(31)
    study.sampler = RandomSampler(seed) if search.sampler == "random" else TPESampler(seed=seed)
    trial = study.ask(dict(distributions))
    return {key: _drawn(values, trial.params[key]) for key, values in search.space.items()}


def _tell(study: Study, search: Search, distributions: Mapping[str, BaseDistribution], one: Told) -> None:
    from optuna.trial import TrialState, create_trial

    params = {key: _told(values, one.values[key]) for key, values in search.space.items()}
    state = TrialState.PRUNED if one.score is None else TrialState.COMPLETE
    study.add_trial(create_trial(state=state, value=one.score, params=params, distributions=dict(distributions)))


def _distribution(values: Interval | Choices) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, Choices):  # by position: a value may be a list or a section
        return CategoricalDistribution(list(range(len(values.values))))
    if values.integer:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _drawn(values: Interval | Choices, drawn: Any) -> Any:
    """Return a parameter's value from what optuna drew."""
    if isinstance(values, Choices):
        return values.values[drawn]
    if values.integer:
        return int(drawn)
    return min(max(float(f"{drawn:.{_DIGITS}g}"), float(values.low)), float(values.high))


def _told(values: Interval | Choices, value: Any) -> Any:
    """Return what optuna is told of a parameter's value."""
    return values.values.index(value) if isinstance(values, Choices) else value
