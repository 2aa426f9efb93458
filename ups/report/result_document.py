"""`docs/results.md` from the kept tables; nothing is computed anew but means and spreads over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ups.evaluation.names import model_label
from ups.evaluation.seed_tests import MIN_PAIRS
from ups.report import regime_comparison
from ups.report.numbers import NOTHING, effect, interval, share
from ups.report.result_tables import PROTOCOLS, Row, Table

_HEAD = """# Results

Written by `ups table --write` from the files in `docs/results/`, each of which was kept by `ups table NAME VARIANT ...`
after the command it names. Errors are nRMSE on test trajectories that no stage has seen, mean over trajectories, then
over seeds, ± the standard deviation over seeds, and the worst seed; a single seed has no spread, and differences below
it mean nothing. `one_step` starts from true frames, `pdebench` runs freely after ten given frames, `rollout_ic` after
one. Costs are of the machine named, batched. Verdicts are given from {pairs} seeds on."""


def document(tables: Sequence[Table]) -> str:
    """Return the document."""
    parts = [_HEAD.format(pairs=MIN_PAIRS)]
    for table in tables:
        parts += [f"## {table.title}", *_provenance(table), _markdown(table.rows), *_verdicts(table), *_claims(table)]
        parts += regime_comparison.markdown(table.regimes) if table.regimes else []
    return "\n\n".join(part for part in parts if part) + "\n"


def _provenance(table: Table) -> list[str]:
    seeds = ", ".join(map(str, table.seeds))
    lines = [
        f"`{table.command}`",
        f"Task {table.task}, preset {table.preset}, seeds {seeds}, {table.trajectories} test trajectories; "
        f"commit {', '.join(table.commits) or 'not recorded'}; {'; '.join(table.machine)}.",
    ]
    return [*lines, table.note] if table.note else lines


def _markdown(rows: Sequence[Row]) -> str:
    header = ["model", *(f"`{protocol}`" for protocol in PROTOCOLS), "ms / trajectory", "training s"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for row in rows:
        errors = [spread(row.errors.get(protocol, {})) for protocol in PROTOCOLS]
        lines.append([_name(row), *errors, _mean(row.milliseconds, ".3g"), _mean(row.training_seconds, ".0f")])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _name(row: Row) -> str:
    label = model_label(row.model) or row.model
    if not row.variant:
        return label
    return f"**{row.variant}**" if row.model == "assembled" else f"{row.variant}: {label}"


def spread(values: Mapping[str, float]) -> str:
    """Return "mean ± deviation (worst)" over seeds."""
    if not values:
        return NOTHING
    numbers = list(values.values())
    mean = f"{statistics.fmean(numbers):.2e}"
    if len(numbers) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(numbers):.0e} (worst {max(numbers):.2e})"


def _mean(values: Mapping[str, float], write: str) -> str:
    return format(statistics.fmean(values.values()), write) if values else NOTHING


def _verdicts(table: Table) -> list[str]:
    lines = []
    for protocol, comparisons in table.verdicts.items():
        for each in comparisons:
            about = f"* {each['method']} against {each['reference']}, `{protocol}`, {each['pairs']} pairs of seeds: "
            numbers = f"**{each['verdict']}**, {share(each['relative_difference'])}"
            within = interval(*each["relative_interval"])
            details = [f"interval {within}"] if within != NOTHING else []
            if each["p_holm"] is not None:
                details.append(f"p = {each['p_holm']:.2g}")
            if each["relative_detectable"] is not None:
                details.append(f"detectable {share(abs(each['relative_detectable'])).lstrip('+')}")
            details.append("controlled" if each["controlled"] else "NOT CONTROLLED")
            lines.append(f"{about}{numbers} ({'; '.join(details)})")
    return ["\n".join(lines)] if lines else []


def _claims(table: Table) -> list[str]:
    if not table.claims:
        return []
    rows = [["claim of the recipe", "claimed", "found", "detectable", "verdict"], ["---"] * 5]
    for claim in map(_with_benchmark, table.claims):
        estimate: dict[str, Any] = claim["estimate"] or {}
        unit, value = claim["unit"], estimate.get("value")
        found = effect(value, unit) if estimate else NOTHING
        if estimate and estimate["low"] != estimate["high"]:
            found += f" ({interval(estimate['low'], estimate['high'], unit)})"
        smallest = estimate.get("detectable")
        detectable = NOTHING if smallest is None else effect(abs(smallest), unit).lstrip("+")
        said = f"**{claim['verdict']}** {claim['reason']}"
        rows.append([_cell(text) for text in (claim["statement"], claim["claimed"], found, detectable, said)])
    return ["\n".join("| " + " | ".join(row) + " |" for row in rows)]


def _with_benchmark(claim: dict[str, Any]) -> dict[str, Any]:
    """Return a claim that the table's runs could not answer with what a benchmark found since, if one did."""
    from ups.evaluation.claims.evidence import Evidence
    from ups.evaluation.claims.recipe import CLAIMS, answer_all
    from ups.evaluation.claims.rules import ClaimVerdict

    if claim["verdict"] != ClaimVerdict.NOT_MEASURED:
        return claim
    asked = [each for each in CLAIMS if each.statement == claim["statement"]]
    found = [answer.finding for answer in answer_all(Evidence({}), asked)]
    if not found or found[0].verdict is ClaimVerdict.NOT_MEASURED:
        return claim
    return {**claim, "verdict": str(found[0].verdict), "reason": found[0].reason}


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
