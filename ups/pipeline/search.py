"""A search: draw trials, run them like variants of any sweep, and say which scored best on validation.

Nothing but DVC's cache remembers a search. Whoever runs it again draws the same trials again and finds their results
there, up to the point where it was stopped; so there is no second record that could disagree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ups.errors import ArtifactError, ParameterError, UpsError
from ups.parameters.flat import flatten
from ups.parameters.overlay import DEFAULT_PRESET
from ups.parameters.search_space import Search
from ups.parameters.sweeps import Sweep
from ups.pipeline import collect, jobs, trials
from ups.pipeline.jobs import Job
from ups.pipeline.plan import Plan, plan
from ups.pipeline.samplers import Told
from ups.pipeline.sweep import Report
from ups.pipeline.trials import Trial

_FRESH_SEEDS = 6  # to suggest for the winner; docs/comparison.md says what so many can show


@dataclass
class Searching:
    """How far a search has come.

    Attributes:
        search: what is searched.
        seeds: of every trial; a score is the mean over them.
        preset, task, strict_environment: as for `ups.pipeline.plan.plan`.
        trials: all that were drawn, in their order.
        reference: the search's base, scored like a trial.
    """

    search: Search
    seeds: tuple[int, ...]
    preset: str
    task: str | None
    strict_environment: bool = False
    trials: list[Trial] = field(default_factory=list)
    reference: Trial = field(init=False)
    _sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reference = Trial(self.search.base)

    def draw(self) -> list[Trial]:
        """Draw the next trials: all of them if they are known in advance, else a batch; none when all are drawn."""
        first = len(self.trials)
        left = self.search.trials - first
        count = left if self.search.known_in_advance else min(left, self.search.batch)
        if count <= 0:
            return []
        # A trial that failed would fail again, but not for its parameters: the sampler is not to learn from it.
        told = [Told(one.values, one.score) for one in self.trials if one.score is not None or one.pruned]
        fresh = trials.drawn(self.search, first, count, told, self.preset, self.task)
        self.trials += fresh
        return fresh

    def plan(self, batch: Sequence[Trial]) -> Plan:
        """Plan some trials; the reference is planned with the first ones.

        Raises:
            UpsError: if no stage has the name of the score's, or if code or data were changed since the first batch.
        """
        names = [trial.name for trial in batch if not trial.pruned]
        if batch and batch[0] is self.trials[0]:
            names.insert(0, self.reference.name)
        chosen = jobs.resolve(names, self.seeds, self.preset, self.task) if names else []
        made = plan(chosen, self.strict_environment)
        stages = {node.stage for node in made.nodes}
        if stages and self.search.stage not in stages:
            raise ParameterError(
                f"The search {self.search.sweep} is scored by {self.search.score}, but there is no stage "
                f"'{self.search.stage}'. The stages are {', '.join(sorted(stages))}."
            )
        if not self.search.known_in_advance:
            self._refuse_changes(made)
        return made

    def _refuse_changes(self, made: Plan) -> None:
        """Every batch is cut from the working tree as it is then; scores of different code are not of one search."""
        for path in sorted({path for node in made.nodes for path in node.step.sources}):
            md5 = made.sources.entry(path)["md5"]
            if self._sources.setdefault(path, md5) != md5:
                raise UpsError(
                    f"{path} was changed while the search {self.search.sweep} ran, which draws trials from the scores "
                    "of those before. Start it again: what the change does not reach comes from the cache."
                )

    def take(self, batch: Sequence[Trial], made: Plan) -> None:
        """Read the scores of trials whose stages are in the cache."""
        for trial in (self.reference, *batch):
            mine = [job for job in made.jobs if job.variant == trial.name]
            if not mine:
                continue  # pruned, or the reference beside later trials
            found = [_score(made, job, self.search) for job in mine]
            scores = [score for score, _ in found if score is not None]
            if len(scores) == len(mine):
                trial.score = sum(scores) / len(scores)
            trial.problem = next((problem for _, problem in found if problem), "")

    @property
    def best(self) -> Trial | None:
        """Return the trial with the best score; of equal ones the first."""
        best: Trial | None = None
        for trial in self.trials:
            if trial.score is not None and (
                best is None or best.score is None or self.search.better(trial.score, best.score)
            ):
                best = trial
        return best

    def progress(self) -> str:
        """Return how far the search has come, and what is known of its trials in advance."""
        search, over = self.search, sum(trial.over for trial in self.trials)
        how = "all of them known in advance"
        if not search.known_in_advance:
            how = f"drawn as it goes, {search.batch} at a time, each from the scores of those before"
        lines = [
            f"{search.sweep}: {search.trials} trials by {search.sampler}, {how}; {over} over, "
            f"{len(self.trials) - over} planned above, {search.trials - len(self.trials)} not drawn yet."
        ]
        lines += [f"PRUNED, impossible: {trial.name}: {trial.pruned}" for trial in self.trials if trial.pruned]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return everything that is known, for programs."""
        best = self.best
        return {
            "sweep": self.search.sweep,
            "score": self.search.score,
            "direction": self.search.direction,
            "seeds": list(self.seeds),
            "reference": asdict(self.reference),
            "trials": [asdict(trial) for trial in self.trials],
            "best": best.name if best else None,
        }


