"""`ups data`: what is in a data file, whether its splits are clean, and the published files to download.

ups data inspect data/own.hdf5 --plot own.png
ups data import own.npz -o data/own.h5 --equation burgers --coefficient viscosity=0.01
ups data audit data/own.hdf5
ups data simulate -o data/other.h5 --task burgers1d --seed 7 --method finite_volume --refinement 2
ups data join data/*Nu0.0*.hdf5 -o data/viscosities.h5 --space-stride 4 --time-stride 5
ups data list [--size]
ups data fetch 1D_Burgers_Sols_Nu0.001.hdf5
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="Data files: look into them, bring your own, audit their splits, download them."
)

FOLDER = Path("data")
_PICTURED = 3  # trajectories


@app.command("list")
def list_files(
    folder: Annotated[Path, typer.Option(help="Where downloaded files are looked for.")] = FOLDER,
    size: Annotated[bool, typer.Option("--size", help="Show the bytes that files take on this disk.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """List the files that `fetch` can download and which of them are here."""
    import json
    from dataclasses import asdict

    from ups.data.catalogue import CATALOGUE

    def on_disk(path: Path) -> int:
        return path.stat().st_size if path.exists() else 0

    listed = []
    for file in CATALOGUE.values():
        whole, part = (on_disk(folder / name) for name in (file.name, f"{file.name}.part"))
        listed.append(
            {**asdict(file), "bytes_on_disk": whole or part, "state": "here" if whole else "part" if part else ""}
        )
    if as_json:
        print(json.dumps(listed, indent=2))
        return
    for file, entry in zip(CATALOGUE.values(), listed, strict=True):
        state = {"part": "part of it here"}.get(str(entry["state"]), entry["state"])
        columns = [f"{file.name:<36}", f"{file.equation:<10}", f"{file.payload_bytes / 1e9:5.2f} GB"]
        if size:
            columns.append(f"{entry['bytes_on_disk'] / 1e9:8.3f} GB on disk")
        typer.echo("  ".join([*columns, str(state)]).rstrip())
    if size:
        taken = sum(entry["bytes_on_disk"] for entry in listed)
        typer.echo(f"{taken / 1e9:.3f} GB of published files in {folder}/")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A name that `ups data list` shows.")],
    folder: Annotated[Path, typer.Option(help="Where the file goes.")] = FOLDER,
) -> None:
    """Download a file, going on where an earlier download stopped, and check its MD5."""
    from ups.data.download import fetch as download_by_name

    path = download_by_name(name, folder)
    typer.echo(f"{path}: complete, MD5 agrees with the publisher's. Use it with `data.path: {path}`.")


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="Any file, or the folder of a surrogate.")],
    samples: Annotated[int, typer.Option(min=0, help="Trajectories to measure, evenly spaced; 0 for all.")] = 256,
    plot: Annotated[Path | None, typer.Option(help="Draw some trajectories and their spectra into this PNG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what a file is and what its fields are like, and print the parameters to use it with."""
    import json

    from ups.inspection.report import inspect as look
    from ups.inspection.report import text

    made = look(file, samples, _PICTURED if plot else 0)
    if plot:
        from ups.inspection.picture import draw

        draw(plot, made)
    if as_json:
        print(json.dumps({**made.as_json(), "plot": str(plot) if plot else None}, indent=2, allow_nan=False))
    else:
        print("\n".join([*text(made), *([f"Picture: {plot}"] if plot else [])]))
    if not made.usable:
        raise typer.Exit(1)


