"""What `torch.compile` costs a training of the operator, and what it saves.

    python benchmarks/model/compiling.py                 # the recipe's operator and the flagship's, one thread; prints
    python benchmarks/model/compiling.py --threads 2
    python benchmarks/model/compiling.py --write         # and puts the table into docs/benchmarks.md

One update is forward and backward pass of a step on the default batch, without the optimiser, which is not compiled.
Eager and compiled updates take turns in one process. Repetitions are processes, because compiling is done once in each;
their caches of compiled code are empty, as on a new machine. The first compiled update pays for compiling, and the last
column says after how many updates that is earned.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.document import answer, table, verdict, write

DOCUMENT = Path("docs/benchmarks.md")
VARIANTS = ("golden", "flagship")
RECIPE = "golden"
CLAIMED = (1.3, 1.5)  # times faster


def measure(variant: str, threads: int, updates: int) -> dict[str, float]:
    """Measure one variant's operator in this process: median seconds of an update, and of the first compiled one."""
    import torch

    from ups.models.operator import LatentOperator
    from ups.parameters.files import BASE, read_yaml
    from ups.parameters.overlay import resolve

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    raw = resolve(read_yaml(BASE), variant=variant)
    latent, settings = raw["latent"], raw["train_operator"]
    operator = LatentOperator(
        tokens=latent["tokens"], dim=latent["dim"], num_coefficients=1, dt=0.05, backbone=dict(settings["model"])
    )
    samples = settings["optimization"]["pairs_per_update"] // settings["optimization"]["micro_batches"]
    z, c = torch.randn(samples, latent["tokens"], latent["dim"]), torch.full((samples, 1), 0.01)
    compiled = torch.compile(operator.advance)

    def seconds(advance: Any) -> float:
        started = time.perf_counter()
        operator.zero_grad(set_to_none=True)
        (advance(z, c) - 1.0).square().mean().backward()
        return time.perf_counter() - started

    seconds(operator.advance)
    first = seconds(compiled)
    for each in (operator.advance, compiled):
        seconds(each)
    times = [(seconds(operator.advance), seconds(compiled)) for _ in range(updates)]
    eager, fast = (statistics.median(column) for column in zip(*times, strict=True))
    return {"eager": eager, "compiled": fast, "first": first}


def in_a_process(variant: str, threads: int, updates: int) -> dict[str, float]:
    """Measure one variant in a process of its own, whose cache of compiled code is empty."""
    command = [sys.executable, __file__, "--measure", json.dumps([variant, threads, updates])]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode:
        raise SystemExit(f"{variant}: {result.stderr}")
    found: dict[str, float] = json.loads(result.stdout)
    return found


def speedups(measured: Sequence[dict[str, float]]) -> list[float]:
    """Return how many times faster a compiled update is, by repetition."""
    return [each["eager"] / each["compiled"] for each in measured]


def row(variant: str, measured: Sequence[dict[str, float]]) -> list[str]:
    """Return the line of a variant: medians over the repetitions."""
    eager, compiled, first = (
        statistics.median(each[key] for each in measured) for key in ("eager", "compiled", "first")
    )
    earned = math.ceil(first / (eager - compiled)) if eager > compiled else None
    ratios = speedups(measured)
    return [
        f"{variant}'s operator",
        f"{1e3 * eager:.3g}",
        f"{1e3 * compiled:.3g}",
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        f"{first:.1f}",
        "never" if earned is None else f"{earned:,}",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3, help="processes per variant")
    parser.add_argument("--updates", type=int, default=40, help="timed updates of each kind in each")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT}, and answer the claim")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.measure:
        print(json.dumps(measure(*json.loads(chosen.measure))))
        return
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for _ in range(chosen.repetitions):
        for variant, measured in found.items():
            measured.append(in_a_process(variant, chosen.threads, chosen.updates))
    command = f"python benchmarks/model/compiling.py --threads {chosen.threads} --repetitions {chosen.repetitions}"
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    header = ["", "eager ms", "compiled ms", "times faster", "first update s", "updates until it is earned"]
    text = f"`{command}`, {time.strftime('%Y-%m-%d')}, {load}.\n\n"
    text += table([header, *(row(variant, measured) for variant, measured in found.items())])
    print(text)
    if chosen.write:
        write(DOCUMENT, "model-compiling", text)
        ratios = speedups(found[RECIPE])
        faster = f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"
        machine = f"CPU, {chosen.threads} of {os.cpu_count()} cores"
        answer("compile-speeds-up", [verdict(ratios, CLAIMED)], f"{faster}, {RECIPE}'s operator", command, machine)


if __name__ == "__main__":
    main()
