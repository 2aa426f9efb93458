"""`ups report`: one self-contained page on a sweep, on variants, or on what the working tree holds.

ups report golden-vs-light
ups report golden light-diffusion no-diffusion --seeds 0-5 -o report.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="A sweep, or variants, the first being the reference; by default the working tree."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Such as 0,1,2 or 0-5; all that have results by default.")] = None,
    preset: Annotated[str | None, typer.Option(help="Needed where there are results of several presets.")] = None,
    task: Annotated[str | None, typer.Option(help="Needed where there are results of several tasks.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
) -> None:
    """Write one HTML page: question, plan, verdicts, figures, failures, the recipe's claims, provenance."""
    from ups.parameters.sweeps import parse_seeds
    from ups.report.page import page, write
    from ups.report.provenance import command_line
    from ups.report.runs import choose

    chosen = choose(names or (), None if seeds is None else parse_seeds(seeds), preset, task)
    options = (("--seeds", seeds), ("--preset", preset), ("--task", task), ("-o", str(output)))
    words = [*(names or ()), *(word for option, value in options if value for word in (option, value))]
    write(output, page(chosen, command_line(words)))
    print(f"{output}: {len(chosen.runs)} runs of {', '.join(chosen.variants)}, {output.stat().st_size / 1e6:.1f} MB.")
