"""`ups plan` and `ups sweep`: what would run for some variants and seeds, and running it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ups.pipeline.jobs import Job
    from ups.pipeline.plan import Node, Plan
    from ups.pipeline.sweep import State

app = typer.Typer()

Variants = Annotated[
    list[str] | None, typer.Argument(help="Files in params/variants, or `base`; the parameters in use by default.")
]
SweepName = Annotated[str | None, typer.Option("--sweep", help="A file in params/sweeps: variants and seeds.")]
Seeds = Annotated[str | None, typer.Option(help="Such as 0,1,2 or 0-5; the sweep's or each variant's own by default.")]
Preset = Annotated[str, typer.Option(help="Sizes and lengths: a file in params/presets.")]
Task = Annotated[str | None, typer.Option(help="The equation: a file in params/tasks. The base's own by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
StrictEnv = Annotated[
    bool, typer.Option("--strict-env", help="Run again what other versions, another device or precision made.")
]


@app.command("plan")
def show_plan(
    variants: Variants = None,
    sweep: SweepName = None,
    seeds: Seeds = None,
    preset: Preset = "default",
    task: Task = None,
    as_json: AsJson = False,
    strict_env: StrictEnv = False,
) -> None:
    """Show what would run for some variants and seeds, why, and how long it would take. Runs nothing."""
    from ups.pipeline import plan as planning

    made = planning.plan(_jobs(variants, sweep, seeds, preset, task), strict_env)
    _print_plan(made, as_json)


def _jobs(variants: list[str] | None, sweep: str | None, seeds: str | None, preset: str, task: str | None) -> list[Job]:
    from ups.parameters.sweeps import parse_seeds, read_sweep
    from ups.pipeline import jobs, stages

    if Path("ups/stages").is_dir():  # a project of other commands has no modules to compare with
        stages.check()
    named = read_sweep(sweep) if sweep else None
    wanted = [*(named.variants if named else ()), *(variants or ())]
    chosen = parse_seeds(seeds) if seeds is not None else (named.seeds if named else ())
    return jobs.resolve(wanted, chosen, preset, task)


def _print_plan(made: Plan, as_json: bool) -> None:
    import json

    if as_json:
        print(json.dumps(made.as_json(), indent=2))
        return
    width = max(len(node.stage) for node in made.nodes)
    for node in made.nodes:
        seconds = "" if node.predicted_s is None else f"{node.predicted_s:.1f} s"
        print(f"{node.action:<6}  {node.stage:<{width}}  {seconds:>9}  {_shared(made, node.jobs)}: {node.reason}")
    unknown = sum(node.predicted_s is None for node in made.nodes)
    print(
        f"{made.executions} executions instead of {made.naive_executions} "
        f"({len(made.jobs)} x {made.naive_executions // len(made.jobs)} stages), {made.cached} cached; "
        f"about {_duration(made.predicted_s)} on one worker, {_duration(made.saved_s)} saved"
        + (f" ({unknown} executions of unknown length not counted)." if unknown else ".")
    )


def _shared(made: Plan, jobs: list[Job]) -> str:
    """Return who shares a stage: `golden, light-diffusion` or `golden (seeds 0, 1)`."""
    if len(jobs) == len(made.jobs) > 1:
        return "all"
    seeds: dict[str, list[int]] = {}
    for job in jobs:
        seeds.setdefault(job.variant, []).append(job.seed)
    several = len({job.seed for job in made.jobs}) > 1
    return ", ".join(
        f"{variant} (seed {', '.join(map(str, found))})" if several else variant for variant, found in seeds.items()
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@app.command("sweep")
def run_sweep(
    variants: Variants = None,
    sweep: SweepName = None,
    seeds: Seeds = None,
    preset: Preset = "default",
    task: Task = None,
    workers: Annotated[int, typer.Option(min=1, help="How many stages may run at a time.")] = 1,
    as_json: AsJson = False,
    strict_env: StrictEnv = False,
    publish: Annotated[bool, typer.Option(help="Publish each variant and seed to MLflow.")] = True,
) -> None:
    """Execute what `ups plan` shows: each distinct stage once. Results go to .ups/results/ and to MLflow."""
    import json
    from dataclasses import asdict

    from ups.pipeline import plan as planning
    from ups.pipeline import sweep as sweeping

    made = planning.plan(_jobs(variants, sweep, seeds, preset, task), strict_env)
    say = _quiet if as_json else _say
    say(f"{made.executions} of {made.naive_executions} executions to do, {made.cached} cached.")
    progress = Progress(made, say)
    report = sweeping.sweep(made.jobs, workers, sweep, strict_env, progress, made)
    counts = f"{len(report.executed)} executed, {len(report.shared)} shared, {report.cached} cached"
    say(f"{counts} in {report.seconds:.1f} s. Results: .ups/results/")
    unpublished = _publish(report.finished, say) if publish and not report.interrupted else []
    if as_json:
        print(json.dumps({**asdict(report), "unpublished": unpublished}, indent=2))
    for what, message in report.failures.items():
        print(f"ups: {what} failed: {message}", file=sys.stderr)
    if report.interrupted:
        print("ups: interrupted; the same command goes on from here.", file=sys.stderr)
        raise typer.Exit(128 + report.interrupted)
    if report.failures or report.unfinished:
        raise typer.Exit(1)


class Progress:
    """Prints a line when a stage starts and when it is over.

    Args:
        made: the plan.
        say: prints a line.
    """

    def __init__(self, made: Plan, say: Callable[[str], None]) -> None:
        self._plan, self._say = made, say
        self._over: set[str] = set()
        self._started: dict[str, float] = {}

    def __call__(self, node: Node, state: State, message: str) -> None:
        from ups.pipeline.sweep import State

        now = time.monotonic()
        who = f"{node.stage} ({_shared(self._plan, node.jobs)})"
        if state is State.RUNNING:
            self._started[node.fingerprint] = now
            self._say(f"{self._count()} {who} ...")
            return
        self._over.add(node.fingerprint)
        if state is State.EXECUTED:
            self._say(f"{self._count()} {who} done in {now - self._started.get(node.fingerprint, now):.1f} s")
        elif state is State.SHARED:
            self._say(f"{self._count()} {who} found in the cache")
        else:
            self._say(f"{self._count()} {who} FAILED")

    def _count(self) -> str:
        return f"[{len(self._over)}/{self._plan.executions}]"


def _publish(names: list[str], say: Callable[[str], None]) -> list[str]:
    """Publish results; returns those that could not be, for a store that is away must not cost a sweep."""
    from ups.pipeline import publish as publishing
    from ups.pipeline.results import FOLDER
    from ups.tracking import TrackingError

    for number, name in enumerate(names):
        try:
            say(f"{name}: {publishing.describe(publishing.publish_results(FOLDER / name))}")
        except TrackingError as error:
            print(f"ups: {error} Repeat with `ups publish --all`.", file=sys.stderr)
            return names[number:]
    return []


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # whoever read it is gone, as with `| head`; the sweep goes on
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process


def _quiet(_: str) -> None:
    pass
