"""What ran for the runs of a report, from the log of executions: what was shared, and what came from the cache."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from ups.pipeline import executions
from ups.pipeline.executions import Execution
from ups.report.elements import Html, absent, details, paragraph, section, table
from ups.report.material import Material
from ups.report.numbers import seconds
from ups.report.runs import Chosen, Run


@dataclass(frozen=True)
class Unit:
    """One distinct execution that the runs rest on.

    Attributes:
        stage, fingerprint: what it is.
        runs: those that share it.
        executed: the last successful execution; None if the log has none, so that it came from DVC's cache.
        attempts: executions that failed.
    """

    stage: str
    fingerprint: str
    runs: tuple[Run, ...]
    executed: Execution | None
    attempts: tuple[Execution, ...]


def units(runs: Sequence[Run], log: Sequence[Execution]) -> list[Unit]:
    """Return every distinct stage execution behind the runs, in the order of the stages."""
    sharing: dict[tuple[str, str], list[Run]] = {}
    for stage in dict.fromkeys(stage for run in runs for stage in run.fingerprints):
        for run in runs:
            if stage in run.fingerprints:
                sharing.setdefault((stage, run.fingerprints[stage]), []).append(run)
    found = []
    for (stage, fingerprint), group in sharing.items():
        mine = [execution for execution in log if execution.fingerprint == fingerprint]
        done = [execution for execution in mine if execution.returncode == 0]
        failed = tuple(execution for execution in mine if execution.returncode != 0)
        found.append(Unit(stage, fingerprint, tuple(group), done[-1] if done else None, failed))
    return found


def plan_section(material: Material) -> Html:
    """Return the section: per stage how many executions served how many runs."""
    chosen = material.chosen
    log = executions.read()
    material.note(executions.LOG)
    known = units(chosen.runs, log)
    if not known:
        return section("plan", "What ran", _working_tree(material))
    rows = []
    for stage in dict.fromkeys(unit.stage for unit in known):
        mine = [unit for unit in known if unit.stage == stage]
        ran = [unit.executed for unit in mine if unit.executed is not None]
        rows.append(
            [
                stage,
                str(len(ran)),
                str(len(mine) - len(ran)),
                str(sum(len(unit.runs) for unit in mine)),
                seconds(sum(execution.seconds for execution in ran)) if ran else "–",
                "; ".join(dict.fromkeys(sharers(unit.runs, chosen) for unit in mine if len(unit.runs) > 1)) or "nobody",
            ]
        )
    executed = sum(unit.executed is not None for unit in known)
    naive = sum(len(unit.runs) for unit in known)
    spent = sum(unit.executed.seconds for unit in known if unit.executed)
    saved = sum(unit.executed.seconds * (len(unit.runs) - 1) for unit in known if unit.executed)
    summary = (
        f"{len(chosen.runs)} runs need {naive} stage results; {len(known)} of them are distinct. {executed} were "
        f"executed by sweeps of this project in {seconds(spent)}, {len(known) - executed} came from DVC's cache "
        f"without a line in the log. Sharing saved about {seconds(saved)}."
    )
    header = ["stage", "executed", "from the cache", "runs served", "time", "shared by"]
    every = [_row(unit, chosen) for unit in known]
    return section(
        "plan",
        "What ran",
        paragraph(summary),
        table(header, rows, frozenset({0, 5})),
        details(
            f"Every execution ({len(known)})",
            table(
                ["stage", "fingerprint", "executed for", "when (UTC)", "time", "serves"],
                every,
                frozenset({0, 1, 2, 3, 5}),
            ),
        ),
        paragraph(f"Source: {executions.LOG} and the fingerprints in each run's result.json.", "source"),
    )


def sharers(runs: Sequence[Run], chosen: Chosen) -> str:
    """Return who shares something: "all", "golden, no-diffusion with the same seed", or each run by name."""
    if len(runs) == len(chosen.runs):
        return "all"
    variants = list(dict.fromkeys(run.variant for run in runs))
    seeds = sorted({run.seed for run in runs})
    if len(seeds) == 1 and len({run.seed for run in chosen.runs}) > 1:
        everybody = len(variants) == len({run.variant for run in chosen.runs})
        return f"{'all variants' if everybody else ', '.join(variants)} with the same seed"
    return ", ".join(variants) if len(seeds) == 1 or len(variants) == 1 else "; ".join(run.name for run in runs)


def _row(unit: Unit, chosen: Chosen) -> list[str]:
    executed = unit.executed
    served = "all" if len(unit.runs) == len(chosen.runs) else "; ".join(run.name for run in unit.runs)
    if executed is None:
        return [unit.stage, unit.fingerprint[:10], "from the cache", "–", "–", served]
    whom = f"{executed.variant}, seed {executed.seed}"
    return [unit.stage, unit.fingerprint[:10], whom, when(executed.start), seconds(executed.seconds), served]


def when(timestamp: float) -> str:
    """Return a time in UTC."""
    return datetime.datetime.fromtimestamp(timestamp, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M")


def _working_tree(material: Material) -> Html:
    run = material.chosen.runs[0]
    rows = []
    for stage in material.stages():
        record = material.json(run, stage, "provenance.json")
        if record:
            rows.append([stage, when(record["started"]), seconds(record["seconds"])])
    if not rows:
        return absent("No stage has left a record here.")
    said = (
        "These stages were run by DVC in the working tree; which of them a later run took from the cache is not logged."
    )
    return Html(paragraph(said) + table(["stage", "executed (UTC)", "time"], rows, frozenset({0, 1})))
