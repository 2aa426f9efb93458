"""What a forecast and a training update cost, against what the machine can do, an FNO of equal size, and a solver.

    python benchmarks/model/throughput.py                    # the flagship, one thread; prints
    python benchmarks/model/throughput.py --write            # and puts the tables into docs/benchmarks.md
    python benchmarks/model/throughput.py --variant golden --threads 2

All in one process and one run, interleaved, so that ratios hold even where absolute times depend on the machine's mood.
Times are medians; weights are random, which changes no time. "Of ceiling" is the rate of floating-point operations
(counted by torch) as a share of what a matrix product of 1024 x 1024 reaches here in the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.document import table, write
from ups.data.fields import FieldMetadata, Grid, Normalization
from ups.evaluation import finite_volume
from ups.inference.surrogate import Surrogate
from ups.models.codec import Codec
from ups.models.fno import fno_of_size
from ups.models.operator import LatentOperator
from ups.parameters.files import BASE, read_yaml
from ups.parameters.overlay import resolve
from ups.training.memory import keep_freed_memory
from ups.training.muon import Muon

DOCUMENT = Path("docs/benchmarks.md")
FRAMES, POINTS, VISCOSITY = 40, 256, 0.01
METADATA = FieldMetadata(
    equation="burgers",
    channels=("u",),
    units=("1",),
    coefficients=("viscosity",),
    grid=Grid(extent=(1.0,), points=(POINTS,), origin=(0.0,), periodic=(True,)),
    dt=0.05,
    normalization=Normalization(mean=(0.0,), std=(0.6,)),
)


@dataclass(frozen=True)
class Measured:
    """Median seconds of a call, and its floating-point operations where they can be counted."""

    seconds: float
    operations: float | None
    first: float = 0.0


def median(call: Callable[[], Any], budget: float = 2.0) -> Measured:
    """Time a call repeatedly for about `budget` seconds, at least five times, after one that is timed apart."""
    started = time.perf_counter()
    call()
    first = time.perf_counter() - started
    seconds: list[float] = []
    end = time.perf_counter() + budget
    while len(seconds) < 5 or (time.perf_counter() < end and len(seconds) < 1000):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    with FlopCounterMode(display=False) as counter:  # last: a compiled function falls out of its cache in this mode
        call()
    return Measured(statistics.median(seconds), counter.get_total_flops() or None, first)


def ceilings() -> tuple[float, float]:
    """Return the operations per second of a matrix product and the bytes per second of a copy, here and now."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    product = median(lambda: a @ b)
    source, target = torch.empty(2**25), torch.empty(2**25)
    copied = median(lambda: target.copy_(source))
    return 2 * 1024**3 / product.seconds, 2 * source.numel() * 4 / copied.seconds


def models(variant: str) -> tuple[Surrogate, Any, dict[str, Any]]:
    """Return the variant's surrogate with random weights, an FNO of as many parameters, and the parameters."""
    raw = resolve(read_yaml(BASE), variant=variant)
    settings, latent = raw["train_operator"], raw["latent"]
    size = {"tokens": latent["tokens"], "dim": latent["dim"]}
    torch.manual_seed(0)
    parts = {part: raw["train_codec"][part] for part in ("encoder", "decoder")}
    codec = Codec(channels=1, points=POINTS, **size, **parts, frame=latent["frame"])
    backbone, frames = dict(settings["model"]), settings["frames_per_call"]
    operator = LatentOperator(
        **size,
        num_coefficients=1,
        dt=0.05,
        backbone=backbone,
        reencode=settings["reencode"],
        frames_per_call=frames,
    )
    for parameter in operator.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    parameters = sum(p.numel() for model in (codec, operator) for p in model.parameters())
    fno = fno_of_size(parameters, modes=32, layers=4, metadata=METADATA, frame=latent["frame"])
    return Surrogate(METADATA, codec.eval().keep_grid(), operator.eval()), fno.eval(), raw


def fields(batch: int) -> Tensor:
    """Return smooth fields, (batch, 1, 1, X)."""
    x = (torch.arange(POINTS) + 0.5) / POINTS * 2 * torch.pi
    phase = torch.rand(batch, 1, generator=torch.Generator().manual_seed(0)) * 6
    return (torch.sin(x + phase) + 0.3 * torch.cos(3 * x - phase))[:, None, None]


