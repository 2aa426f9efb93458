"""`ups plan` and `ups sweep`: what would run for some variants and seeds, and running it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ups.pipeline.plan import Plan
    from ups.pipeline.search import Searching
    from ups.pipeline.sweep import Report

app = typer.Typer()

Variants = Annotated[
    list[str] | None, typer.Argument(help="Files in params/variants, or `base`; the parameters in use by default.")
]
SweepName = Annotated[
    str | None, typer.Option("--sweep", help="A file in params/sweeps: variants and seeds, or a search.")
]
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
    from ups.pipeline import jobs
    from ups.pipeline import plan as planning

    searching = _searching(variants, sweep, seeds, preset, task, strict_env)
    if searching:
        _print_search_plan(searching, as_json)
        return
    made = planning.plan(jobs.choose(variants, sweep, seeds, preset, task), strict_env)
    _print_plan(made, as_json)


def _searching(
    variants: list[str] | None, sweep: str | None, seeds: str | None, preset: str, task: str | None, strict_env: bool
) -> Searching | None:
    """Return the search that a sweep's file holds, if it holds one."""
    from ups.errors import ParameterError
    from ups.parameters.sweeps import parse_seeds, read_sweep
    from ups.pipeline import jobs, search

    named = read_sweep(sweep) if sweep else None
    if named is None or named.search is None:
        return None
    if variants:
        raise ParameterError(
            f"{named.name} is a search, which finds its variants itself. Leave out: {' '.join(variants)}."
        )
    jobs.check()
    return search.begin(named, parse_seeds(seeds) if seeds else (), preset, task, strict_env)


def _print_search_plan(searching: Searching, as_json: bool) -> None:
    import json

    from ups.pipeline.search import look, table

    made = look(searching)
    if as_json:
        print(json.dumps({**made.as_json(), "search": searching.as_json()}, indent=2))
        return
    _print_plan(made, as_json)
    print(searching.progress())
    if not made.executions:
        print(table(searching))


def _print_plan(made: Plan, as_json: bool) -> None:
    import json

    from ups.pipeline.progress import sharers

    if as_json:
        print(json.dumps(made.as_json(), indent=2))
        return
    width = max((len(node.stage) for node in made.nodes), default=0)
    for node in made.nodes:
        seconds = "" if node.predicted_s is None else f"{node.predicted_s:.1f} s"
        print(f"{node.action:<6}  {node.stage:<{width}}  {seconds:>9}  {sharers(made, node.jobs)}: {node.reason}")
    print(made.summary())


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

    from ups.pipeline import jobs
    from ups.pipeline import plan as planning
    from ups.pipeline import search as searches
    from ups.pipeline import sweep as sweeping
    from ups.pipeline.live import LivePublisher
    from ups.pipeline.progress import Progress

    searching = _searching(variants, sweep, seeds, preset, task, strict_env)
    made = None if searching else planning.plan(jobs.choose(variants, sweep, seeds, preset, task), strict_env)
    say = _quiet if as_json else _say
    publisher = LivePublisher(sweep, say) if publish else None
    report = sweeping.Report()

    def execute(made: Plan) -> Report:
        say(f"{made.executions} of {made.naive_executions} executions to do, {made.cached} cached.")
        observers = [Progress(made, say), *([publisher] if publisher else [])]
        return sweeping.sweep(made.jobs, workers, sweep, strict_env, observers, made)

    try:
        report = execute(made) if made else searches.run(searching, execute) if searching else report
        counts = f"{len(report.executed)} executed, {len(report.shared)} shared, {report.cached} cached"
        say(f"{counts} in {report.seconds:.1f} s. Results: .ups/results/")
    finally:
        if publisher:
            publisher.close(bool(report.interrupted))
    if searching and not as_json:
        say(searches.table(searching))
    if as_json:
        unpublished = publisher.unpublished if publisher else []
        found = {"search": searching.as_json()} if searching else {}
        print(json.dumps({**asdict(report), "unpublished": unpublished, **found}, indent=2))
    for what, message in report.failures.items():
        print(f"ups: {what} failed: {message}", file=sys.stderr)
    if publisher and publisher.problem:
        print(f"ups: {publisher.problem} Repeat with `ups publish --all`.", file=sys.stderr)
    if report.interrupted:
        print("ups: interrupted; the same command goes on from here.", file=sys.stderr)
        raise typer.Exit(128 + report.interrupted)
    if report.failures or report.unfinished:
        raise typer.Exit(1)


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # whoever read it is gone, as with `| head`; the sweep goes on
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process


def _quiet(_: str) -> None:
    pass
