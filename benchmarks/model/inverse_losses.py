"""What sampling query points and bf16 save in the inverse encoding loss: peak memory and time.

    python benchmarks/model/inverse_losses.py                  # on the GPU if there is one, else on the CPU; prints
    python benchmarks/model/inverse_losses.py --write          # and puts the tables into docs/benchmarks.md

The loss is MSE(decode(encode(u), x_q), u(x_q)) with its gradient, on a grid of 64 x 64, batch 10, hidden width 256,
with all 4096 points as queries and with 2048 of them drawn as in training. Every configuration runs in a process of its
own, all of them once before any is repeated. Memory: on the CPU the growth of the largest resident set during the first
full loss, on a GPU what the allocator held at most beyond the weights. Time: the median of the losses after it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.document import answer, table, verdict, write

DOCUMENT = Path("docs/benchmarks.md")
POINTS, BATCH, HIDDEN, TOKENS, DIM = (64, 64), 10, 256, 64, 16
DECODERS = {
    "local": {"name": "local", "hidden": HIDDEN, "depth": 2, "neighbours": 3, "frequencies": 4},
    "global": {"name": "global", "hidden": HIDDEN, "depth": 2, "heads": 4, "frequencies": 8},
}
ENCODER = {"name": "grid", "hidden": HIDDEN, "depth": 1, "kernel": 3}
ALL, SOME = 4096, 2048
# What was claimed, as ranges of the change against all queries in fp32.
CLAIMS = (
    ("memory", SOME, "fp32", (-0.55, -0.45), "sampling saves half of the memory"),
    ("seconds", SOME, "fp32", (-0.30, -0.20), "sampling saves 20 to 30 % of the time"),
    ("memory", SOME, "bf16", (-0.80, -0.70), "sampling and bf16 save three quarters of the memory"),
)


@dataclass(frozen=True)
class Configuration:
    """One way to compute the loss; `queries` 0 means all points by the decoder's path for the grid."""

    decoder: str
    queries: int
    precision: str

    @property
    def label(self) -> str:
        how = "whole grid at once" if self.queries == 0 else f"{self.queries} of {ALL} queries"
        return f"{self.decoder} decoder, {how}, {self.precision}"


def configurations() -> list[Configuration]:
    """Return all that are measured, those of one decoder side by side."""
    return [
        Configuration(decoder, queries, precision)
        for decoder in DECODERS
        for precision in ("fp32", "bf16")
        for queries in (ALL, SOME, 0)
        if decoder == "local" or queries
    ]


def measure(configuration: Configuration, device: str, losses: int) -> dict[str, float]:
    """Measure one configuration in this process: peak bytes of a loss and median seconds."""
    import torch

    from ups.models.codec import Codec
    from ups.parameters.train_codec import InverseLosses
    from ups.training.codec import query_points
    from ups.training.losses import mse

    torch.set_num_threads(1)
    torch.manual_seed(0)
    codec = Codec(1, POINTS, TOKENS, DIM, ENCODER, DECODERS[configuration.decoder]).to(device)
    u = torch.randn(BATCH, 1, *POINTS, device=device)
    lines = [(torch.arange(count, device=device) + 0.5) / count for count in POINTS]
    places = torch.cartesian_prod(*lines)
    settings = InverseLosses(
        weight=0.01,
        max_weight=0.05,
        warmup_epochs=0,
        ramp="linear",
        num_queries=max(1, configuration.queries),
        query_sampling="uniform",
        frequency=1,
    )
    generator = torch.Generator(device).manual_seed(0)

    def loss(u: torch.Tensor, count: int) -> None:
        codec.zero_grad(set_to_none=True)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=configuration.precision == "bf16"):
            z = codec.encode(u)
            if count == 0:
                value = mse(codec.decode(z), u)
            else:
                everywhere = torch.arange(ALL, device=device)
                chosen = everywhere if count == ALL else query_points(POINTS, settings, generator)[:count]
                value = mse(codec.decode_at(z, places[chosen]), u.flatten(2)[..., chosen])
        value.backward()
        if device != "cpu":
            torch.cuda.synchronize()

    loss(u[:1], 16)  # loads what the first call loads
    before = _memory(device, reset=True)
    loss(u, configuration.queries)
    memory = _memory(device) - before
    seconds = []
    for _ in range(losses):
        started = time.perf_counter()
        loss(u, configuration.queries)
        seconds.append(time.perf_counter() - started)
    return {"memory": memory, "seconds": statistics.median(seconds)}


