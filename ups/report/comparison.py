"""What `ups compare` says: verdicts over seeds, whether they rest on a controlled comparison, costs, overfitting.

Also what a flow publishes beside a sweep: `report(find(variants, seeds), question)`, then `text` or `as_dict`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ups.parameters.files import BASE, read_yaml
from ups.parameters.selection import DEFAULT_PRESET

if TYPE_CHECKING:
    import pandas as pd

    from ups.evaluation.comparison import Comparison, Question
    from ups.evaluation.costs import Costs
    from ups.evaluation.overfitting_alarm import LossCorrelation
    from ups.pipeline.controlled import Difference

CORRECTOR = "train_diffusion"

Runs = Mapping[str, Mapping[int, Path]]


@dataclass(frozen=True)
class Report:
    """Everything that `ups compare` says.

    Attributes:
        task: what all runs are of.
        comparisons: one per variant that is not the reference.
        undeclared: variant -> undeclared difference to the reference -> the seeds in which it occurs.
        costs: variant -> mean costs of its runs.
        correlation: of the corrector's training loss with the error, over all runs.
    """

    task: str
    comparisons: list[Comparison]
    undeclared: dict[str, dict[Difference, list[int]]]
    costs: dict[str, Costs]
    correlation: LossCorrelation


def find(
    variants: list[str],
    seeds: Sequence[int] | None,
    root: Path = Path("."),
    preset: str = DEFAULT_PRESET,
    task: str | None = None,
) -> Runs:
    """Return the folders of the runs to compare: variant -> seed -> folder.

    Raises:
        UpsError: naming the variant that does not exist, or the seeds that one of them was not run with.
    """
    from ups.errors import ArtifactError, UpsError
    from ups.evaluation.comparison import check_seeds
    from ups.pipeline.controlled import declared_between
    from ups.pipeline.jobs import job_suffix
    from ups.pipeline.run_record import RESULTS, find_runs

    if len(set(variants)) != len(variants) or len(variants) < 2:
        raise UpsError(f"Name at least two different variants to compare, not: {', '.join(variants) or 'none'}.")
    for name in variants:
        declared_between(name, name)  # refuses a name that is no variant
    runs = find_runs(variants, root, preset, task)
    for name, known in runs.items():
        if not known:
            place = f"{root / RESULTS}/{name}-<seed>{job_suffix(preset, task)}"
            others = ", ".join(sorted(path.name for path in (root / RESULTS).glob(f"{name}-[0-9]*")))
            raise ArtifactError(
                f"There is no run of '{name}': neither {place} nor the project itself holds one. "
                + (f"There is {others}: name its --preset or --task. " if others else "")
                + f"Run it with `ups sweep`, or with `ups params use {name}` and `make repro`."
            )
    if seeds is None:
        check_seeds({name: list(known) for name, known in runs.items()})
        return runs
    lacking = {name: [seed for seed in seeds if seed not in known] for name, known in runs.items()}
    missing = [f"{name} with {', '.join(map(str, absent))}" for name, absent in lacking.items() if absent]
    if missing:
        raise ArtifactError(f"These were not run: {'; '.join(missing)}. Run them, or leave these seeds out of --seeds.")
    return {name: {seed: known[seed] for seed in seeds} for name, known in runs.items()}


def report(runs: Runs, question: Question) -> Report:
    """Read the runs, compare each variant with the first one, and check that the comparison is controlled.

    Raises:
        UpsError: if a run lacks what is asked for, or cannot be paired.
    """
    from ups.evaluation.comparison import compare as compare_values

    values = read_all(runs, question)
    return Report(
        read_yaml(next(iter(next(iter(runs.values())).values())) / BASE)["task"]["name"],
        compare_values(values, next(iter(runs)), question),
        undeclared_differences(runs),
        mean_costs_of(runs, question),
        corrector_correlation(runs, values),
    )


def read_all(runs: Runs, question: Question) -> dict[str, dict[int, pd.Series]]:
    """Return the values of all runs, variant -> seed -> values per trajectory.

    Raises:
        ArtifactError: if a run was not evaluated on this question.
    """
    from ups.evaluation.comparison import read_values
    from ups.pipeline.run_record import ARTIFACTS

    return {
        name: {seed: read_values(folder / ARTIFACTS, question) for seed, folder in known.items()}
        for name, known in runs.items()
    }


def undeclared_differences(runs: Runs) -> dict[str, dict[Difference, list[int]]]:
    """Return, for each variant but the first, its undeclared differences to the first, and their seeds.

    Raises:
        UpsError: if a run has no complete record.
    """
    from ups.errors import ArtifactError
    from ups.pipeline.controlled import declared_between, over_seeds
    from ups.pipeline.run_record import read_record

    records = {name: {seed: read_record(folder) for seed, folder in known.items()} for name, known in runs.items()}
    for name, by_seed in records.items():
        for seed, record in by_seed.items():
            if record.params["seed"] != seed:
                raise ArtifactError(
                    f"{record.folder} should hold {name} with seed {seed}, but was run with seed "
                    f"{record.params['seed']}. Run it again."
                )
    reference, *others = runs
    return {
        name: over_seeds(
            {seed: (records[reference][seed], records[name][seed]) for seed in runs[name]},
            declared_between(reference, name),
        )
        for name in others
    }


def mean_costs_of(runs: Runs, question: Question) -> dict[str, Costs]:
    """Return the mean costs of each variant's runs."""
    from ups.evaluation.costs import mean_costs, read_costs
    from ups.pipeline.run_record import ARTIFACTS

    return {
        name: mean_costs([read_costs(folder / ARTIFACTS, question) for folder in known.values()])
        for name, known in runs.items()
    }


