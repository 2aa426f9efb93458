"""From a data file to a file of forecasts, and their error where the file holds the truth.

Shapes: N trajectories, T frames, K given frames, C field channels, X grid points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ups.data import units
from ups.data.fields import FieldMetadata, Trajectories
from ups.data.file_writer import Note, replacing
from ups.data.flat_layout import ATTRIBUTES, FlatWriter, Number
from ups.data.readers import Source, open_source
from ups.errors import InputError
from ups.evaluation.protocols import PROTOCOLS, Protocol, given_frames
from ups.evaluation.reductions import Estimate, estimate
from ups.evaluation.scores import FULL, score
from ups.inference.surrogate import Mode
from ups.library.emulator import Emulator

METRIC = "nrmse"
_SAME = 1e-5  # relative; spacings and time steps come from rounded coordinates


@dataclass(frozen=True)
class Request:
    """What to forecast from a file.

    Attributes:
        given: true frames K that a forecast may use; it starts from the last of them.
        steps: frames to forecast; None: as many as the file has after the given ones.
        samples: trajectories [start, stop) of the file; None as stop: to its end.
        space_stride, time_stride: every n-th point and frame of the file; None: what leads to the surrogate's grid and
            time step.
        coefficients: where the file states none, by name.
        batch_size: trajectories at once.
        mode: the step map.
        scores: whether to compare with the truth where there is one.
    """

    given: int = 1
    steps: int | None = None
    samples: tuple[int, int | None] = (0, None)
    space_stride: int | None = None
    time_stride: int | None = None
    coefficients: Mapping[str, float] | None = None
    batch_size: int = 64
    mode: Mode = "assembled"
    scores: bool = True


@dataclass(frozen=True)
class Prediction:
    """What was forecast.

    Attributes:
        path: the file written.
        trajectories, given, steps, points: its size.
        strides: of the input file, (space, time).
        coefficients: of the equation, by name, each one number or an array (N,) with one for each trajectory.
        scores: protocol -> nRMSE over the file's trajectories, as `evaluate` measures it.
        diverged: trajectories whose written forecast holds NaN or Inf.
        protocol: which of the scores is that of the written forecast; None if none is.
    """

    path: Path
    trajectories: int
    given: int
    steps: int
    points: int
    strides: tuple[int, int]
    coefficients: Mapping[str, Number]
    scores: Mapping[Protocol, Estimate]
    diverged: int
    protocol: Protocol | None

    def as_json(self) -> dict[str, Any]:
        """Return the same for programs; coefficients that differ by trajectory as lists."""
        plain = {name: np.asarray(value).tolist() for name, value in self.coefficients.items()}
        return {**asdict(self), "path": str(self.path), "strides": list(self.strides), "coefficients": plain}


def predict(emulator: Emulator, source: Path, output: Path, request: Request) -> Prediction:
    """Forecast the trajectories of a data file and write them in PDEBench's flat layout.

    The output has the forecast frames alone, their times and positions, and where they came from as attributes. It gets
    its name when it is complete. The input is read as `prepare_data` reads it, in chunks.

    Args:
        emulator: the surrogate.
        source: a file in PDEBench's flat layout.
        output: the file to write; one that is there is replaced.
        request: what to forecast.

    Raises:
        DataError: if the file cannot be read.
        InputError: if its grid, time step, coefficients or values are not what the surrogate was trained for.
    """
    if emulator.metadata.equation not in ATTRIBUTES:
        raise InputError(
            f"Forecasts are written in PDEBench's flat layout, one field on a line; '{emulator.metadata.equation}' has "
            "another. Use `ups.load(...)` and its `rollout`."
        )
    if output.exists() and output.samefile(source):
        raise InputError(f"{output} is the input: a forecast would overwrite it. Choose another name with -o.")
    if not output.absolute().parent.is_dir():
        raise InputError(f"The folder {output.absolute().parent} does not exist; make it, or choose another with -o.")
    space_stride, time_stride = _strides(emulator.metadata, source, request)
    with open_source(source, space_stride, time_stride) as file:
        coefficients = _coefficients(emulator.metadata, file, request)
        rows = _rows(file, request.samples)
        written = {name: _of(value, rows) for name, value in coefficients.items()}
        steps = _steps(file, request)
        job = _Job(emulator, file, request, coefficients, steps)
        with (
            replacing(output) as fresh,
            FlatWriter(
                fresh,
                emulator.metadata.equation,
                written,
                len(rows),
                file.grid.coordinates().numpy(),
                file.first_time + file.dt * np.arange(request.given, request.given + steps),
                _notes(job, rows, (space_stride, time_stride)),
                None if file.initial is None else file.initial[rows.start : rows.stop],
            ) as writer,
        ):
            scores, diverged = job.run(rows, writer)
    strides = (space_stride, time_stride)
    points = emulator.metadata.grid.points[0]
    own = _protocol(request.given, steps, file.num_frames) if scores else None
    return Prediction(output, len(rows), request.given, steps, points, strides, written, scores, diverged, own)


@dataclass(frozen=True)
class _Job:
    emulator: Emulator
    file: Source
    request: Request
    coefficients: Mapping[str, Number]  # arrays (N,) are of all trajectories of the input
    steps: int

    def run(self, rows: range, writer: FlatWriter) -> tuple[dict[Protocol, Estimate], int]:
        """Forecast chunk by chunk; returns the scores and the number of diverged forecasts."""
        values: dict[Protocol, list[Tensor]] = {protocol: [] for protocol in PROTOCOLS if self.request.scores}
        done = diverged = 0
        for chunk in self.file.chunks(rows.start, rows.stop):
            data = self._trajectories(chunk, rows.start + done)
            for start in range(0, len(data), self.request.batch_size):
                batch = data.select(slice(start, start + self.request.batch_size))
                frames = self._forecast(batch)
                writer.write(done + start, frames[:, :, None])
                diverged += int((~np.isfinite(frames).all(axis=(1, 2))).sum())
            for protocol, parts in values.items():
                parts.append(self._score(data, protocol))
            done += len(data)
        return {protocol: estimate(torch.cat(parts)) for protocol, parts in values.items()}, diverged

    def _trajectories(self, chunk: Any, first: int) -> Trajectories:
        meta = self.emulator.metadata
        rows = range(first, first + len(chunk))
        columns = [np.broadcast_to(_of(self.coefficients[name], rows), len(rows)) for name in meta.coefficients]
        table = torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))
        return Trajectories(torch.from_numpy(chunk), table, torch.tensor(rows), meta)

    def _forecast(self, batch: Trajectories) -> Any:
        """Return the frames after the given ones, (B, steps, X), by the library's own rollout."""
        last = batch.fields[:, self.request.given - 1].numpy()
        numbers = {
            name: value[batch.index.numpy()] if isinstance(value, np.ndarray) else value
            for name, value in self.coefficients.items()
        }
        state = self.emulator.state(last, **numbers)  # type: ignore[arg-type]
        states = self.emulator.rollout(state, self.steps, mode=self.request.mode)
        return np.stack([np.asarray(state.u)[:, 0] for state in states], axis=1)

    def _score(self, data: Trajectories, protocol: Protocol) -> Tensor:
        forecaster = self.emulator.surrogate.forecaster(self.request.mode)
        device, size = self.emulator.device, self.request.batch_size
        return score(forecaster, data, protocol, batch_size=size, device=device).horizons[METRIC][FULL]


