"""One test trajectory as an animation: truth and prediction frame by frame, drawn by the page itself.

The forecast is made again with the surrogate that the run wrote, and its error is held against the recorded one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ups.data.dataset import read_split
from ups.errors import ArtifactError
from ups.evaluation.comparison import Question, read_values
from ups.evaluation.metrics import nrmse
from ups.evaluation.protocols import Protocol, forecast, given_frames
from ups.inference.surrogate import load_bundle
from ups.report.elements import Html, tag
from ups.report.runs import Run

SECONDS_PER_FRAME = 0.2
_WIDTH, _HEIGHT = 1000, 480  # of the drawing, in its own units; numbers in it are whole
_LEFT, _RIGHT, _TOP, _BOTTOM = 110, 20, 70, 90
_MOST_POINTS = 400


@dataclass(frozen=True)
class Film:
    """One trajectory.

    Attributes:
        trajectory: its number in the source file.
        truth, prediction: (T, X), the predicted frames in physical units, first channel.
        position: (X,), in `length_unit`.
        time: (T,), in `time_unit`.
        channel, unit, length_unit, time_unit: names for the axes.
        error: nRMSE of the forecast that is shown.
        recorded: the same as the evaluation recorded it.
    """

    trajectory: int
    truth: np.ndarray
    prediction: np.ndarray
    position: np.ndarray
    time: np.ndarray
    channel: str
    unit: str
    length_unit: str
    time_unit: str
    error: float
    recorded: float

    @property
    def agrees(self) -> bool:
        """Whether the forecast is the recorded one, up to what another machine's arithmetic may change."""
        return math.isclose(self.error, self.recorded, rel_tol=1e-2)