@app.command()
def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, for `data.path`.")],
    task: Annotated[str | None, typer.Option(help="A file in params/tasks; the parameters in use by default.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Trajectories of each regime.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the initial conditions.")] = None,
    method: Annotated[str | None, typer.Option(help="The solver: see `simulate.method`.")] = None,
    refinement: Annotated[int | None, typer.Option(min=1, help="Cells per stored point, not for `exact`.")] = None,
) -> None:
    """Make a data file with a task's solver, as the stage `simulate` does, and measure its error."""
    from ups.data.file_writer import replacing
    from ups.data.simulated_file import simulate_file
    from ups.errors import DataError
    from ups.parameters.files import BASE, read_yaml, validate_section
    from ups.parameters.schema import Parameters
    from ups.parameters.selection import Selection

    if not output.parent.is_dir():
        raise DataError(f"{output.parent} is no folder; make it first, or choose another --output.")
    chosen = read_yaml(BASE) if task is None else Selection(task=task).resolve()
    asked = {"samples": samples, "seed": seed, "method": method, "refinement": refinement}
    chosen["simulate"] |= {name: value for name, value in asked.items() if value is not None}
    parameters = validate_section(Parameters, chosen)
    with replacing(output) as fresh:
        made = simulate_file(parameters.task, parameters.simulate, fresh, "ups data simulate")
        typer.echo(f"{output}: {made.text()}")
        made.check()
    typer.echo(f"Next: `ups data inspect {output}`, and `data.path: {output}` in params/base.yaml.")


@app.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(help=".npz, .zarr, .nc, or The Well's .hdf5; several go together.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, for `data.path`.")],
    equation: Annotated[str | None, typer.Option(help="Where the files do not state it: burgers, wave, ...")] = None,
    coefficient: Annotated[list[str] | None, typer.Option(help="NAME=NUMBER, where the files do not state it.")] = None,
    field: Annotated[
        list[str] | None, typer.Option(help="The equation's field=its name in the files, or =curl:VELOCITY on a plane.")
    ] = None,
) -> None:
    """Check arrays that somebody brings and write them as one file that the pipeline takes."""
    from ups.cli.predict import coefficient_of
    from ups.data.importing import import_files as bring
    from ups.errors import ParameterError

    named = [text.partition("=") for text in field or []]
    wrong = [channel for channel, equals, name in named if not (channel and equals and name)]
    if wrong:
        raise ParameterError(f"--field {wrong[0]}: FIELD=NAME was expected, such as u=density.")
    numbers = dict(coefficient_of(text) for text in coefficient or [])
    made = bring(files, output, equation, numbers, {channel: name for channel, _, name in named})
    for source, start, stop in made.parts:
        typer.echo(f"trajectories {start} to {stop - 1}: {source}")
    if made.unused:
        typer.echo("not taken over: " + ", ".join(f"{name} = {value:g}" for name, value in made.unused.items()))
    typer.echo(
        f"{made.path}: '{made.equation}', {made.parts[-1][2]} trajectories. Next: `ups data inspect {made.path}`."
    )


@app.command()
def join(
    files: Annotated[list[Path], typer.Argument(help="Flat files of one equation, each at coefficients of its own.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    space_stride: Annotated[int, typer.Option(min=1, help="Use every n-th point.")] = 1,
    time_stride: Annotated[int, typer.Option(min=1, help="Use every n-th frame.")] = 1,
) -> None:
    """Make one file of several regimes from files of one each, such as PDEBench's for each viscosity."""
    from ups.data.joining import join as join_files

    made = join_files(files, output, space_stride, time_stride)
    print(
        f"{made.path}: {made.initial_conditions} initial conditions in {len(made.regimes)} regimes, {made.frames} "
        f"frames of {made.points} points"
    )
    for name in made.regimes[0]:
        print(f"task.coefficients.{name}: {sorted({regime[name] for regime in made.regimes})}")
    if made.largest_difference:
        print(
            f"First frames of one number differ by up to {made.largest_difference:.1e} (relative L2) between the "
            "files; splits are by number all the same, and `ups data audit` looks for copies."
        )


@app.command()
def audit(
    file: Annotated[Path | None, typer.Argument(help="A file that data.path takes; data.path by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Check that no initial condition is in two splits, as `prepare_data` does, with the parameters in use."""
    import json

    from ups.inspection.split_audit import audit as check
    from ups.inspection.split_audit import text
    from ups.parameters.files import BASE, read_yaml, validate_section
    from ups.parameters.schema import Parameters

    parameters = validate_section(Parameters, read_yaml(BASE))
    report = check(file or Path(parameters.data.path), parameters.task, parameters.data, parameters.prepare_data)
    print(json.dumps(report.as_json(), indent=2) if as_json else "\n".join(text(report)))
    if report.refused:
        raise typer.Exit(1)
