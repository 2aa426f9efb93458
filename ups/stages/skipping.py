"""A stage that has nothing to do: it says so and still leaves the files later stages look for."""

from pathlib import Path

from ups.models.weights import read_config, save_skipped

STEADY = "the equation is steady"


def skip(stage: str, outputs: Path, reason: str) -> dict[str, str]:
    """Write the outputs of a stage that has nothing to train, say so, and return its metrics."""
    print(f"{stage}: skipped, {reason}")
    save_skipped(outputs, reason)
    return {"status": "skipped", "reason": reason}


def is_for_steady(operator: Path) -> bool:
    """Tell from the operator's folder whether its stage was skipped because there is no time to step in."""
    return read_config(operator).get("reason") == STEADY
