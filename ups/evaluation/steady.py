"""Score solvers of a steady problem: from the given fields to the unknown ones, against held-out truth.

A *solver* maps (given channels (B, C_given, *space), coefficients (B, P)) to the unknown channels
(B, C_unknown, *space), in physical units; it never sees a solution. It may carry `evaluations`: how many times its
network runs per sample. Results stand under the protocol "steady", with the metrics that forecasts have, of the unknown
fields alone. Those of time, `correlation_time`, do not exist.

Shapes: B samples, C channels, *space grid points.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata, Trajectories
from ups.data.reference_frame import ReferenceFrame
from ups.data.steady import given_channels, problem_frame, unknown_channels, unknown_part
from ups.evaluation.protocols import Clock, synchronize
from ups.evaluation.scores import FULL, Scores, collected, measure
from ups.models.codec import Codec
from ups.models.fno import FourierOperator
from ups.models.steady_prior import SteadyPrior

Solver = Callable[[Tensor, Tensor], Tensor]
STEADY: Literal["steady"] = "steady"
_TIMED = ("correlation_time",)


class MeanSolution:
    """The same for every problem: the mean of the training solutions at each point. Args: `train`, the split."""

    def __init__(self, train: Trajectories) -> None:
        self.mean = unknown_part(train).fields[:, 0].double().mean(0).float()

    def __call__(self, given: Tensor, coefficients: Tensor) -> Tensor:
        return self.mean.to(given).expand(len(given), *self.mean.shape)


class PriorSolver:
    """Encode the problem, refine, decode.

    Args:
        codec, prior: trained.
        metadata: of the fields.
        iterations: refinements, those the prior was trained for or others.
    """

    def __init__(self, codec: Codec, prior: SteadyPrior, metadata: FieldMetadata, iterations: int) -> None:
        self.codec, self.prior, self.metadata, self.evaluations = codec, prior, metadata, iterations

    @torch.no_grad()
    def __call__(self, given: Tensor, coefficients: Tensor) -> Tensor:
        problem = problem_frame(given, self.metadata)
        observer = ReferenceFrame(self.codec.frame, self.metadata).observer(problem)
        z = self.codec.encode(observer.see(problem[:, None])[:, 0])
        solution = self.codec.decode(self.prior.refine(z, coefficients, self.evaluations)[:, -1])
        return observer.restore(solution[:, None], 0)[:, 0, unknown_channels(self.metadata)]


class FnoSolver:
    """One step of a `FourierOperator` from the problem to its solution."""

    evaluations = 1

    def __init__(self, model: FourierOperator, metadata: FieldMetadata) -> None:
        self.forecast, self.metadata = model.forecaster(metadata), metadata

    def __call__(self, given: Tensor, coefficients: Tensor) -> Tensor:
        problem = problem_frame(given, self.metadata)
        return self.forecast(problem[:, None], 1, coefficients)[:, 0, unknown_channels(self.metadata)]


class Reconstruction:
    """What the codec makes of the true solution: it sees it, so it is the floor of the prior and no solver."""

    def __init__(self, codec: Codec, metadata: FieldMetadata) -> None:
        self.codec, self.metadata = codec, metadata

    @torch.no_grad()
    def __call__(self, fields: Tensor) -> Tensor:
        """Return the unknown fields after encoding and decoding, (B, 1, C, *space) -> (B, 1, C_unknown, *space)."""
        observer = ReferenceFrame(self.codec.frame, self.metadata).observer(fields[:, 0])
        decoded = self.codec.decode(self.codec.encode(observer.see(fields)[:, 0]))
        return observer.restore(decoded[:, None], 0)[:, :, unknown_channels(self.metadata)]


def score_steady(
    solver: Solver,
    data: Trajectories,
    *,
    batch_size: int,
    num_examples: int = 0,
    device: torch.device | str = "cpu",
    clock: Clock = time.perf_counter,
) -> Scores:
    """Solve all samples of `data` in batches and compute every metric; see `ups.evaluation.scores.score`."""
    on_gpu = torch.device(device).type == "cuda"
    known = given_channels(data.metadata)
    first = data.select(slice(0, batch_size)).to(device)
    solver(first.fields[:, -1, known], first.coefficients)  # pays for what only the first call pays
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    seconds, batches, examples = 0.0, [], []
    for start in range(0, len(data), batch_size):
        batch = data.select(slice(start, start + batch_size)).to(device)
        truth = unknown_part(batch)
        given = batch.fields[:, -1, known]
        synchronize(given)
        started = clock()
        found = solver(given, batch.coefficients)
        synchronize(given)
        seconds += clock() - started
        if found.shape != truth.fields[:, 0].shape:
            expected = tuple(truth.fields[:, 0].shape)
            raise ValueError(f"a solver returned shape {tuple(found.shape)}; {expected} was expected")
        batches.append(measure(found[:, None], truth.fields, truth, {FULL: None}, threshold=0.5))
        if start < num_examples:
            examples.append(found[: num_examples - start, None].cpu())
    parts = collected(batches)
    parts["horizons"] = {name: values for name, values in parts["horizons"].items() if name not in _TIMED}
    return Scores(
        protocol=STEADY,
        frames_given=0,
        frames_predicted=1,
        **parts,
        seconds_per_trajectory=seconds / len(data),
        evaluations_per_trajectory=getattr(solver, "evaluations", None),
        peak_memory_bytes=torch.cuda.max_memory_allocated(device) if on_gpu else None,
        examples=torch.cat(examples) if examples else unknown_part(data.select(slice(0, 0))).fields,
    )


def reconstruction_of_solutions(
    reconstruct: Reconstruction, data: Trajectories, batch_size: int, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Return metric -> (B,) of the codec's reconstruction of the true solutions: the floor of the prior."""
    batches = []
    for start in range(0, len(data), batch_size):
        batch = data.select(slice(start, start + batch_size)).to(device)
        truth = unknown_part(batch)
        batches.append(measure(reconstruct(batch.fields[:, -1:]), truth.fields, truth, {FULL: None}, threshold=0.5))
    horizons = collected(batches)["horizons"]
    return {name: values[FULL] for name, values in horizons.items() if name not in _TIMED}
