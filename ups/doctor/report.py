"""All checks, in the order in which one would ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ups.doctor import cache, leftovers, machine, packages
from ups.doctor import services as tools
from ups.doctor.finding import Finding, State, ok, problem
from ups.errors import UpsError
from ups.parameters.files import BASE, read_yaml
from ups.pipeline import services
from ups.pipeline.check import check


def examine(root: Path) -> list[Finding]:
    """Look at everything.

    Args:
        root: the project's folder, which is the current one.
    """
    compute = _compute()
    return [
        packages.interpreter(),
        packages.packages(),
        machine.torch_and_gpu(compute),
        machine.threads(compute),
        *machine.disks(root),
        _parameters(),
        *cache.cache(root),
        *tools.mlflow_store(),
        tools.prefect_server(),
        *tools.started(services.read()),
        *leftovers.sweeps(),
        leftovers.git(root),
    ]


def text(findings: Sequence[Finding]) -> list[str]:
    """Return the lines that are printed."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<7}  {finding.name:<{width}}  {finding.found}")
        if finding.mend:
            lines.append(f"{'':<7}  {'':<{width}}  -> {finding.mend}")
    counts = {state: sum(finding.state is state for finding in findings) for state in State}
    return [*lines, f"{counts[State.PROBLEM]} problems, {counts[State.WARN]} warnings."]


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings for programs."""
    states = [finding.state for finding in findings]
    return {
        "problems": states.count(State.PROBLEM),
        "warnings": states.count(State.WARN),
        "findings": [asdict(finding) for finding in findings],
    }


def _parameters() -> Finding:
    try:
        check()
    except UpsError as error:
        return problem("parameters", str(error), "`ups params check` says the same after you have mended it.")
    return ok(
        "parameters", f"{BASE} is valid, dvc.yaml lists what the stages read, the data file is there or will be made"
    )


def _compute() -> Mapping[str, Any]:
    try:
        section = read_yaml(BASE).get("compute")
    except UpsError:
        return {}  # what is wrong with them is a finding of its own
    return section if isinstance(section, Mapping) else {}
