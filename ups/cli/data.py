"""`ups data`: the catalogue of published data files, and their download.

ups data list [--size]
ups data fetch 1D_Burgers_Sols_Nu0.001.hdf5
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Published data files: list them, download them.")

FOLDER = Path("data")


@app.command("list")
def list_files(
    folder: Annotated[Path, typer.Option(help="Where downloaded files are looked for.")] = FOLDER,
    size: Annotated[bool, typer.Option("--size", help="Show the bytes that files take on this disk.")] = False,
) -> None:
    """List the files that `fetch` can download and which of them are here."""
    from ups.data.catalogue import CATALOGUE

    taken = 0
    for file in CATALOGUE.values():
        here = folder / file.name
        part = folder / f"{file.name}.part"
        found = next((path for path in (here, part) if path.exists()), None)
        state = "" if found is None else ("here" if found == here else "part of it here")
        bytes_here = 0 if found is None else found.stat().st_size
        taken += bytes_here
        columns = [f"{file.name:<36}", f"{file.equation:<10}", f"{file.payload_bytes / 1e9:5.2f} GB"]
        if size:
            columns.append(f"{bytes_here / 1e9:8.3f} GB on disk")
        typer.echo("  ".join([*columns, state]).rstrip())
    if size:
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