def corrector_correlation(runs: Runs, values: Mapping[str, Mapping[int, pd.Series]]) -> LossCorrelation:
    """Correlate the corrector's training loss with the error over all runs, see `ups.evaluation.overfitting_alarm`."""
    from ups.evaluation.costs import read_train_loss
    from ups.evaluation.overfitting_alarm import loss_correlation
    from ups.pipeline.run_record import ARTIFACTS

    trained = [
        (name, loss, float(values[name][seed].mean(skipna=False)))
        for name, known in runs.items()
        for seed, folder in known.items()
        if (loss := read_train_loss(folder / ARTIFACTS, CORRECTOR)) is not None
    ]
    # A diverged run has no error; it cannot be placed.
    points = [(name, loss, error) for name, loss, error in trained if error == error]
    return loss_correlation(*([point[at] for point in points] for at in (1, 2, 0)))  # type: ignore[arg-type]


def text(found: Report) -> list[str]:
    """Return the report as lines."""
    from ups.evaluation.comparison import HIGHER_IS_BETTER
    from ups.evaluation.comparison_text import describe

    question = found.comparisons[0].question
    seeds = ", ".join(str(pair.seed) for pair in found.comparisons[0].pairs)
    direction = "higher" if question.metric in HIGHER_IS_BETTER else "lower"
    lines = [f"{question} ({direction} is better); seeds {seeds}"]
    for comparison in found.comparisons:
        lines += ["", *describe(comparison), *control_lines(comparison, found.undeclared[comparison.method])]
    return [*lines, "", *_costs(found.costs), "", alarm_line(found.correlation)]


def as_dict(found: Report) -> dict[str, Any]:
    """Return the report as JSON values."""
    comparisons = []
    for comparison in found.comparisons:
        content = asdict(comparison)
        content["relative_difference"] = comparison.relative(comparison.difference)
        content["relative_interval"] = [comparison.relative(value) for value in (comparison.low, comparison.high)]
        content["relative_detectable"] = comparison.relative(comparison.detectable)
        differences = found.undeclared[comparison.method]
        content["controlled"] = not differences
        content["undeclared"] = [{**asdict(each), "seeds": seeds} for each, seeds in differences.items()]
        comparisons.append(content)
    costs = {name: {**asdict(each), "total_training_seconds": each.total_seconds} for name, each in found.costs.items()}
    return {"comparisons": comparisons, "costs": costs, "overfitting_alarm": asdict(found.correlation)}


def control_lines(comparison: Comparison, differences: Mapping[Difference, list[int]]) -> list[str]:
    if not differences:
        return ["  CONTROLLED: the runs differ in what the variants declare, and in nothing else that is recorded."]
    between = f"{comparison.reference} -> {comparison.method}"
    lines = [f"  NOT CONTROLLED, undeclared differences {between}: {len(differences)}"]
    for difference, seeds in differences.items():
        only = "" if len(seeds) == len(comparison.pairs) else f", seeds {', '.join(map(str, seeds))}"
        lines.append(f"    {difference}{only}")
    return lines


def _costs(costs: Mapping[str, Costs]) -> list[str]:
    from ups.evaluation.comparison_text import table

    stages = list(dict.fromkeys(stage for each in costs.values() for stage in each.training_seconds))
    header = ["cost (mean over seeds)", *stages, "training", "forecast", "network evaluations"]
    rows = [header]
    for name, each in costs.items():
        milliseconds, evaluations = each.milliseconds_per_trajectory, each.evaluations_per_trajectory
        rows.append(
            [
                name,
                *(f"{each.training_seconds.get(stage, 0.0):.0f} s" for stage in stages),
                f"{each.total_seconds:.0f} s",
                "–" if milliseconds is None else f"{milliseconds:.3g} ms/trajectory",
                "–" if evaluations is None else f"{evaluations:g}",
            ]
        )
    return [
        *table(rows),
        "Seconds are wall time of each stage's one execution, with whatever else the machine had to do.",
    ]


def alarm_line(correlation: LossCorrelation) -> str:
    runs = f"{correlation.runs} runs, differences within variants"
    of = "of the corrector's training loss with the error"
    if correlation.r is None:
        return f"Overfitting alarm: the correlation {of} cannot be told from {runs}."
    state = "RINGS, where the corrector fits better the forecast is worse" if correlation.alarm else "silent"
    interval = f"95 % interval {correlation.low:+.2f} to {correlation.high:+.2f}"
    return f"Overfitting alarm: {state}. Correlation {of}: {correlation.r:+.2f}, {interval} ({runs})."
