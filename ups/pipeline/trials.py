"""The trials of a search: variants whose overlay was drawn, in `params/trials/`, where all commands find them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from ups.errors import ParameterError
from ups.parameters import selection
from ups.parameters.flat import put
from ups.parameters.overlay import TRIALS, names, resolve
from ups.parameters.search_space import Search
from ups.parameters.selection import Selection
from ups.pipeline import atomic, samplers
from ups.pipeline.samplers import Told


@dataclass
class Trial:
    """One draw.

    Attributes:
        name: of the variant that it is.
        values: what was drawn, by dotted key.
        score: on validation, the mean over seeds; None as long as there is none.
        pruned: why its parameters are impossible; it is not run.
        problem: why there is no score although it was run.
    """

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    score: float | None = None
    pruned: str = ""
    problem: str = ""

    @property
    def over(self) -> bool:
        """Return whether nothing is to be expected of it any more."""
        return self.score is not None or bool(self.pruned or self.problem)


def drawn(search: Search, first: int, count: int, told: Sequence[Told], preset: str, task: str | None) -> list[Trial]:
    """Draw some trials and write each to `params/trials/`, those with impossible parameters excepted.

    Raises:
        ParameterError: if the search's base does not resolve, or a variant has the name of a trial.
    """
    original = selection.original_base()
    Selection(search.base, task, preset).resolve()  # what is wrong with the base is no trial's fault
    found = []
    for number, values in enumerate(samplers.draw(search, first, count, told), first):
        trial = Trial(search.trial_name(number, preset, task), values)
        if trial.name in names("variants"):
            raise ParameterError(f"params/variants/{trial.name}.yaml has the name of a trial. Rename it, or the sweep.")
        _write(search, trial, number)
        try:
            # What a variant changes is also said without a preset, which may mend an impossible combination.
            for one in (preset, None):
                resolve(original, task, trial.name, one)
        except ParameterError as error:
            trial.pruned = str(error)
            (TRIALS / f"{trial.name}.yaml").unlink()
        found.append(trial)
    return found


def overlay(search: Search, trial: Trial) -> str:
    """Return a trial as the text of a variant's file."""
    nested: dict[str, Any] = {}
    for key, value in trial.values.items():
        put(nested, key, value)
    head = {
        "extends": search.base,
        "hypothesis": f"{trial.name} of the search {search.sweep} by {search.score}.",
        "varies": list(trial.values),
    }
    return "".join(yaml.safe_dump(part, sort_keys=False, width=120) for part in (head, nested))


def _write(search: Search, trial: Trial, number: int) -> None:
    comment = (
        f"# Trial {number} of {search.trials}, drawn by `{search.sampler}` from params/sweeps/{search.sweep}.yaml.\n"
        "# To keep a trial, copy it to params/variants under a name that says what it is.\n"
    )
    atomic.write_text(TRIALS / f"{trial.name}.yaml", comment + overlay(search, trial))