def begin(
    sweep: Sweep,
    seeds: Sequence[int],
    preset: str,
    task: str | None,
    strict_environment: bool = False,
) -> Searching:
    """Return a search of which nothing is drawn yet.

    Args:
        sweep: with a search.
        seeds: instead of the file's; none stands for the file's, else for the base's own.
        preset, task: what is searched under.
        strict_environment: see `ups.pipeline.plan.plan`.

    Raises:
        UpsError: if the sweep holds no search, or if what `tpe` draws would depend on the command line.
    """
    search = sweep.search
    if search is None:
        raise UpsError(f"The sweep {sweep.name} holds no search.")
    if seeds and not search.known_in_advance and tuple(seeds) != sweep.seeds:
        raise UpsError(
            f"The sampler tpe draws from scores, and they belong to the seeds in params/sweeps/{sweep.name}.yaml: with "
            "--seeds the same names would stand for other trials. Change them in the file; to run one trial over other "
            f"seeds, name it: `ups sweep {search.trial_name(0, preset, task)} --seeds 1-6`."
        )
    chosen = tuple(seeds) or sweep.seeds or (jobs.resolve([search.base], (), preset, task)[0].seed,)
    return Searching(search, chosen, preset, task, strict_environment)


def look(searching: Searching) -> Plan:
    """Draw all trials that follow from results in the cache; returns the plan of the first ones without a score."""
    made = plan([])
    while batch := searching.draw():
        made = searching.plan(batch)
        if made.executions:
            break
        searching.take(batch, made)
    return made


def run(searching: Searching, execute: Callable[[Plan], Report]) -> Report:
    """Draw and execute until every trial is over, or a signal ends it.

    Args:
        searching: as returned by `begin`.
        execute: executes a plan.

    Returns: the reports of all sweeps as one.
    """
    total = Report()
    while batch := searching.draw():
        made = searching.plan(batch)
        if made.jobs:
            report = execute(made)
            total = _joined(total, report)
            searching.take(batch, made)
            if report.interrupted:
                break
            if not all(trial.over for trial in batch):  # or the sweep had to plan anew, on finding the cache corrupt
                searching.take(batch, searching.plan(batch))
            for trial in batch:
                trial.problem = trial.problem or ("" if trial.over else f"FAILED before {searching.search.stage}")
    return total


def table(searching: Searching) -> str:
    """Return the trials by score, the best one's overlay to copy, and what its score is worth."""
    search = searching.search
    scored = [trial for trial in (searching.reference, *searching.trials) if trial.score is not None]
    scored.sort(key=lambda trial: trial.score or 0.0, reverse=search.direction == "maximize")
    width = max(len(trial.name) for trial in (searching.reference, *searching.trials))
    lines = [f"{search.score} on validation, the best first ({search.direction}; mean over {_seeds(searching.seeds)}):"]
    for trial in scored:
        shown = f"what {search.sweep} starts from" if trial is searching.reference else _values(search, trial)
        lines.append(f"  {trial.name:<{width}}  {trial.score:<10.5g}  {shown}")
    for trial in searching.trials:
        if trial.score is None:
            why = f"PRUNED, impossible: {trial.pruned}" if trial.pruned else trial.problem or "not finished"
            lines.append(f"  {trial.name:<{width}}  {'–':<10}  {_values(search, trial)}: {why}")
    return "\n".join([*lines, *_advice(searching)])


