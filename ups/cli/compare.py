"""`ups compare`: two or more variants over the same seeds: who is better, is the comparison controlled, what it costs.

ups compare golden light-diffusion
ups compare golden light-diffusion no-diffusion --seeds 0-5 --model corrected --protocol rollout_ic --json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def compare(
    variants: Annotated[list[str], typer.Argument(help="Variants; the first is the reference of the others.")],
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, such as 0,1,2 or 0-5. By default all that were run.")
    ] = None,
    metric: Annotated[str, typer.Option(help="A metric of per_trajectory.parquet.")] = "nrmse",
    protocol: Annotated[str, typer.Option(help="one_step, rollout_ic or pdebench.")] = "pdebench",
    model: Annotated[str, typer.Option(help="assembled: what a user gets; corrected: corrector forced.")] = "assembled",
    horizon: Annotated[str, typer.Option(help="full, or a number of predicted frames.")] = "full",
    preset: Annotated[str, typer.Option(help="Sizes and lengths of the runs: a file in params/presets.")] = "default",
    task: Annotated[str | None, typer.Option(help="The equation: a file in params/tasks.")] = None,
    figure: Annotated[Path | None, typer.Option(help="The PNG to write; by default in .ups/comparisons.")] = None,
    publish: Annotated[bool, typer.Option("--publish", help="Keep it in MLflow too, beside the runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say which variant is better over seeds, whether the comparison is controlled, and what each costs."""
    from ups.evaluation.comparison import Question
    from ups.parameters.sweeps import parse_seeds
    from ups.report import kept_comparison
    from ups.report.comparison import as_dict, text

    question = Question(metric, protocol, model, horizon)
    chosen = parse_seeds(seeds) if seeds else None
    found, path = kept_comparison.compare(variants, chosen, question, preset, task, figure)
    link = kept_comparison.publish(found, path) if publish else None
    if as_json:
        published = {"mlflow_run": link.run_id} if link else {}
        print(json.dumps({**as_dict(found), "figure": str(path), **published}, indent=2, allow_nan=False))
    else:
        print("\n".join([*text(found), "", f"Figure: {path}"]))
        if link:
            print(f"MLflow: run {link.run_id} of the experiment {found.task}-comparisons")
