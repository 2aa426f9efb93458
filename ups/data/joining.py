"""Several files of one equation, each at coefficients of its own, as one file of several regimes.

PDEBench has a file for each viscosity, all with the same initial conditions in the same order.

Shapes: R files, N trajectories of each, T frames, X points.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ups.data.file_writer import Note, replacing
from ups.data.flat_layout import ATTRIBUTES, FlatWriter, Number
from ups.data.progress import Progress
from ups.data.readers import Source, open_source
from ups.errors import DataError
from ups.parameters.shared import SAME

_BLOCK = 64  # initial conditions copied at a time


@dataclass(frozen=True)
class Joined:
    """What was written.

    Attributes:
        path: the file.
        regimes: coefficients of each, by name.
        initial_conditions: number N.
        points, frames: of each trajectory.
        largest_difference: of first frames that bear one number, relative L2; 0 where all files begin alike.
    """

    path: Path
    regimes: tuple[dict[str, float], ...]
    initial_conditions: int
    points: int
    frames: int
    largest_difference: float


def join(paths: Sequence[Path], output: Path, space_stride: int = 1, time_stride: int = 1) -> Joined:
    """Write the trajectories of several flat files into one, trajectory i R + r being sample i of file r.

    Sub-sampled on the way, because PDEBench's own grids take gigabytes. The output gets its name when it is complete.

    Args:
        paths: the files, in any order; regimes rise in the output.
        output: the new file; one that is there is replaced.
        space_stride, time_stride: use every n-th point and frame.

    Raises:
        DataError: if the files do not fit each other, or do not say their coefficients.
    """
    with ExitStack() as stack:
        sources = [stack.enter_context(open_source(path, space_stride, time_stride)) for path in paths]
        regimes = _regimes(sources)
        order = sorted(range(len(sources)), key=lambda at: tuple(regimes[at].values()))
        sources, regimes = [sources[at] for at in order], [regimes[at] for at in order]
        first, count = sources[0], len(sources)
        samples = first.num_samples
        table: dict[str, Number] = {name: np.tile([regime[name] for regime in regimes], samples) for name in regimes[0]}
        notes: dict[str, Note] = {
            "equation": str(first.equation),
            "made_by": "ups data join",
            "joined": ", ".join(str(source.path) for source in sources),
            "space_stride": space_stride,
            "time_stride": time_stride,
        }
        difference = 0.0
        with (
            replacing(output) as fresh,
            FlatWriter(
                fresh,
                str(first.equation),
                table,
                samples * count,
                first.grid.coordinates().numpy(),
                first.first_time + first.dt * np.arange(first.num_frames),
                notes,
                np.repeat(np.arange(samples), count),
            ) as writer,
            Progress("join", samples * count, "trajectories") as progress,
        ):
            for begin in range(0, samples, _BLOCK):
                end = min(begin + _BLOCK, samples)
                parts = [np.concatenate(list(source.chunks(begin, end))) for source in sources]
                block = np.stack(parts, axis=1)  # (B, R, T, 1, X)
                difference = max(difference, _difference(block[:, :, 0]))
                writer.write(begin * count, block.reshape(-1, *block.shape[2:]))
                progress.update((end - begin) * count)
    return Joined(output, tuple(regimes), samples, first.grid.points[0], first.num_frames, difference)


def _regimes(sources: Sequence[Source]) -> list[dict[str, float]]:
    """Return the coefficients of each file, after checking that the files are of one kind."""
    first = sources[0]
    if first.equation not in ATTRIBUTES:
        raise DataError(
            f"{first.path} holds {first.equation or 'an equation that it does not name'}; joined are flat files that "
            f"say which of {', '.join(ATTRIBUTES)} they hold."
        )
    names = tuple(ATTRIBUTES[first.equation].values())
    found: list[dict[str, float]] = []
    for source in sources:
        if source.equation != first.equation:
            raise DataError(f"{source.path} holds '{source.equation}', {first.path} '{first.equation}'.")
        for what, own, others in (
            ("trajectories", source.num_samples, first.num_samples),
            ("frames", source.num_frames, first.num_frames),
            ("points", source.grid.points, first.grid.points),
            ("domain length", source.grid.extent[0], first.grid.extent[0]),
            ("time step", source.dt, first.dt),
        ):
            if not np.allclose(own, others, rtol=SAME, atol=0):
                raise DataError(
                    f"{source.path} has {what} {own}, {first.path} has {others}: they do not fit each other."
                )
        several = [name for name in names if isinstance(source.coefficients[name], np.ndarray)]
        if several:
            raise DataError(f"{source.path} has a {several[0]} for each trajectory already; join files of one each.")
        regime = {name: float(source.coefficients[name]) for name in names}
        if regime in found:
            raise DataError(
                f"{source.path} and {sources[found.index(regime)].path} have the same coefficients {regime}."
            )
        found.append(regime)
    return found


def _difference(initial: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    """Return the largest relative L2 distance of first frames (B, R, 1, X) from those of the first file."""
    fields = initial.astype(np.float64)
    apart = np.linalg.norm((fields - fields[:, :1]).reshape(*fields.shape[:2], -1), axis=2)
    size = np.linalg.norm(fields[:, :1].reshape(len(fields), 1, -1), axis=2)
    return float((apart / np.maximum(size, np.finfo(np.float64).tiny)).max())