def _strides(meta: FieldMetadata, path: Path, request: Request) -> tuple[int, int]:
    """Return the strides asked for, or those that lead from the file to the surrogate's grid and time step."""
    with open_source(path) as file:
        extent, points, dt = file.grid.extent[0], file.grid.points[0], file.dt
    if abs(extent - meta.grid.extent[0]) > _SAME * meta.grid.extent[0]:
        raise InputError(
            f"{path} has a domain of length {extent:g}, the surrogate was trained on {meta.grid.extent[0]:g}. Another "
            "length is another problem: rescale x, u and the coefficients together."
        )
    space = request.space_stride or max(1, points // meta.grid.points[0])
    if points != space * meta.grid.points[0]:
        raise InputError(
            f"{path} has {points} points, one in {space} leaves {points / space:g}; the surrogate was trained on "
            f"{meta.grid.points[0]} and its encoder takes no others. A file can be read whose points are a multiple of "
            f"{meta.grid.points[0]}."
        )
    time = request.time_stride or max(1, round(meta.dt / dt))
    if abs(time * dt - meta.dt) > _SAME * meta.dt:
        raise InputError(
            f"{path} has a frame every {dt:g}, one frame in {time} is one every {time * dt:g}; the surrogate was "
            f"trained for the time step {meta.dt:g}. A file can be read whose time step divides it."
        )
    return space, time


def _of(value: Number, rows: range) -> Number:
    """Return what a coefficient is for some trajectories of the file."""
    return value[rows.start : rows.stop] if isinstance(value, np.ndarray) else value


def _coefficients(meta: FieldMetadata, file: Source, request: Request) -> dict[str, Number]:
    if file.equation is not None and file.equation != meta.equation:
        raise InputError(
            f"{file.path} holds the equation '{file.equation}'; the surrogate was trained for '{meta.equation}'."
        )
    given = dict(request.coefficients or {})
    unknown = sorted(set(given) - set(meta.coefficients))
    if unknown:
        raise InputError(f"There is no coefficient {unknown[0]!r}; the surrogate has {list(meta.coefficients)}.")
    for name, value in file.coefficients.items():
        if name in given and not np.isclose(value, given[name], rtol=1e-6, atol=0).all():
            raise InputError(f"{file.path} was made with {name} = {shown(value)}; leave {name}={given[name]:g} out.")
    found: dict[str, Number] = {**given, **file.coefficients}
    missing = [name for name in meta.coefficients if name not in found]
    if missing:
        raise InputError(
            f"{file.path} does not say its {missing[0]}. Say it: --coefficient {missing[0]}=NUMBER (it is no property "
            "of the surrogate, and a guess would go unnoticed)."
        )
    return {name: found[name] for name in meta.coefficients}


def shown(value: Number) -> str:
    """Return a coefficient in words: its value, or how many values from where to where."""
    if not isinstance(value, np.ndarray):
        return f"{value:g}"
    values = np.unique(value)
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g} ({len(values)} values)"