def _advice(searching: Searching) -> list[str]:
    search, best = searching.search, searching.best
    if best is None or best.score is None:
        return ["No trial has a score."]
    reference = searching.reference.score
    if reference is not None and not search.better(best.score, reference):
        return [f"No trial is better on validation than {search.base}, which the search started from."]
    named = trials.overlay(search, best)
    same = [key for key in search.space if key not in search.choices]
    chances = sum(trial.score is not None for trial in searching.trials)
    options = [
        *(("--preset", searching.preset) if searching.preset != DEFAULT_PRESET else ()),
        *(("--task", searching.task) if searching.task else ()),
    ]
    with_options = " ".join(("", *options))
    return [
        "",
        f"Best on validation: {best.name}. To keep it, as params/variants/<name>.yaml:",
        "",
        *(f"    {line}" for line in named.splitlines()),
        "",
        *([f"The same in all trials: {', '.join(same)}. Leave out what was only to save time."] if same else ()),
        f"It is the best of {chances} on {_seeds(searching.seeds)}, so part of its lead is luck: its score here, and "
        "its test score with these seeds, are no claim. Run it over fresh seeds, beside what it should beat:",
        "",
        f"    ups sweep {search.base} {best.name} --seeds {_fresh(searching.seeds)}{with_options}",
        f"    ups compare {search.base} {best.name} --seeds {_fresh(searching.seeds)}{with_options}",
    ]


def _values(search: Search, trial: Trial) -> str:
    return ", ".join(f"{key.rpartition('.')[2]} {trial.values[key]}" for key in search.choices)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _fresh(used: Sequence[int]) -> str:
    """Return as many following seeds as are suggested, none of them used."""
    first = 1
    while set(range(first, first + _FRESH_SEEDS)) & set(used):
        first += 1
    return f"{first}-{first + _FRESH_SEEDS - 1}"


def _score(made: Plan, job: Job, search: Search) -> tuple[float | None, str]:
    """Return the score of a trial with one seed, or why there is none; neither if its stage has not run.

    Raises:
        ArtifactError: if the stage measured nothing of that name.
    """
    node = made.of(job).get(search.stage)
    if node is None or node.outs is None:
        return None, ""
    metrics = made.metrics(node)
    if metrics.get("status") == "skipped":
        return None, f"{search.stage} was skipped: {metrics.get('reason', 'see its config.json')}"
    value: Any = metrics
    for part in search.metric:
        if not isinstance(value, Mapping) or part not in value:
            known = sorted(key for key in _numbers(metrics) if "val" in key)
            raise ArtifactError(
                f"The search {search.sweep} is scored by {search.score}, which {search.stage} of {job.name} did not "
                f"measure. On validation it measured {', '.join(known) or 'nothing'}. Correct `search.score`: what has "
                "run is in the cache."
            )
        value = value[part]
    number = collect.number(value.get("mean") if isinstance(value, Mapping) else value)
    return number, "" if number is not None else f"{search.score} of {job.name} is {json.dumps(value)}"


def _numbers(metrics: Mapping[str, Any]) -> list[str]:
    return [key.removesuffix(".mean") for key, value in flatten(metrics).items() if collect.number(value) is not None]


def _joined(one: Report, other: Report) -> Report:
    return replace(
        one,
        executed=one.executed + other.executed,
        shared=one.shared + other.shared,
        cached=one.cached + other.cached,
        failures={**one.failures, **other.failures},
        finished=one.finished + other.finished,
        unfinished=one.unfinished + other.unfinished,
        copied=one.copied + other.copied,
        interrupted=other.interrupted,
        seconds=round(one.seconds + other.seconds, 3),
    )
