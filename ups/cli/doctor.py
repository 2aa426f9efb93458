"""`ups doctor`: whether this place is fit to work in.

ups doctor
ups doctor --json
"""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False) -> None:
    """Look at Python, packages, GPU, disks, parameters, DVC's cache, MLflow, Prefect, leftovers and git.

    Changes nothing; each line that is not ok says what to do. Exit code 1 if there is a problem, 0 with warnings.
    """
    import json
    from pathlib import Path

    from ups.doctor import report

    findings = report.examine(Path.cwd())
    shown = report.as_json(findings)
    print(json.dumps(shown, indent=2) if as_json else "\n".join(report.text(findings)))
    if shown["problems"]:
        raise typer.Exit(1)
