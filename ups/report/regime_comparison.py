"""One model for several regimes beside specialists: what it costs, regime by regime, not to be trained for one alone.

A specialist is a run that trained on a single regime and was tested on all of them; it is the measure at its own.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PROTOCOLS = ("pdebench", "rollout_ic", "one_step")
MODELS = ("assembled", "fno")
METRIC = "nrmse"
_KINDS = {"trained": "on the regimes it was trained on", "near": "within 10 % of one", "between": "between them"}

# protocol -> seed -> mean error over test trajectories; None if a forecast diverged
Errors = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class RegimeRow:
    """The errors at one regime.

    Attributes:
        regime: its name, such as "viscosity=0.01".
        kind: how it relates to what the models for several regimes were trained on.
        nearest: the trained regime that is the nearest.
        trajectories: of the test split.
        errors: variant -> model -> errors, of the variants that trained on several regimes.
        specialists: model -> errors of the variant that trained on this regime alone; empty without one.
    """

    regime: str
    kind: str
    nearest: str
    trajectories: int
    errors: dict[str, dict[str, Errors]] = field(default_factory=dict)
    specialists: dict[str, Errors] = field(default_factory=dict)


def specialty(metrics: Mapping[str, Any]) -> str | None:
    """Return the only regime that a run trained on, of several that it was tested on; None for any other run."""
    kinds: Mapping[str, Any] = metrics.get("regime_kinds", {})
    trained = [regime for regime, about in kinds.items() if about.get("kind") == "trained"]
    return trained[0] if len(trained) == 1 else None


def rows(runs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> tuple[RegimeRow, ...]:
    """Return a row for each regime; none where no run has several.

    Args:
        runs: variant -> seed -> metrics of `evaluate`. The first that trained on several regimes says what is trained.
    """
    several = {variant: by_seed for variant, by_seed in runs.items() if _trained(by_seed) > 1}
    if not several:
        return ()
    special = {specialty(next(iter(by_seed.values()))): by_seed for by_seed in runs.values()}
    kinds = next(iter(next(iter(several.values())).values()))["regime_kinds"]
    return tuple(
        RegimeRow(
            regime,
            about["kind"],
            about["nearest_trained"],
            about["trajectories"],
            {variant: _errors(by_seed, regime) for variant, by_seed in several.items()},
            _errors(special[regime], regime) if regime in special else {},
        )
        for regime, about in kinds.items()
    )


def markdown(found: Sequence[RegimeRow]) -> list[str]:
    """Return, for each protocol, a table and what is largest in it, as paragraphs of markdown."""
    parts = []
    for protocol in PROTOCOLS[:2]:
        if any(protocol in errors for row in found for errors in row.errors.get(_first(found), {}).values()):
            parts += [_table(found, protocol), _summary(found, protocol)]
    return [part for part in parts if part]


def ratio(errors: Errors, reference: Errors, protocol: str) -> float | None:
    """Return the mean error over seeds as a multiple of the reference's; None where either is missing or diverged."""
    one, other = mean(errors, protocol), mean(reference, protocol)
    return one / other if one is not None and other else None


def mean(errors: Errors, protocol: str) -> float | None:
    """Return the mean over seeds; None if there are none, or a forecast of one diverged."""
    values = list(errors.get(protocol, {}).values())
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _trained(by_seed: Mapping[str, Mapping[str, Any]]) -> int:
    kinds = next(iter(by_seed.values())).get("regime_kinds", {})
    return sum(about.get("kind") == "trained" for about in kinds.values())


def _errors(by_seed: Mapping[str, Mapping[str, Any]], regime: str) -> dict[str, Errors]:
    found: dict[str, Errors] = {}
    for seed, metrics in by_seed.items():
        for model in MODELS:
            for protocol, values in metrics["regimes"][regime].get(model, {}).items():
                found.setdefault(model, {}).setdefault(protocol, {})[seed] = values[METRIC]["mean"]
    return found


def _first(found: Sequence[RegimeRow]) -> str:
    return next(iter(found[0].errors))


def _columns(found: Sequence[RegimeRow]) -> Iterator[tuple[str, str, str]]:
    """Yield variant, model and heading."""
    for variant, models in found[0].errors.items():
        for model in models:
            yield variant, model, variant if model == "assembled" else f"{variant}: FNO"


def _table(found: Sequence[RegimeRow], protocol: str) -> str:
    columns = list(_columns(found))
    header = [f"`{protocol}`", "kind", "specialist"]
    for _, model, heading in columns:
        header += [heading, "× specialist"] if model == "assembled" else [heading]
    lines = [header, ["---", "---", *["---:"] * (len(header) - 2)]]
    for row in found:
        cells = [row.regime, row.kind, _cell(row.specialists.get("assembled", {}), protocol)]
        for variant, model, _ in columns:
            errors = row.errors[variant].get(model, {})
            cells.append(_cell(errors, protocol))
            if model == "assembled":
                times = ratio(errors, row.specialists.get("assembled", {}), protocol)
                cells.append("–" if times is None else f"{times:.2f}")
        lines.append(cells)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _summary(found: Sequence[RegimeRow], protocol: str) -> str:
    """Return the largest multiple of the specialist for each kind of regime, and of the nearest trained one's error."""
    by_name = {row.regime: row for row in found}
    lines = []
    for variant in found[0].errors:
        for kind, words in _KINDS.items():
            of_kind = [row for row in found if row.kind == kind]
            times = [
                (ratio(row.errors[variant].get("assembled", {}), row.specialists.get("assembled", {}), protocol), row)
                for row in of_kind
            ]
            said = _largest(times, "times its specialist's error")
            if kind == "near":
                beside = [(_beside(row, by_name, variant, protocol), row) for row in of_kind]
                said += _largest(beside, "times its own error at the nearest regime it was trained on")
            if said:
                lines.append(f"* {variant}, `{protocol}`, {words}: at most {', at most '.join(said)}.")
    return "\n".join(lines)


def _beside(row: RegimeRow, by_name: Mapping[str, RegimeRow], variant: str, protocol: str) -> float | None:
    if row.nearest not in by_name:
        return None
    own, trained = (one.errors[variant].get("assembled", {}) for one in (row, by_name[row.nearest]))
    return ratio(own, trained, protocol)


def _largest(times: Sequence[tuple[float | None, RegimeRow]], words: str) -> list[str]:
    known = [(value, row.regime) for value, row in times if value is not None]
    if not known:
        return []
    value, regime = max(known)
    return [f"{value:.2f} {words} ({regime})"]


def _cell(errors: Errors, protocol: str) -> str:
    values = list(errors.get(protocol, {}).values())
    if not values:
        return "–"
    average = mean(errors, protocol)
    if average is None:
        return "diverged"
    spread = statistics.stdev([value for value in values if value is not None]) if len(values) > 1 else math.nan
    return f"{average:.2e}" if math.isnan(spread) else f"{average:.2e} ± {spread:.0e}"
