"""Result tables that are kept with the repository: one small file each, from which `docs/results.md` is put together.

A table is made from the results of one sweep, at the commit that ran it. Tables that were made at different times stand
side by side in the document, each with its own command and commit; nothing is ever recomputed to write the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ups.errors import ArtifactError, ParameterError, UpsError
from ups.pipeline import atomic
from ups.report import regime_comparison
from ups.report.material import Material
from ups.report.regime_comparison import RegimeRow, specialty
from ups.report.runs import Chosen, Run

FOLDER = Path("docs/results")
PROTOCOLS = ("one_step", "pdebench", "rollout_ic")
METRIC = "nrmse"
# Of each variant, and once for all variants. Operator and student are shown where there is a corrector beside them.
OWN, REFINED, SHARED = ("assembled",), ("operator", "corrected", "student"), ("fno",)
UNTRAINED = ("persistence_last", "spatial_mean")
# What has to be trained before a model can forecast; the assembled surrogate is one of the first three.
STAGES = {
    "operator": ("train_codec", "train_operator"),
    "corrected": ("train_codec", "train_operator", "train_diffusion"),
    "student": ("train_codec", "train_operator", "train_diffusion", "distill"),
    "fno": ("train_baseline",),
}


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        variant: "" for what does not depend on the variant.
        model: as in `evaluate`'s metrics.
        errors: protocol -> seed -> mean nRMSE over the test trajectories.
        milliseconds: seed -> per trajectory, protocol `pdebench`, batched as evaluated.
        training_seconds: seed -> wall seconds in the training loops of all stages that the model needs.
    """

    variant: str
    model: str
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)
    training_seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """One table with its provenance.

    Attributes:
        name, title: of the file and of the section.
        command: repeats the runs.
        commits: that the runs were made from, "with changes" where the working tree differed.
        preset, task, seeds: what was run.
        trajectories: of the test split.
        machine: devices of the runs, as their stages noted them.
        rows: the models.
        verdicts: comparisons over seeds, as `ups compare --json` gives them, by protocol.
        claims: answers to the recipe's claims that these runs can give.
        note: what the reader has to know.
        regimes: where several were tested, the errors at each.
    """

    name: str
    title: str
    command: str
    commits: tuple[str, ...]
    preset: str
    task: str
    seeds: tuple[int, ...]
    trajectories: int
    machine: tuple[str, ...]
    rows: tuple[Row, ...]
    verdicts: dict[str, list[dict[str, Any]]]
    claims: tuple[dict[str, Any], ...]
    note: str = ""
    regimes: tuple[RegimeRow, ...] = ()


def make(name: str, title: str, chosen: Chosen, note: str = "", with_claims: bool = False) -> Table:
    """Make a table from runs.

    Specialists (`ups.report.regime_comparison`) are measures at their own regime, and no rows: a mean over regimes that
    they have never seen says nothing.

    Raises:
        ArtifactError: if a variant lacks a seed, or a run was not evaluated.
    """
    if chosen.missing:
        lacking = ", ".join(f"{variant} with seed {seed}" for variant, seed in chosen.missing)
        raise ArtifactError(f"A table needs every seed of every variant; there are no results of {lacking}.")
    material = Material(chosen)
    metrics = {run: _metrics(material, run) for run in chosen.runs}
    by_seed = {variant: {str(run.seed): metrics[run] for run in chosen.of(variant)} for variant in chosen.variants}
    regimes = regime_comparison.rows(by_seed)
    shown = [v for v in chosen.variants if not regimes or not specialty(next(iter(by_seed[v].values())))]
    first = chosen.of(shown[0])
    rows = [row for variant in shown for row in _rows(variant, chosen.of(variant), metrics)]
    shared = [model for model in metrics[first[0]] if model in SHARED or model.startswith("finite_volume_")]
    shared = [model for model in shared if "pdebench" in metrics[first[0]].get(model, {})]
    rows += [_row("", model, [run for run in first if model in metrics[run]], metrics) for model in shared]
    rows += [_row("", model, first, metrics) for model in UNTRAINED if model in metrics[first[0]]]
    return Table(
        name,
        title,
        chosen.command,
        tuple(dict.fromkeys(commit for run in chosen.runs if (commit := _commit(run)))),
        chosen.preset,
        chosen.task or "burgers1d",
        tuple(dict.fromkeys(run.seed for run in chosen.runs)),
        int(metrics[first[0]]["trajectories"]),
        tuple(dict.fromkeys(_machine(material, run) for run in chosen.runs)),
        tuple(rows),
        _verdicts(
            replace(chosen, variants=tuple(shown)),
            [protocol for protocol in PROTOCOLS[1:] if protocol in metrics[first[0]]["assembled"]],
        ),
        _claims(chosen) if with_claims else (),
        note,
        regimes,
    )


