"""`ups leaderboard`, `ups promote` and `ups reproduce`: what MLflow holds: in order, the champion, made again."""

from __future__ import annotations

from typing import Annotated

import typer

_SHOWN = 12  # differences of metrics that are printed; --json has all
_DEFAULT_METRIC = "evaluate/assembled/pdebench/nrmse"


def leaderboard(
    metric: Annotated[str, typer.Option(help="A metric of the runs; smaller is better.")] = _DEFAULT_METRIC,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Show all published variants in the order of a metric: mean and spread over seeds, per task and data file."""
    import json
    from dataclasses import asdict

    from ups import tracking
    from ups.errors import ArtifactError
    from ups.evaluation.comparison_text import table
    from ups.pipeline.leaderboard import leaderboard as make

    runs = tracking.finished_runs()
    rows = make(runs, metric, task)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    if not rows:
        known = sorted({key for run in runs for key in run.metrics if key.endswith("/pdebench/nrmse")})
        raise ArtifactError(
            f"None of the {len(runs)} finished runs in {tracking.store()} has the metric '{metric}'. "
            + (f"They have, for example: {', '.join(known)}." if known else "Publish some: `make repro`, `ups sweep`.")
        )
    for place in dict.fromkeys((row.task, row.data_md5) for row in rows):
        mine = [row for row in rows if (row.task, row.data_md5) == place]
        print(f"{metric}, {place[0]}, data {place[1][:8]}")
        cells = [["variant", "preset", "seeds", "mean", "sd over seeds", "best", "MLflow run of the best seed"]]
        for row in mine:
            best = row.run_ids[0] if len(row.run_ids) == 1 else _best(runs, row.run_ids, metric)
            deviation = "–" if row.deviation is None else f"{row.deviation:.2e}"
            count = str(len(row.seeds))
            cells.append([row.variant, row.preset, count, f"{row.mean:.4e}", deviation, f"{row.best:.4e}", best])
        print("\n".join(table(cells)))
    print("An order is no verdict: `ups compare A B` says whether a difference is more than the spread over seeds.")


def _best(runs: list, run_ids: tuple[str, ...], metric: str) -> str:  # type: ignore[type-arg]
    return str(min((run for run in runs if run.run_id in run_ids), key=lambda run: run.metrics[metric]).run_id)


def reproduce(
    run_id: Annotated[str, typer.Argument(help="Of an MLflow run, as `ups publish` and its page show it.")],
    rerun: Annotated[bool, typer.Option("--rerun", help="Execute every stage, with a cache of its own.")] = False,
    tolerance: Annotated[float, typer.Option(min=0.0, help="Largest relative difference of a metric.")] = 1e-6,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Check out the code, parameters and data of an MLflow run, run them, and compare every metric with the run's."""
    import json
    from dataclasses import asdict

    from ups.pipeline.reproduce import reproduce as make

    found = make(run_id, rerun, tolerance)
    if as_json:
        differences = [{**asdict(each), "relative": each.relative} for each in found.differences]
        content = {**asdict(found), "workspace": str(found.workspace), "differences": differences}
        print(json.dumps(content, indent=2))
    else:
        print(f"{found.name}, run {found.run_id}, code {found.commit[:12]}, in {found.workspace}")
        done = {"executed": found.executed, "from the cache": found.restored}
        print("; ".join(f"{what}: {', '.join(names) or 'nothing'}" for what, names in done.items()))
        for change in found.environment:
            print(f"another environment: {change}")
        for each in found.differences[:_SHOWN]:
            print(f"  {each.metric}: published {each.published}, now {each.found}")
        verdict = "NOT REPRODUCED" if found.differences else "REPRODUCED"
        print(
            f"{verdict}: {found.compared - len(found.differences)} of {found.compared} metrics agree to a relative "
            f"{tolerance:g} (times and memory are not compared)."
        )
    if found.differences:
        raise typer.Exit(1)


def promote(
    variant: Annotated[str, typer.Argument(help="A variant with results of a sweep.")],
    preset: Annotated[str, typer.Option(help="Sizes and lengths of its runs.")] = "default",
    task: Annotated[str | None, typer.Option(help="The equation: a file in params/tasks.")] = None,
) -> None:
    """Make a variant the champion, models:/TASK@champion, if it is better over seeds than the present one."""
    from ups.report.champion import promote as make

    chosen, reason = make(variant, preset, task)
    print(f"models:/{chosen.name}@champion is version {chosen.version} (run {chosen.run_id}): {reason}")
