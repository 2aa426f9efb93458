"""`ups experiments`: what `dvc exp run` made, with the columns one can read.

ups experiments
ups experiments --metric student.rollout_ic.nrmse.mean --md
"""

from __future__ import annotations

from typing import Annotated

import typer


def experiments(
    metric: Annotated[
        list[str] | None, typer.Option(help="A metric as `dvc metrics show` names it; repeatable.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also parameters that are equal in all.")] = False,
    markdown: Annotated[bool, typer.Option("--md", help="Print Markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print DVC's own JSON, which has every column.")] = False,
) -> None:
    """Show the experiments of `dvc exp run`: the parameters in which they differ, and a few metrics."""
    from ups.pipeline.experiments import METRICS, show

    flags = [flag for flag, wanted in (("--md", markdown), ("--json", as_json)) if wanted]
    show(metric or METRICS, everything, flags)
