"""The finite-volume competition: measure candidates on validation against the surrogate, and choose."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import torch

from ups.data.fields import Trajectories
from ups.evaluation import finite_volume
from ups.evaluation.finite_volume import Candidate
from ups.evaluation.protocols import Forecaster, Protocol
from ups.evaluation.reductions import estimate
from ups.evaluation.scores import FULL, score
from ups.parameters.evaluate import Evaluate


def compete(
    surrogate: Forecaster,
    against: str,
    validation: Trajectories,
    protocol: Protocol,
    params: Evaluate,
    device: torch.device | str,
) -> dict[str, Any]:
    """Return the choice and everything it was made from, ready for `metrics.json`.

    Args:
        surrogate: the forecaster to compete with.
        against: its name, for the record.
        validation: the split the choice is made on; the test split plays no part in it.
        protocol: the protocol errors and costs are taken from.
        params: candidates, batch size.
        device: where both run.

    Returns:
        `equal_cost`, `equal_error`, `shown` (see `finite_volume.choose`), `against`, `protocol`, the surrogate's own
        numbers, `candidates` as far as they were tried, `not_applicable` cells (they do not fit the grid's points), and
        whether the solver was compiled.
    """
    metadata = validation.metadata
    compiled = params.finite_volume.compile and finite_volume.compiler_available()

    def measured(forecaster: Forecaster) -> tuple[float, float | None]:
        result = score(forecaster, validation, protocol, batch_size=params.batch_size, device=device)
        return result.seconds_per_trajectory, estimate(result.horizons["nrmse"][FULL])["mean"]

    def measure(cells: int) -> Candidate:
        candidate = Candidate(cells, *measured(finite_volume.forecaster(cells, metadata, compiled)))
        error = "diverged" if candidate.nrmse is None else f"{candidate.nrmse:.2e}"
        print(
            f"evaluate: finite volumes, {cells} cells: nRMSE {error}, "
            f"{1e3 * candidate.seconds_per_trajectory:.2f} ms per trajectory (validation)",
            file=sys.stderr,
        )
        return candidate

    seconds, nrmse = measured(surrogate)
    suitable = [cells for cells in params.finite_volume.cells if finite_volume.fits(cells, metadata)]
    candidates = finite_volume.try_candidates(suitable, measure, seconds, nrmse, params.finite_volume.max_seconds)
    return {
        **finite_volume.choose(candidates, seconds, nrmse),
        "against": against,
        "protocol": protocol,
        "surrogate": {"seconds_per_trajectory": seconds, "nrmse": nrmse},
        "candidates": [asdict(candidate) for candidate in candidates],
        "not_applicable": [cells for cells in params.finite_volume.cells if cells not in suitable],
        "compiled": compiled,
    }
