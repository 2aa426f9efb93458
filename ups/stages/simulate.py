"""Stage `simulate`: make the data of a task, so that nothing has to be downloaded.

    python -m ups.stages.simulate        (or: dvc repro simulate)

Reads parameters only. Writes `artifacts/simulate/data.h5` in the layout of PDEBench that suits the equation, and
measures its error against the exact solution or, where there is none, against a finer solution. When `data.path` names
another file it simulates nothing and says so.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ups.data.simulated_file import simulate_file
from ups.parameters.section import Section
from ups.parameters.shared import DataLocation, Task
from ups.parameters.simulate import Simulate
from ups.stages.runner import ARTIFACTS, Inputs, main

NAME = "simulate"
INPUTS: dict[str, str] = {}
DATA = "data.h5"


class Params(Section):
    task: Task
    data: DataLocation
    simulate: Simulate


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    own = ARTIFACTS / NAME / DATA
    if Path(params.data.path).resolve() != own.resolve():
        reason = f"data.path is {params.data.path}, not {own}: that file is used as it is and nothing is simulated"
        print(f"{NAME}: skipped, {reason}.", file=sys.stderr)
        return {"status": "skipped", "reason": reason}
    made = simulate_file(params.task, params.simulate, outputs / DATA, "ups.stages.simulate")
    print(f"{NAME}: {made.text()}", file=sys.stderr)
    made.check()
    return {"status": "done", **made.metrics()}


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