def _rows(file: Source, samples: tuple[int, int | None]) -> range:
    start, stop = samples[0], file.num_samples if samples[1] is None else samples[1]
    if not 0 <= start < stop <= file.num_samples:
        raise InputError(
            f"The samples [{start}, {stop}) were asked for; {file.path} has the samples 0 to {file.num_samples - 1}."
        )
    return range(start, stop)


def _steps(file: Source, request: Request) -> int:
    frames = file.num_frames
    if not 1 <= request.given <= frames:
        raise InputError(f"given = {request.given}, but {file.path} has {frames} frames (after sub-sampling in time).")
    if request.steps is None and request.given == frames:
        raise InputError(f"All {frames} frames of {file.path} are given; say with --steps how many are to follow.")
    if request.steps is not None and request.steps < 1:
        raise InputError(f"steps = {request.steps}; at least 1 was expected.")
    return request.steps or frames - request.given


def _protocol(given: int, steps: int, frames: int) -> Protocol | None:
    """Return the free-running protocol that gives and predicts as many frames, if there is one."""
    free: tuple[Protocol, ...] = ("rollout_ic", "pdebench")
    return next((name for name in free if (given_frames(name, frames), frames - given) == (given, steps)), None)


def _notes(job: _Job, rows: range, strides: tuple[int, int]) -> dict[str, Note]:
    """Return where a forecast came from, as attributes of its file."""
    emulator, request = job.emulator, job.request
    return {
        "made_by": "ups predict",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "content": "forecast",
        "surrogate": emulator.origin,
        "surrogate_checksum": emulator.checksum,
        "mode": request.mode,
        "input": str(job.file.path),
        "input_bytes": job.file.path.stat().st_size,
        "input_space_stride": strides[0],
        "input_time_stride": strides[1],
        "first_sample": rows.start,
        "given_frames": request.given,
        units.FIELDS: list(emulator.metadata.units),
        units.LENGTH: emulator.metadata.grid.unit,
        units.TIME: emulator.metadata.time_unit,
    }
