"""The results by regime, from the metrics file of `evaluate`. Needs nothing but Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ups.evaluation.names import model_label, model_order
from ups.evaluation.table import PROTOCOLS, ResultsTable

# What repeats another column, or nobody takes for a forecast of one regime rather than another.
_LEFT_OUT = ("persistence_initial", "spatial_mean", "zero_correction", "corrected", "student", "ensemble")
_NOTHING = "–"


def regime_tables(evaluate: Mapping[str, Any]) -> list[ResultsTable]:
    """Return one table for each protocol with free-running forecasts: a row for each regime, a column for each model.

    None where there is a single regime.

    Args:
        evaluate: metrics of the stage `evaluate`, with `regimes` and `regime_kinds`.
    """
    regimes: Mapping[str, Any] = evaluate.get("regimes", {})
    found = {protocol for by_model in regimes.values() for one in by_model.values() for protocol in one}
    running = [protocol for protocol in PROTOCOLS if protocol in found and protocol != "one_step"]
    return [_table(evaluate, protocol) for protocol in running or sorted(found)]


def _table(evaluate: Mapping[str, Any], protocol: str) -> ResultsTable:
    regimes: Mapping[str, Any] = evaluate["regimes"]
    kinds: Mapping[str, Any] = evaluate.get("regime_kinds", {})
    models = sorted(
        (name for name in next(iter(regimes.values())) if model_label(name) and name not in _LEFT_OUT), key=model_order
    )
    if "corrected" not in evaluate and "operator" in models:
        models.remove("operator")  # the assembled surrogate is nothing else
    rows = []
    for regime, by_model in regimes.items():
        about = kinds.get(regime, {})
        cells = [_cell(by_model.get(name, {}).get(protocol, {}).get("nrmse")) for name in models]
        rows.append((regime, about.get("kind", _NOTHING), str(about.get("trajectories", _NOTHING)), *cells))
    header = (f"nRMSE {protocol} by regime", "kind", "trajectories", *map(model_label, models))
    return ResultsTable(header, tuple(rows), (_meaning(kinds),))


def _meaning(kinds: Mapping[str, Any]) -> str:
    words = {
        "trained": "trained on",
        "near": "not trained on, within 10 % of one that was",
        "between": "inside the range trained on",
        "outside": "outside of it",
    }
    there = [name for name in words if any(about.get("kind") == name for about in kinds.values())]
    return "Kind of regime: " + "; ".join(f"{name}, {words[name]}" for name in there) + "." if there else ""


def _cell(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None:
        return _NOTHING
    mean, stderr = estimate.get("mean"), estimate.get("stderr")
    if mean is None:
        return "diverged"
    return f"{mean:.2e}" if stderr is None else f"{mean:.2e} ± {stderr:.1e}"
