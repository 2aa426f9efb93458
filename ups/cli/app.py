"""The commands of `ups`. Each imports what it needs when it is called, so that asking for help costs nothing."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ups.cli import (
    compare,
    data,
    doctor,
    experiments,
    params,
    predict,
    prune,
    published,
    reference,
    report,
    sweep,
    table,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(params.app, name="params")


app.add_typer(data.app, name="data")
app.command()(compare.compare)
app.command()(report.report)
app.command()(table.table)
app.command()(predict.predict)
app.add_typer(sweep.app)
app.command()(published.leaderboard)
app.command()(published.reproduce)
app.command()(published.promote)
app.command()(prune.prune)
app.command()(doctor.doctor)
app.command()(experiments.experiments)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("ups-pipeline"))
        raise typer.Exit


@app.callback(epilog="Begin with `ups repro --help`, or with the pages: docs/index.md.")
def ups(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Multi-stage neural surrogates of PDEs: run, compare and reproduce them."""


@app.command()
def repro(
    targets: Annotated[list[str] | None, typer.Argument(help="Stages to reproduce; all of them by default.")] = None,
) -> None:
    """Check the parameters, run what changed, publish to MLflow and print the results."""
    from ups.pipeline import execute
    from ups.pipeline.check import check

    check()
    execute.reproduce(targets or ())
    if not targets:
        try:
            results()
        finally:
            publish()


@app.command()
def publish(
    names: Annotated[list[str] | None, typer.Argument(help="Results of sweeps, such as golden-42.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="The results of all sweeps.")] = False,
) -> None:
    """Publish the pipeline that was last run, or results of sweeps, to MLflow; does nothing if it is there already."""
    from ups.pipeline import publish as publishing
    from ups.pipeline import results

    if not names and not everything:
        print(publishing.describe(publishing.publish()))
    for name in results.names() if everything else names or []:
        print(f"{name}: {publishing.describe(publishing.publish_results(results.find(name)))}")


@app.command()
def results(
    write_readme: Annotated[bool, typer.Option("--write-readme", help="Write the table into README.md.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics of both evaluations as JSON.")] = False,
) -> None:
    """Print the results table of the pipeline that was last run."""
    from ups.cli import readme
    from ups.evaluation.regime_table import regime_tables
    from ups.evaluation.table import read_results, results_table

    evaluate, search = read_results(Path("artifacts"))
    if as_json:
        print(json.dumps({"evaluate": evaluate, "evaluate_ttc": search}, indent=2))
        return
    tables = [results_table(evaluate, search), *regime_tables(evaluate)]
    print("\n\n".join(table.text() for table in tables))
    if write_readme:
        readme.write_results("\n\n".join(table.markdown() for table in tables))
        print(f"Written into {readme.README}.")


@app.command()
def deps(
    write: Annotated[bool, typer.Option("--write", help="Bring dvc.yaml in line with the stages' modules.")] = False,
) -> None:
    """Check that dvc.yaml lists the parameters, files and code that the stages really read."""
    from ups.pipeline import stages

    if write:
        for change in stages.write():
            print(change)
    else:
        stages.check()
    print(f"{stages.DVC_YAML} matches the stages' modules.")


reference.document(app)
