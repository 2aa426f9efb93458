"""What a person reads first of a run and an experiment: a description, and the errors of every test trajectory."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ups.parameters.equations import EQUATIONS

EVALUATIONS = {
    "evaluate": "",
    "evaluate_ttc": "ttc ",
}  # stages that score models -> what their models' names begin with
_FIRST_PROTOCOL, _FIRST_MODEL = "pdebench", "assembled"  # MLflow shows the first table and column of a table first
_METRIC, _HORIZON = "nrmse", "full"
_DIGITS = 6  # significant; two runs that differ less are equal to a reader


def of_experiment(params: Mapping[str, Any]) -> str:
    """Return what the runs of a task have in common, as Markdown."""
    task = params["task"]
    equation = EQUATIONS[task["equation"]]
    numbers = ", ".join(f"{name} = {value:g}" for name, value in task["coefficients"].items())
    if equation.steady:
        return (
            f"Solutions of `{equation.formula}` ({task['name']}; {numbers}) by a prior that refines latents and by "
            f"baselines; one run for each variant, seed and preset. `evaluate/steady_prior/steady/{_METRIC}` is the "
            "number to order runs by; only runs with the same `data_md5` may be compared."
        )
    return (
        f"Forecasts of `{equation.formula}` ({task['name']}; {numbers}) by latent surrogates and baselines; one run "
        f"for each variant, seed and preset. `evaluate/{_FIRST_MODEL}/{_FIRST_PROTOCOL}/{_METRIC}` is the number to "
        "order runs by; only runs with the same `data_md5` may be compared."
    )


def of_run(artifacts: Path) -> str:
    """Return the errors of all models that were measured as a Markdown table, the best first; "" if there is none.

    Below it stand which parts the assembled surrogate consists of, and why, and the alarms of all trainings.
    """
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for stage, prefix in EVALUATIONS.items():
        for model, results in _metrics(artifacts / stage / "metrics.json").items():
            for protocol, entry in results.items() if isinstance(results, dict) else ():
                estimate = entry.get(_METRIC) if isinstance(entry, dict) else None
                if isinstance(estimate, dict) and isinstance(estimate.get("mean"), int | float):
                    rows.setdefault(f"{prefix}{model}", {})[protocol] = estimate
    if not rows:
        return ""
    protocols = dict.fromkeys(protocol for entries in rows.values() for protocol in entries)
    columns = sorted(protocols, key=lambda name: name != _FIRST_PROTOCOL)

    def error(name: str) -> float:
        return float(rows[name][columns[0]]["mean"]) if columns[0] in rows[name] else math.inf

    lines = [
        "nRMSE of decoded forecasts, mean ± standard error over test trajectories",
        "",
        f"| model | {' | '.join(columns)} |",
        f"|---|{'---:|' * len(columns)}",
    ]
    for name in sorted(rows, key=error):
        lines.append(f"| {name} | {' | '.join(_shown(rows[name].get(column)) for column in columns)} |")
    reason = assembly(artifacts).get("reason")
    below = [*([reason] if reason else []), *alarms(artifacts)]
    return "\n".join([*lines, *(line for said in below for line in ("", said))])


def alarms(artifacts: Path) -> list[str]:
    """Return the alarms of all trainings, each with its stage in front."""
    found = []
    for path in sorted(artifacts.glob("*/metrics.json")):
        rung = _metrics(path).get("alarms", [])
        found += [f"{path.parent.name}: {alarm}" for alarm in rung] if isinstance(rung, list) else []
    return found


def assembly(artifacts: Path) -> dict[str, Any]:
    """Return what `evaluate` decided on the parts of the assembled surrogate; {} where it did not."""
    found = _metrics(artifacts / "evaluate" / "metrics.json").get("assembly", {})
    return found if isinstance(found, dict) else {}


def tables(artifacts: Path) -> dict[str, dict[str, list[Any]]]:
    """Return the errors of every test trajectory: file name -> column -> values, one table for each protocol.

    Columns: the trajectory's number in the data file, then the models, the assembled surrogate first. None where a
    forecast diverged.
    """
    found: dict[str, dict[str, dict[int, float | None]]] = {}
    for stage, prefix in EVALUATIONS.items():
        path = artifacts / stage / "per_trajectory.parquet"
        for model, protocol, trajectory, value in _values(path) if path.is_file() else ():
            models = found.setdefault(protocol, {})
            models.setdefault(f"{prefix}{model}", {})[trajectory] = _rounded(value)
    return {
        f"evaluation/{_METRIC}_{protocol}.json": _table(found[protocol])
        for protocol in sorted(found, key=lambda name: name != _FIRST_PROTOCOL)
    }


def _table(models: Mapping[str, Mapping[int, float | None]]) -> dict[str, list[Any]]:
    rows = sorted({trajectory for values in models.values() for trajectory in values})
    names = sorted(models, key=lambda name: name != _FIRST_MODEL)
    return {"trajectory": rows, **{name: [models[name].get(row) for row in rows] for name in names}}


def _values(path: Path) -> list[tuple[str, str, int, float | None]]:
    from pyarrow import parquet

    columns = ["model", "protocol", "trajectory", "value"]
    wanted = [("metric", "=", _METRIC), ("horizon", "=", _HORIZON)]
    table = parquet.read_table(path, columns=columns, filters=wanted).to_pydict()
    return list(zip(*(table[name] for name in columns), strict=True))


def _metrics(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _shown(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None:
        return "–"
    mean, error = estimate["mean"], estimate.get("stderr")
    return f"{mean:.3e}" + (f" ± {error:.1e}" if isinstance(error, int | float) else "")


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.{_DIGITS}g}")
