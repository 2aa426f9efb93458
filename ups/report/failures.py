"""What went wrong or would mislead: missing runs, failed executions, skipped stages, gates, alarms, broken files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ups.pipeline import executions
from ups.pipeline.executions import Execution
from ups.report import outcome
from ups.report.elements import Html, absent, items, paragraph, section, table, tag
from ups.report.material import Material
from ups.report.monitors import alarms_of
from ups.report.numbers import NOTHING
from ups.report.plan import when
from ups.report.runs import Run

_CODEC_DOMINATES = 0.5  # share of the operator's error above which the codec is what limits the surrogate


def failure_section(material: Material) -> Html:
    """Return the section; what did not happen is said too, so that silence is not taken for health."""
    log = executions.read()
    parts = [
        *_list("Missing runs", _missing(material, log), "Every variant has results with every seed."),
        *_failed(material, log),
        *_list("Skipped stages", _skipped(material), "No stage was skipped."),
        *_gates(material),
        *_list("Alarms", _alarms(material), "None rang."),
    ]
    source = paragraph(
        f"Source: {executions.LOG}; artifacts/<stage>/metrics.json and history.csv of each run.", "source"
    )
    return section("failures", "Failures and alarms", *parts, source)


def problem_section(material: Material) -> Html:
    """Return the list of files that could not be used; call it when everything else has been made."""
    return tag("section", _list("Files that could not be used", list(material.problems), "None."), id="problems")


def _list(title: str, found: Sequence[str], otherwise: str) -> list[Html]:
    return [tag("h3", title), items(found) if found else absent(otherwise)]


def _missing(material: Material, log: Sequence[Execution]) -> list[str]:
    said = []
    for variant, seed in material.chosen.missing:
        last = [one for one in log if (one.variant, one.seed) == (variant, seed) and one.returncode != 0][-1:]
        why = f"; {last[0].stage} ended with {last[0].returncode} on {when(last[0].start)} UTC" if last else ""
        said.append(f"{variant}, seed {seed}: no results{why}. `{material.chosen.command}` goes on from there.")
    unevaluated = [run.name for run in material.chosen.runs if material.json(run, "evaluate") is None]
    return [*said, *(f"{name}: no evaluation (artifacts/evaluate/metrics.json)." for name in unevaluated)]


def _failed(material: Material, log: Sequence[Execution]) -> list[Html]:
    wanted = {(run.variant, run.seed) for run in material.chosen.runs} | set(material.chosen.missing)
    mended = {one.fingerprint for one in log if one.returncode == 0}
    rows = [
        [
            one.stage,
            f"{one.variant}, seed {one.seed}",
            when(one.start),
            str(one.returncode),
            "ran later" if one.fingerprint in mended else "never ran",
            f".ups/logs/{one.variant}-{one.seed}*/{one.stage}.log",
        ]
        for one in log
        if one.returncode != 0 and (one.variant, one.seed) in wanted
    ]
    title = tag("h3", "Failed executions")
    if not rows:
        return [title, absent("The log of executions holds none for these variants and seeds.")]
    header = ["stage", "executed for", "when (UTC)", "exit code", "since then", "its output"]
    return [title, table(header, rows, frozenset({0, 1, 2, 4, 5}))]


def _skipped(material: Material) -> list[str]:
    reasons: dict[tuple[str, str], list[Run]] = {}
    for run, stage, metrics in _all_metrics(material):
        if metrics.get("status") == "skipped":
            reasons.setdefault((stage, str(metrics.get("reason", "no reason given"))), []).append(run)
    return [f"{stage} ({_names(material, runs)}): {reason}." for (stage, reason), runs in reasons.items()]


def _gates(material: Material) -> list[Html]:
    """Return what each run's own checks said about its corrector, its student and its search, and what they decided."""
    rows = []
    for run in material.chosen.runs:
        corrector = material.json(run, "train_diffusion") or {}
        student = material.json(run, "distill") or {}
        search = (material.json(run, "evaluate_ttc") or {}).get("verdict", {})
        assembly = (material.json(run, "evaluate") or {}).get("assembly", {})
        if "explained_residual" not in corrector and "error_over_teacher" not in student and not search:
            continue
        pays = corrector.get("beats_zero_correction") if "explained_residual" in corrector else None
        used = "no corrector" if pays is None else "beats it" if pays else "does NOT beat it"
        kept = "kept" if student.get("keeps_teacher_accuracy") else "LOST"
        ratio = student.get("error_over_teacher")
        advice = "recommended" if search.get("recommended") else "NOT recommended"
        rows.append(
            [
                run.name,
                _signed(corrector.get("explained_residual")),
                used,
                [str(assembly["assembled"]), tag("div", assembly["reason"], class_="note")] if assembly else NOTHING,
                "no student" if ratio is None else f"{ratio:.3f}, accuracy {kept}",
                [advice, tag("div", search.get("reason"), class_="note")] if search else "no search",
            ]
        )
    title = tag("h3", "Gates")
    if not rows:
        return [title, absent("No run reports a gate.")]
    header = [
        "run",
        "explained residual, one step on validation",
        "corrector against zero correction, one step",
        "assembled, by rollouts of validation",
        "student's error over its teacher's",
        "test-time search",
    ]
    return [title, table(header, rows, frozenset({0, 2, 3, 4, 5}), stacked=True)]


def _signed(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.4f}"


def _alarms(material: Material) -> list[str]:
    rung: dict[tuple[str, str], list[Run]] = {}
    for run, stage, metrics in _all_metrics(material):
        for said in alarms_of(metrics):
            rung.setdefault((stage, said), []).append(run)
    found = [f"{stage} ({_names(material, runs)}): {said}" for (stage, said), runs in rung.items()]
    for run in outcome.evaluated(material):
        metrics = material.json(run, "evaluate") or {}
        found += [
            f"{run.name}: {scores['diverged']} forecasts of {model} diverged ({protocol})."
            for model, by_protocol in metrics.items()
            if isinstance(by_protocol, dict)
            for protocol, scores in by_protocol.items()
            if isinstance(scores, dict) and scores.get("diverged")
        ]
        share = _codec_share(metrics)
        if share is not None and share > _CODEC_DOMINATES:
            found.append(
                f"{run.name}: the codec's error is {share:.0%} of the operator's: the codec limits the surrogate."
            )
    return found


def _codec_share(metrics: dict[str, Any]) -> float | None:
    codec = metrics.get("reconstruction", {}).get("nrmse", {}).get("mean")
    operator = metrics.get("operator", {}).get("one_step", {}).get("nrmse", {}).get("mean")
    return codec / operator if codec is not None and operator else None


def _all_metrics(material: Material) -> Iterable[tuple[Run, str, dict[str, Any]]]:
    for stage in material.stages():
        for run in material.chosen.runs:
            metrics = material.json(run, stage)
            if metrics is not None:
                yield run, stage, metrics


def _names(material: Material, runs: Sequence[Run]) -> str:
    """Name runs briefly: all, whole variants, or one by one."""
    if len(runs) == len(material.chosen.runs):
        return "all runs"
    whole = [
        one for one in material.chosen.variants if {*material.chosen.of(one)} <= {*runs} and material.chosen.of(one)
    ]
    rest = [run.name for run in runs if run.variant not in whole]
    return "; ".join([*whole, *rest])
