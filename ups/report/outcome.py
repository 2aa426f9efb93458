"""The result: errors of every variant with their intervals, and the verdicts of the paired comparison over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ups.evaluation.comparison import PER_TRAJECTORY, Comparison, Question, Verdict, compare, select_values
from ups.evaluation.comparison_text import describe
from ups.evaluation.costs import Costs
from ups.evaluation.figures.paired_differences import draw_paired_differences
from ups.evaluation.regime_table import regime_tables
from ups.evaluation.seed_tests import LEVEL, MIN_PAIRS, paired_t
from ups.evaluation.table import results_table
from ups.report import comparison as comparing
from ups.report import figures
from ups.report.elements import Html, absent, details, items, paragraph, picture, section, table, tag, text
from ups.report.material import Material
from ups.report.numbers import NOTHING, error, error_interval, interval, seconds, share
from ups.report.runs import Run

PROTOCOLS = ("pdebench", "rollout_ic", "one_step")
MODELS = ("assembled", "corrected", "operator")

Values = dict[str, dict[int, pd.Series]]

_SIGNS = {
    Verdict.BETTER: "▲",
    Verdict.WORSE: "▼",
    Verdict.NO_DIFFERENCE: "=",
    Verdict.TOO_FEW: "?",
    Verdict.DIVERGED: "✗",
}


@dataclass(frozen=True)
class Means:
    """Errors of one variant: the mean over seeds with its interval.

    Attributes:
        mean, low, high: the interval is over seeds; from a single seed over trajectories, and `spread` says so.
        diverged: how many seeds have a forecast that diverged; there is no mean then.
        seeds: how many seeds were evaluated.
    """

    mean: float | None
    low: float | None
    high: float | None
    diverged: int
    seeds: int

    def cell(self) -> Html:
        """Return it for a table: the interval below the mean."""
        if self.diverged:
            return text(f"diverged in {self.diverged} of {self.seeds} seeds")
        within = error_interval(self.low, self.high)
        return Html(text(error(self.mean)) + (tag("div", within, class_="note") if within else ""))


def evaluated(material: Material) -> list[Run]:
    """Return the runs that have an evaluation."""
    return [run for run in material.chosen.runs if material.json(run, "evaluate") is not None]


def protocols(material: Material) -> list[str]:
    """Return the protocols of the evaluations, the one that decides first."""
    found = [
        metrics
        for run in evaluated(material)
        for metrics in (material.json(run, "evaluate") or {}).values()
        if isinstance(metrics, dict)
    ]
    return [name for name in PROTOCOLS if any(name in metrics for metrics in found)]


def read(material: Material, question: Question) -> Values:
    """Return variant -> seed -> values per trajectory, of the runs that were evaluated on this."""
    found: Values = {}
    for run in evaluated(material):
        if not _has(material, run, question):
            continue
        path = run.artifacts / "evaluate" / PER_TRAJECTORY
        table = material.parquet(run, "evaluate", PER_TRAJECTORY)
        if table is None:
            material.problems[f"{path}: it is not there or cannot be read"] = None
            continue
        values = material.attempt(f"{run.name}, {question}", select_values, table, question, path)
        if values is not None:
            found.setdefault(run.variant, {})[run.seed] = values
    return found


def means(values: dict[int, pd.Series]) -> Means:
    """Average one variant: over trajectories within each seed, then over seeds."""
    by_seed = [float(one.mean(skipna=False)) for one in values.values()]
    diverged = sum(value != value for value in by_seed)
    if diverged or not by_seed:
        return Means(None, None, None, diverged, len(by_seed))
    sample = by_seed if len(by_seed) > 1 else next(iter(values.values())).tolist()
    if len(sample) < 2:
        return Means(by_seed[0], None, None, 0, 1)
    test = paired_t(sample, LEVEL)
    return Means(sum(by_seed) / len(by_seed), test.low, test.high, 0, len(by_seed))


def result_section(material: Material) -> Html:
    """Return the section with the table, the verdicts, and all models of one run."""
    there = protocols(material)
    if not there:
        return section("results", "Results", absent("No run has results of the stage `evaluate`."))
    main = Question(protocol=there[0])
    values = read(material, main)
    runs = _paired(material, values)
    parts = [_table(material, there), *_verdicts(material, main, values, runs, there), _all_models(material)]
    return section("results", "Results", *parts)


def _has(material: Material, run: Run, question: Question) -> bool:
    found = (material.json(run, "evaluate") or {}).get(question.model)
    return isinstance(found, dict) and question.protocol in found


def _table(material: Material, there: Sequence[str]) -> Html:
    chosen = material.chosen
    columns = [Question(protocol=name) for name in there]
    columns += [Question(protocol=there[0], model=model) for model in MODELS[1:]]
    values = [read(material, question) for question in columns]
    costs = [
        material.attempt("Costs", _costs, one, folders, columns[0])
        if (folders := {run.seed: run.folder for run in evaluated(material) if run.variant == one})
        else None
        for one in chosen.variants
    ]
    for run in evaluated(material):
        for path in sorted(run.artifacts.glob("*/history.csv")):
            material.note(path)
    rows = []
    for variant, cost in zip(chosen.variants, costs, strict=True):
        cells = [means(found[variant]).cell() if variant in found else NOTHING for found in values]
        count = len(values[0].get(variant, {}))
        rows.append([tag("b", variant), str(count), *cells, *_cost_cells(cost)])
    header = [
        "variant",
        "seeds",
        *(f"{question.protocol}" for question in columns[: len(there)]),
        f"{there[0]}, corrector forced",
        f"{there[0]}, operator alone",
        "training",
        "ms / trajectory",
    ]
    most = max((len(found) for found in values[0].values()), default=0)
    over = (
        "over seeds" if most > 1 else "over the test trajectories of a single seed, which says nothing about the method"
    )
    said = (
        f"nRMSE of free-running forecasts on the test split, assembled surrogate unless said otherwise: mean and "
        f"{1 - LEVEL:.0%} interval {over}. Lower is better. Training: seconds in the training loops of all stages; "
        f"forecasts batched, protocol {there[0]}."
    )
    source = "Source: artifacts/evaluate/per_trajectory.parquet and metrics.json, artifacts/*/history.csv of each run."
    return Html(table(header, rows, stacked=True) + paragraph(said) + paragraph(source, "source"))


def _costs(variant: str, folders: dict[int, Path], question: Question) -> Costs:
    return comparing.mean_costs_of({variant: folders}, question)[variant]


def _cost_cells(cost: Costs | None) -> list[str]:
    if cost is None:
        return [NOTHING] * 2
    milliseconds = cost.milliseconds_per_trajectory
    return [
        seconds(cost.total_seconds),
        NOTHING if milliseconds is None else f"{milliseconds:.3g}",
    ]


def _paired(material: Material, values: Values) -> comparing.Runs:
    """Return the folders of the runs with the seeds that all evaluated variants share."""
    seeds = set.intersection(*(set(found) for found in values.values())) if values else set()
    folders: dict[str, dict[int, Path]] = {}
    for run in material.chosen.runs:
        if run.seed in seeds and run.seed in values.get(run.variant, {}):
            folders.setdefault(run.variant, {})[run.seed] = run.folder
    return folders


def _verdicts(
    material: Material, main: Question, values: Values, runs: comparing.Runs, there: Sequence[str]
) -> list[Html]:
    title = tag("h3", "Verdicts")
    if len(values) < 2:
        return [title, absent("There is one variant with results; a verdict compares at least two.")]
    reference = material.chosen.variants[0]
    if reference not in runs:
        return [title, absent(f"The reference {reference} shares no evaluated seed with the others: nothing to pair.")]
    paired = {name: {seed: values[name][seed] for seed in known} for name, known in runs.items()}
    compared = material.attempt("Verdicts", compare, paired, reference, main)
    if compared is None:
        return [title, absent("The runs cannot be paired; the reason is listed under failures.")]
    undeclared = material.attempt("The check of control", comparing.undeclared_differences, runs)
    for run in material.chosen.runs:
        material.note(run.folder / "dvc.lock")
    rows = [_verdict_row(each, undeclared) for each in compared]
    words = []
    for each in compared:
        lines = describe(each)
        if undeclared is not None:
            lines += comparing.control_lines(each, undeclared[each.method])
        words.append(tag("pre", "\n".join(lines)))
    others = [Question(protocol=name) for name in there[1:]] + [Question(protocol=there[0], model="corrected")]
    rest = [row for question in others for row in _secondary(material, question, reference)]
    seeds = len(next(iter(runs.values())))
    rule = (
        f"The question that decides: {main}, against {reference}, paired by training seed ({seeds} shared). A verdict "
        f"needs {MIN_PAIRS} seeds and p < {LEVEL:g} after Holm's correction for {len(compared)} "
        f"comparison{'s' if len(compared) > 1 else ''}; intervals are over seeds."
    )
    parts = [
        title,
        paragraph(rule),
        table(_VERDICT_HEADER, rows, frozenset({0, 1, 6}), stacked=True),
        details("In words, with every seed and every undeclared difference", *words),
        _figure(compared),
    ]
    if rest:
        parts.append(
            details(
                "Other questions, each on its own",
                paragraph("Each row is corrected for the comparisons of its own question alone."),
                table(["question", *_VERDICT_HEADER[:6]], rest, frozenset({0, 1, 2})),
            )
        )
    return parts


_VERDICT_HEADER = [
    "variant",
    "verdict",
    "difference",
    f"{1 - LEVEL:.0%} interval",
    "smallest detectable",
    "p (Holm)",
    "controlled",
]


def _verdict_row(found: Comparison, undeclared: dict[str, dict[comparing.Difference, list[int]]] | None) -> list[str]:
    if undeclared is None:
        control = "could not be checked, see failures"
    else:
        count = len(undeclared[found.method])
        control = "yes" if not count else f"no: {count} undeclared difference{'s' if count > 1 else ''}"
    return [*_numbers(found), control]


def _numbers(found: Comparison) -> list[str]:
    smallest = found.relative(found.detectable)
    return [
        found.method,
        tag("span", f"{_SIGNS[found.verdict]} {found.verdict}", class_="verdict"),
        share(found.relative(found.difference)),
        interval(found.relative(found.low), found.relative(found.high)),
        NOTHING if smallest is None else f"±{100 * abs(smallest):.1f} %",
        NOTHING if found.p_holm is None else f"{found.p_holm:.2g}",
    ]


def _secondary(material: Material, question: Question, reference: str) -> list[list[str]]:
    values = read(material, question)
    runs = _paired(material, values)
    if reference not in runs or len(runs) < 2:
        return []
    paired = {name: {seed: values[name][seed] for seed in known} for name, known in runs.items()}
    compared = material.attempt(f"Verdicts on {question}", compare, paired, reference, question)
    return [[str(question), *_numbers(each)] for each in compared or []]


def _figure(compared: Sequence[Comparison]) -> Html:
    data = figures.drawn(draw_paired_differences, compared)
    methods = ", ".join(each.method for each in compared)
    return picture(
        data,
        f"Differences of {methods} to {compared[0].reference} by seed, and their mean with its interval",
        "Differences by seed. A thin interval is over the trajectories of that seed's two models; the thick one, over "
        "seeds, decides.",
        wide=720,
    )


def _all_models(material: Material) -> Html:
    run = evaluated(material)[0]
    metrics = material.json(run, "evaluate") or {}
    shown = material.attempt(f"The table of {run.name}", results_table, metrics, material.json(run, "evaluate_ttc"))
    if shown is None:
        return absent(f"The metrics of {run.name} do not make a table; the reason is listed under failures.")
    source = (
        f"Source: {run.artifacts / 'evaluate' / 'metrics.json'} and {run.artifacts / 'evaluate_ttc' / 'metrics.json'}."
    )
    by_regime = material.attempt(f"The regimes of {run.name}", regime_tables, metrics) or []
    return Html(
        tag("h3", f"All models and baselines of one run: {run.name}")
        + table(shown.header, shown.rows)
        + items(shown.notes)
        + "".join(table(one.header, one.rows, frozenset({0, 1})) + items(one.notes) for one in by_regime)
        + paragraph(source, "source")
    )
