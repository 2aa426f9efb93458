"""`ups table`: keep the results of a sweep as a small file, and write docs/results.md from all that are kept.

ups table golden-vs-light golden light-diffusion --preset short --title "Does a gentler corrector help?" --claims
ups table --write
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def table(
    name: Annotated[str | None, typer.Argument(help="Name of the table's file in docs/results.")] = None,
    variants: Annotated[
        list[str] | None, typer.Argument(help="A sweep, or variants; the first is the reference.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading in the document; the name by default.")] = None,
    note: Annotated[str, typer.Option(help="What the reader has to know.")] = "",
    seeds: Annotated[str | None, typer.Option(help="Such as 0,1,2 or 0-5; all that have results by default.")] = None,
    preset: Annotated[str | None, typer.Option(help="Needed where there are results of several presets.")] = None,
    task: Annotated[str | None, typer.Option(help="Needed where there are results of several tasks.")] = None,
    claims: Annotated[bool, typer.Option("--claims", help="Add the answers to the recipe's claims.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Also a kept table of other or more seeds.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write docs/results.md from the kept tables.")] = False,
) -> None:
    """Keep the results of variants as a table, and write the document of all tables."""
    from ups.errors import UpsError
    from ups.parameters.sweeps import parse_seeds
    from ups.report import result_document, result_tables
    from ups.report.runs import choose

    if name is None and not write:
        raise UpsError("Name the table and its variants, or ask for the document with --write.")
    if name is not None:
        chosen = choose(variants or (name,), None if seeds is None else parse_seeds(seeds), preset, task)
        made = result_tables.make(name, title or name, chosen, note, claims)
        path = result_tables.save(made, replace_fewer=replace)
        print(f"{path}: {len(made.rows)} models, seeds {', '.join(map(str, made.seeds))}.")
    if write:
        page = Path("docs/results.md")
        page.write_text(result_document.document(result_tables.load_all()), encoding="utf-8")
        print(f"{page} is written.")