def save(table: Table, folder: Path = FOLDER, replace_fewer: bool = False) -> Path:
    """Write a table's file; one of the same name is replaced.

    Args:
        table: what to keep.
        folder: where.
        replace_fewer: also where the table that is there has seeds, or a preset or task, that this one lacks.

    Raises:
        UpsError: if that would lose what took longer to compute than the new one.
    """
    path = folder / f"{table.name}.json"
    if path.exists() and not replace_fewer:
        old = json.loads(path.read_text(encoding="utf-8"))
        kept, new = ((t["task"], t["preset"], tuple(t["seeds"])) for t in (old, asdict(table)))
        if kept[:2] != new[:2] or not set(kept[2]) <= set(new[2]):
            shown = [
                f"{task}, preset {preset}, seeds {', '.join(map(str, seeds))}" for task, preset, seeds in (kept, new)
            ]
            raise UpsError(f"{path} is of {shown[0]}; these are {shown[1]}. Choose another name, or say --replace.")
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, json.dumps(asdict(table), indent=1, ensure_ascii=False) + "\n")
    return path


def load(path: Path) -> Table:
    """Read a table's file.

    Raises:
        ArtifactError: if it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(Row(**row) for row in content.pop("rows"))
        regimes = tuple(RegimeRow(**row) for row in content.pop("regimes", ()))
        return Table(**{**content, "rows": rows, "regimes": regimes})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"{path} is no result table of this version ({error}). Make it again.") from None


def load_all(folder: Path = FOLDER) -> list[Table]:
    """Return all tables, by name.

    Raises:
        ParameterError: if there are none.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise ParameterError(f"{folder} holds no tables. Keep one with `ups table NAME VARIANT ...`.")
    return [load(path) for path in paths]


def _rows(variant: str, runs: Sequence[Run], metrics: dict[Run, dict[str, Any]]) -> Iterator[Row]:
    models = OWN + (REFINED if "corrected" in metrics[runs[0]] else ())
    for model in models:
        if model in metrics[runs[0]]:
            yield _row(variant, model, runs, metrics)


def _row(variant: str, model: str, runs: Sequence[Run], metrics: dict[Run, dict[str, Any]]) -> Row:
    from ups.evaluation.comparison import Question
    from ups.evaluation.costs import read_costs

    row = Row(variant, model)
    for run in runs:
        seed, results = str(run.seed), metrics[run][model]
        for protocol in PROTOCOLS:
            if protocol in results:
                row.errors.setdefault(protocol, {})[seed] = results[protocol][METRIC]["mean"]
        costs = read_costs(run.artifacts, Question(METRIC, "pdebench", model, "full"))
        if costs.milliseconds_per_trajectory is not None:
            row.milliseconds[seed] = costs.milliseconds_per_trajectory
        trained = metrics[run].get("assembly", {}).get("assembled", "corrected")
        stages = STAGES.get(trained if model == "assembled" else model)
        if stages is not None:
            row.training_seconds[seed] = sum(costs.training_seconds.get(stage, 0.0) for stage in stages)
    return row


def _metrics(material: Material, run: Run) -> dict[str, Any]:
    found = material.json(run, "evaluate")
    if found is None:
        raise ArtifactError(f"{' '.join(material.problems) or f'{run.name} was not evaluated.'} Run `ups sweep` again.")
    return found


def _commit(run: Run) -> str:
    from ups.pipeline import collect, results

    if not run.snapshot:
        return ""
    origin = collect.of_results(run.folder, results.read(run.folder))
    return (origin.commit or "")[:12] + (" with changes" if origin.dirty else "")


def _machine(material: Material, run: Run) -> str:
    record = material.json(run, "evaluate", "provenance.json") or {}
    return str(record.get("device", "not recorded"))


def _verdicts(chosen: Chosen, protocols: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    from ups.evaluation.comparison import Question
    from ups.report.comparison import as_dict, report

    if len(chosen.variants) < 2:
        return {}
    runs = {variant: {run.seed: run.folder for run in chosen.of(variant)} for variant in chosen.variants}
    found = {}
    for protocol in protocols:
        comparisons = as_dict(report(runs, Question(METRIC, protocol, "assembled", "full")))["comparisons"]
        keys = ("method", "reference", "relative_difference", "relative_interval", "p_holm", "relative_detectable")
        found[protocol] = [
            {
                **{key: each[key] for key in keys},
                "verdict": str(each["verdict"]),
                "pairs": len(each["pairs"]),
                "controlled": each["controlled"],
            }
            for each in comparisons
        ]
    return found


def _claims(chosen: Chosen) -> tuple[dict[str, Any], ...]:
    from ups.evaluation.claims.evidence import Evidence
    from ups.evaluation.claims.recipe import answer_all

    runs = {variant: {run.seed: run.artifacts for run in chosen.of(variant)} for variant in chosen.variants}
    return tuple(
        {
            "statement": answer.claim.statement,
            "claimed": answer.claim.claimed,
            "verdict": str(answer.finding.verdict),
            "unit": answer.finding.unit,
            "estimate": asdict(answer.finding.estimate) if answer.finding.estimate else None,
            "measured": answer.finding.measured,
            "reason": answer.finding.reason,
        }
        for answer in answer_all(Evidence(runs))
    )
