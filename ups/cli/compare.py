"""`ups compare`: two or more variants over the same seeds: who is better, is the comparison controlled, what it costs.

ups compare golden light-diffusion
ups compare golden light-diffusion no-diffusion --seeds 0-5 --model corrected --protocol rollout_ic --json
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

FIGURES = Path(".ups/comparisons")


def compare(
    variants: Annotated[list[str], typer.Argument(help="Variants; the first is the reference of the others.")],
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, such as 0,1,2 or 0-5. By default all that were run.")
    ] = None,
    metric: Annotated[str, typer.Option(help="A metric of per_trajectory.parquet.")] = "nrmse",
    protocol: Annotated[str, typer.Option(help="one_step, rollout_ic or pdebench.")] = "pdebench",
    model: Annotated[str, typer.Option(help="assembled: what a user gets; corrected: corrector forced.")] = "assembled",
    horizon: Annotated[str, typer.Option(help="full, or a number of predicted frames.")] = "full",
    figure: Annotated[Path | None, typer.Option(help="The PNG to write; by default in .ups/comparisons.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say which variant is better over seeds, whether the comparison is controlled, and what each costs."""
    from ups.evaluation.comparison import Question
    from ups.evaluation.figures.paired_differences import draw_paired_differences
    from ups.report.comparison import as_dict, find, report, text

    question = Question(metric, protocol, model, horizon)
    found = report(find(variants, parse_seeds(seeds)), question)
    path = figure or FIGURES / f"{'_vs_'.join(variants)}_{protocol}_{model}_{metric}_{horizon}.png"
    draw_paired_differences(path, found.comparisons)
    if as_json:
        print(json.dumps({**as_dict(found), "figure": str(path)}, indent=2, allow_nan=False))
    else:
        print("\n".join([*text(found), "", f"Figure: {path}"]))


def parse_seeds(written: str | None) -> list[int] | None:
    """Return the seeds in a list such as "0,1,4-6"; None for None.

    Raises:
        UpsError: if it is no such list.
    """
    from ups.errors import UpsError

    if written is None:
        return None
    seeds: list[int] = []
    for part in written.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            raise UpsError(f"--seeds {written}: '{part}' is no seed. Write them as 0,1,2 or 0-5.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UpsError(f"--seeds {written}: '{part}' runs backwards. Write {last}-{first}.")
        seeds.extend(range(first, last + 1))
    return sorted(set(seeds))