def _memory(device: str, reset: bool = False) -> float:
    """Return the largest number of bytes held since the last reset; with `reset`, forget it and return the present."""
    if device != "cpu":
        import torch

        if reset:
            torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.max_memory_allocated())
    if reset:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak of the resident set
    kept = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024.0 * int(kept["VmHWM"].split()[0])


def in_a_process(configuration: Configuration, device: str, losses: int) -> dict[str, float]:
    """Measure one configuration in a process of its own."""
    asked = json.dumps([configuration.decoder, configuration.queries, configuration.precision, device, losses])
    command = [sys.executable, __file__, "--measure", asked]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{configuration.label}: {result.stderr}")
    found: dict[str, float] = json.loads(result.stdout)
    return found


def spread(values: Sequence[float], form: str) -> str:
    """Return the median with the range over the repetitions."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def report(found: dict[Configuration, list[dict[str, float]]]) -> list[str]:
    """Return the table of measurements and the table of verdicts."""
    rows = [["", "peak memory MB", "of all queries, fp32", "ms", "of all queries, fp32"]]
    for configuration, measured in found.items():
        base = found[Configuration(configuration.decoder, ALL, "fp32")]
        cells = [configuration.label]
        for key, unit, form in (("memory", 1e-6, ".0f"), ("seconds", 1e3, ".0f")):
            cells.append(spread([unit * each[key] for each in measured], form))
            ratios = [each[key] / other[key] for each, other in zip(measured, base, strict=True)]
            cells.append(f"{statistics.median(ratios):.2f}")
        rows.append(cells)
    return [table(rows), "", table([["claim", "decoder", "change", "verdict"], *judged(found)])]


def judged(found: dict[Configuration, list[dict[str, float]]], only: str | None = None) -> list[list[str]]:
    """Return claim, decoder, change and verdict of each claim, or of those on `only` memory or seconds."""
    rows = []
    for key, queries, precision, claimed, said in CLAIMS:
        for decoder in DECODERS if only in (None, key) else ():
            pairs = zip(
                found[Configuration(decoder, queries, precision)],
                found[Configuration(decoder, ALL, "fp32")],
                strict=True,
            )
            changes = [each[key] / other[key] - 1 for each, other in pairs]
            rows.append([said, decoder, spread(changes, "+.0%"), verdict(changes, claimed)])
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], help="the GPU if there is one")
    parser.add_argument("--repetitions", type=int, default=3, help="processes per configuration")
    parser.add_argument("--losses", type=int, default=5, help="timed losses in each")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT}")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.measure:
        decoder, queries, precision, device, losses = json.loads(chosen.measure)
        print(json.dumps(measure(Configuration(decoder, queries, precision), device, losses)))
        return
    import torch

    device = chosen.device or ("cuda" if torch.cuda.is_available() else "cpu")
    found: dict[Configuration, list[dict[str, float]]] = {each: [] for each in configurations()}
    for _ in range(chosen.repetitions):
        for configuration, measured in found.items():
            measured.append(in_a_process(configuration, device, chosen.losses))
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, one thread of {os.cpu_count()} cores"
    command = f"python benchmarks/model/inverse_losses.py --repetitions {chosen.repetitions} --losses {chosen.losses}"
    load = f"load {os.getloadavg()[0]:.1f}, nice {os.nice(0)}"
    heading = f"`{command}`, {time.strftime('%Y-%m-%d')}, {name}, {load}, torch {torch.__version__}."
    text = "\n".join([heading, "Median (smallest to largest) over processes:", "", *report(found)])
    print(text)
    if chosen.write:
        write(DOCUMENT, f"inverse-losses-{device}", text)
        memory = judged(found, "memory")
        measured = "; ".join(f"{said}, {decoder} decoder: {change}" for said, decoder, change, _ in memory)
        answer("query-sampling-memory", [row[-1] for row in memory], measured, command, name)


if __name__ == "__main__":
    main()
