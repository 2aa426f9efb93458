"""Close the MLflow runs that a killed driver left RUNNING.

    python -m ups.pipeline.repair

The guard of a stage that had to stop starts it. The next sweep does the same, if even that was not possible.
"""

from __future__ import annotations

import sys
import time

from ups import tracking

_WAIT_S, _POLL_S = 60.0, 0.2  # a driver that was asked to stop closes its runs itself, within this time


def repair() -> int:
    """Close what a dead writer left; returns how many runs. Quick, and without mlflow, where there is nothing to do.

    Raises:
        TrackingError: if the store cannot be reached; the next sweep tries again.
    """
    return tracking.close_abandoned() if tracking.left_behind() else 0


def main() -> None:
    """Wait until the writers of all live runs have closed them or died; then close what is left."""
    deadline = time.monotonic() + _WAIT_S
    while tracking.live_runs() and time.monotonic() < deadline:
        if tracking.left_behind():
            break
        time.sleep(_POLL_S)
    repair()


if __name__ == "__main__":
    try:
        main()
    except tracking.TrackingError as error:
        print(f"repair: {error}", file=sys.stderr)
        sys.exit(1)
