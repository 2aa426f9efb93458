"""One variant with one seed: its name, its parameters, and how the command line's words lead to a list of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ups.errors import UpsError
from ups.parameters import selection
from ups.parameters.files import BASE, read_yaml
from ups.parameters.overlay import complete
from ups.parameters.selection import Selection
from ups.parameters.sweeps import parse_seeds, read_sweep
from ups.pipeline import stages, trials

BASE_NAME = "base"


@dataclass(frozen=True)
class Job:
    """One variant with one seed.

    Attributes:
        variant: its name; `base` for none.
        seed: the seed.
        selection: what it was resolved from.
        raw: the content of its `params/base.yaml`.
    """

    variant: str
    seed: int
    selection: Selection = field(compare=False)
    raw: Mapping[str, Any] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """Return the name of its workspace and of its results."""
        return f"{self.variant}-{self.seed}{job_suffix(self.selection.preset, self.selection.task)}"


def job_suffix(preset: str, task: str | None) -> str:
    """Return what a job's name says of a preset and a task: nothing of the default ones."""
    return "".join(f".{part}" for part in (preset if preset != selection.DEFAULT_PRESET else None, task) if part)


def resolve(
    variants: Sequence[str], seeds: Sequence[int] = (), preset: str = selection.DEFAULT_PRESET, task: str | None = None
) -> list[Job]:
    """Return every variant with every seed, all seeds of the first variant first.

    Args:
        variants: names; `base` is the original base file, and none at all stands for the parameters in use.
        seeds: none stands for each variant's own.
        preset, task: see `ups.parameters.overlay.resolve`.

    Raises:
        ParameterError: as `ups.parameters.overlay.resolve`.
    """
    if not variants:
        return _in_use(seeds, preset, task)
    original = selection.original_base()
    chosen = [Selection(None if name == BASE_NAME else name, task, preset) for name in dict.fromkeys(variants)]
    jobs = []
    for one in chosen:
        jobs += _with_seeds(one, selection.content(one, original), seeds)
    return jobs


def _in_use(seeds: Sequence[int], preset: str, task: str | None) -> list[Job]:
    """Return the parameters in use: what stands in `params/base.yaml` is what `dvc repro` runs, edits included."""
    chosen = selection.current() or Selection()
    if preset != selection.DEFAULT_PRESET or task:
        changes: dict[str, Any] = {"task": task or chosen.task}
        if preset != selection.DEFAULT_PRESET:
            changes["preset"] = preset
        chosen = replace(chosen, **changes)
        return _with_seeds(chosen, selection.content(chosen), seeds)
    content = read_yaml(BASE)
    complete(content)
    return _with_seeds(chosen, content, seeds)


def _with_seeds(chosen: Selection, content: Mapping[str, Any], seeds: Sequence[int]) -> list[Job]:
    jobs = []
    for seed in seeds or (int(content["seed"]),):
        # The seed is the topmost overlay: it changes this one value.
        raw = {**copy.deepcopy(dict(content)), "seed": seed}
        jobs.append(Job(chosen.variant or BASE_NAME, seed, replace(chosen, seed=seed), raw))
    return jobs


def choose(
    variants: Sequence[str] | None = None,
    sweep: str | None = None,
    seeds: str | Sequence[int] | None = None,
    preset: str = selection.DEFAULT_PRESET,
    task: str | None = None,
) -> list[Job]:
    """Return the jobs that the words of a command line or the parameters of a flow stand for.

    Args:
        variants: names, after those of the sweep.
        sweep: a file in params/sweeps.
        seeds: such as `0-5` or [0, 1]; the sweep's or each variant's own by default.
        preset, task: see `resolve`.

    Raises:
        UpsError: as `resolve`, if `dvc.yaml` does not match the stages' modules, or if the sweep is a search whose
            trials are drawn as it goes.
    """
    check()
    named = read_sweep(sweep) if sweep else None
    listed = list(named.variants) if named else []
    if named and named.search:
        if not named.search.known_in_advance:
            raise UpsError(
                f"The trials of {named.name} are drawn as it goes, each from the scores of those before: there is no "
                f"list of them. Run it with `ups sweep --sweep {named.name}`; `ups plan` shows what it draws next."
            )
        made = trials.drawn(named.search, 0, named.search.trials, (), preset, task)
        listed += [trial.name for trial in made if not trial.pruned]
    chosen = parse_seeds(seeds) if isinstance(seeds, str) else seeds
    return resolve([*listed, *(variants or ())], chosen or (named.seeds if named else ()), preset, task)


def check() -> None:
    """Refuse a `dvc.yaml` that does not match the stages' modules; a project of other commands has none to compare."""
    if Path("ups/stages").is_dir():
        stages.check()


def parameters(job: Job) -> dict[str, Any]:
    """Return the complete, validated parameters of a job."""
    return json.loads(json.dumps(complete(job.raw)))