def film(run: Run, protocol: Protocol) -> Film:
    """Forecast the test trajectory of median error again.

    Raises:
        ArtifactError: if the run lacks its surrogate, its data or its evaluation, or its fields are not 1-D.
    """
    values = read_values(run.artifacts, Question(protocol=protocol))
    chosen = int(values.sort_values(kind="stable").index[(len(values) - 1) // 2])
    surrogate = load_bundle(run.artifacts / "evaluate" / "surrogate")
    data = read_split(run.artifacts / "prepare_data" / "dataset.h5", "test")
    metadata = data.metadata
    if metadata.grid.rank != 1:
        raise ArtifactError(f"fields of rank {metadata.grid.rank} are not animated; the panels above show them")
    rows = [at for at, number in enumerate(data.index.tolist()) if number == chosen]
    if not rows:
        raise ArtifactError(f"the test split of {run.folder} lacks the trajectory {chosen} that was evaluated")
    one = data.select(rows)
    forecaster = surrogate.forecaster("assembled")
    result = forecast(forecaster, protocol, one.fields, one.coefficients)
    given = given_frames(protocol, data.num_frames)
    return Film(
        chosen,
        _plane(result.target),
        _plane(result.prediction),
        metadata.grid.coordinates().numpy(),
        metadata.dt * np.arange(given, data.num_frames),
        metadata.channels[0],
        metadata.units[0],
        metadata.grid.unit,
        metadata.time_unit,
        float(nrmse(result.prediction, result.target).mean()),
        float(values[chosen]),
    )


def animated(shown: Film) -> Html:
    """Return the film as SVG that moves by style sheets alone: it stops in print, on request, and where motion is not
    wanted, and then shows its last frame."""
    stride = math.ceil(len(shown.position) / _MOST_POINTS)
    position = shown.position[::stride]
    truth, prediction = shown.truth[:, ::stride], shown.prediction[:, ::stride]
    seen = np.concatenate([truth.ravel(), prediction[np.isfinite(prediction)]])
    lowest, highest = float(truth.min()), float(truth.max())
    # A forecast that runs away must not press the truth flat.
    reach = 0.5 * (highest - lowest) or 1.0
    lowest, highest = max(float(seen.min()), lowest - reach), min(float(seen.max()), highest + reach)
    x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * (position - position[0]) / ((position[-1] - position[0]) or 1.0)

    def height(values: np.ndarray) -> np.ndarray:
        clipped = np.clip(np.nan_to_num(values, nan=lowest), lowest, highest)
        span = (highest - lowest) or 1.0
        found: np.ndarray = _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (clipped - lowest) / span
        return found

    count = len(shown.time)
    clock_unit = "" if shown.time_unit == "1" else f" {shown.time_unit}"
    frames = []
    for at in range(count):
        lines = [
            tag("polyline", class_=name, points=_points(x, height(values[at])))
            for name, values in (("truth", truth), ("prediction", prediction))
        ]
        label = tag("text", f"t = {shown.time[at]:.2f}{clock_unit}", x=str(_WIDTH - _RIGHT), y="40", class_="clock")
        last = " still" if at == count - 1 else ""
        delay = f"animation-delay:{at * SECONDS_PER_FRAME:.1f}s"
        frames.append(tag("g", [*lines, label], class_=f"frame{last}", style=delay))
    style = (
        f"@keyframes film{{0%{{visibility:visible}}{100 / count:.4f}%,100%{{visibility:hidden}}}}"
        f".frame{{visibility:hidden;animation:film {count * SECONDS_PER_FRAME:.1f}s step-end infinite}}"
    )
    drawing = tag(
        "svg",
        [tag("style", Html(style)), _axes(shown, position, lowest, highest), *frames],
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"Truth (solid) and prediction (dashed) of test trajectory {shown.trajectory} over {count} frames",
    )
    pause = tag("label", [tag("input", type="checkbox", class_="pause"), " stop the animation"], class_="control")
    return tag("div", [pause, drawing], class_="film")


def _axes(shown: Film, position: np.ndarray, lowest: float, highest: float) -> Html:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [tag("path", d=f"M{_LEFT} {_TOP}V{bottom}H{right}", class_="axis")]
    for share in (0.0, 0.5, 1.0):
        x = _LEFT + share * (right - _LEFT)
        y = bottom - share * (bottom - _TOP)
        at, value = position[0] + share * (position[-1] - position[0]), lowest + share * (highest - lowest)
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[share]
        parts.append(tag("text", _number(at), x=f"{x:.0f}", y=str(bottom + 32), text_anchor=anchor))
        parts.append(tag("text", f"{value:.2g}", x=str(_LEFT - 12), y=f"{y + 8:.0f}", text_anchor="end"))
        parts.append(tag("path", d=f"M{_LEFT} {y:.0f}H{right}", class_="gridline"))
    middle = (_LEFT + right) / 2
    parts.append(
        tag(
            "text",
            f"position x{_unit(shown.length_unit)}",
            x=f"{middle:.0f}",
            y=str(_HEIGHT - 14),
            text_anchor="middle",
        )
    )
    parts.append(tag("text", f"{shown.channel}{_unit(shown.unit)}", x="14", y="40"))
    for left, name, words in ((220, "truth", "truth"), (420, "prediction", "prediction")):
        parts.append(tag("polyline", class_=name, points=f"{left},32 {left + 70},32"))
        parts.append(tag("text", words, x=str(left + 82), y="40"))
    return tag("g", parts)


def _number(value: float) -> str:
    return f"{value:.2f}" if 0.1 <= abs(value) < 100.0 or abs(value) < 0.01 else f"{value:.2g}"


def _points(x: np.ndarray, y: np.ndarray) -> str:
    return " ".join(f"{a:.0f},{b:.0f}" for a, b in zip(x, y, strict=True))


def _plane(fields: torch.Tensor) -> np.ndarray:
    """(1, T, C, X) -> (T, X) of the first channel."""
    return fields[0, :, 0].to(torch.float64).cpu().numpy()


def _unit(unit: str) -> str:
    return " [–]" if unit == "1" else f" [{unit}]"