def rollouts(surrogate: Surrogate, fno: Any, batch: int, compile_step: bool) -> dict[str, Measured]:
    """Measure forecasts of `FRAMES` frames."""
    u, c = fields(batch), torch.full((batch, 1), VISCOSITY)
    forecasters: dict[str, Any] = {
        "surrogate": surrogate.forecaster("operator"),
        "FNO of equal size": fno.forecaster(METADATA),
    }
    for cells in (128, 256):
        forecasters[f"finite volumes, {cells} cells, compiled"] = finite_volume.forecaster(cells, METADATA, True)
    if compile_step:
        forecasters = {"surrogate, compiled": surrogate.forecaster("operator").compiled(), **forecasters}
    with torch.no_grad():
        return {name: median(lambda f=f: f(u, FRAMES, c)) for name, f in forecasters.items()}


def updates(surrogate: Surrogate, fno: Any, samples: int) -> dict[str, Measured]:
    """Measure forward and backward pass of one step on `samples` pairs, decoded loss, without the optimiser."""
    u, c = fields(samples)[:, 0], torch.full((samples, 1), VISCOSITY)
    codec, operator = surrogate.codec, surrogate.operator.train()
    z = codec.encode(u).detach()

    def latent() -> None:
        loss = (codec.decode(operator.advance(z, c).flatten(0, 1)) - 1.0).square().mean()
        operator.zero_grad()
        loss.backward()

    def spectral() -> None:
        loss = (fno(u, c) - u).square().mean()
        fno.zero_grad()
        loss.backward()

    found = {"surrogate's operator": median(latent), "FNO of equal size": median(spectral)}
    operator.eval()
    return found


def steps(operator: LatentOperator) -> dict[str, Measured]:
    """Measure one step of each optimiser on the operator's matrices."""
    matrices = [p for p in operator.parameters() if p.ndim == 2]
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    optimizers = {
        "Muon": Muon(matrices, lr=0.0),
        "Muon of torch": torch.optim.Muon(matrices, lr=0.0),
        "AdamW of torch": torch.optim.AdamW(matrices, lr=0.0),
    }
    return {name: median(optimizer.step) for name, optimizer in optimizers.items()}


def rows(found: dict[str, Measured], per: int, product: float, reference: str) -> list[list[str]]:
    """Return table rows: time per item, ratio to a reference, share of the ceiling, first call."""
    base = found[reference].seconds
    lines = []
    for name, each in found.items():
        share = "–" if each.operations is None else f"{each.operations / each.seconds / product:.0%}"
        ratio = f"{each.seconds / base:.2f}"
        lines.append([name, f"{1e3 * each.seconds / per:.3g}", ratio, share, f"{each.first:.1f}"])
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="flagship")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 128])
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled surrogate out")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT}")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()
    surrogate, fno, raw = models(chosen.variant)
    product, copy_rate = ceilings()
    text = [
        f"`python benchmarks/model/throughput.py --variant {chosen.variant} --threads {chosen.threads}`, "
        f"{time.strftime('%Y-%m-%d')}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. Ceilings in this run: "
        f"matrix product {product / 1e9:.0f} GFLOP/s, copy {copy_rate / 1e9:.1f} GB/s."
    ]
    header = ["", "ms / trajectory", "of the surrogate's time", "of ceiling", "first call s"]
    for batch in chosen.batches:
        found = rollouts(surrogate, fno, batch, not chosen.no_compile)
        text += [f"Forecast of {FRAMES} frames, {POINTS} points, batch {batch}:", ""]
        text += [table([header, *rows(found, batch, product, "surrogate")]), ""]
    samples = raw["train_operator"]["optimization"]["pairs_per_update"]
    found = updates(surrogate, fno, samples)
    header = ["", "ms / update", "of the operator's time", "of ceiling", "first call s"]
    text += [f"Gradient of one training update, {samples} pairs:", ""]
    text += [table([header, *rows(found, 1, product, "surrogate's operator")]), ""]
    header = ["", "ms / step", "of Muon's time", "of ceiling", "first call s"]
    text += ["Step of the optimiser on the operator's matrices:", ""]
    text += [table([header, *rows(steps(surrogate.operator), 1, product, "Muon")])]
    said = "\n".join(text)
    print(said)
    if chosen.write:
        write(DOCUMENT, "model-throughput", said)


if __name__ == "__main__":
    main()
