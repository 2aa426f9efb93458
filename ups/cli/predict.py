"""`ups predict`: forecast the trajectories of a data file with a trained surrogate.

ups predict data/1D_Burgers_Sols_Nu0.01.hdf5 -o forecast.h5 --given 10
ups predict artifacts/simulate/data.h5 -o forecast.h5 --samples 0:128    # the test split of the default run
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ups.errors import ParameterError

if TYPE_CHECKING:
    from ups.library.prediction import Prediction

MODEL = "artifacts/evaluate/surrogate"


def predict(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A file that data.path takes, of one field on a line.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, in PDEBench's flat layout.")],
    model: Annotated[str, typer.Option(help="A surrogate's folder, or models:/... or runs:/... in MLflow.")] = MODEL,
    steps: Annotated[int | None, typer.Option(min=1, help="Frames to forecast; as many as the file goes on.")] = None,
    given: Annotated[int, typer.Option(min=1, help="Frames given; the forecast starts from the last of them.")] = 1,
    samples: Annotated[str, typer.Option(help="Trajectories START:STOP of the file, counted from 0.")] = ":",
    space_stride: Annotated[int | None, typer.Option(min=1, help="Use every n-th point; what fits by default.")] = None,
    time_stride: Annotated[int | None, typer.Option(min=1, help="Use every n-th frame; what fits by default.")] = None,
    coefficient: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER, where the file does not say it: viscosity=0.01.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Trajectories at once.")] = 64,
    mode: Annotated[str, typer.Option(help="operator, corrected, student or assembled.")] = "assembled",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU. More wait for each other on busy cores.")] = 1,
    scores: Annotated[bool, typer.Option(help="Compare with the truth in the file.")] = True,
    extrapolate: Annotated[bool, typer.Option("--extrapolate", help="Also outside of the training range.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Forecast every trajectory of a data file; where the file holds the truth, print the error."""
    from typing import cast

    import torch

    import ups
    from ups.inference.surrogate import Mode
    from ups.library.prediction import Request
    from ups.library.prediction import predict as predict_file

    request = Request(
        given=given,
        steps=steps,
        samples=_samples(samples),
        space_stride=space_stride,
        time_stride=time_stride,
        coefficients=dict(coefficient_of(text) for text in coefficient or []),
        batch_size=batch_size,
        mode=cast(Mode, mode),
        scores=scores,
    )
    torch.set_num_threads(threads)
    made = predict_file(ups.load(model, device=device, extrapolate=extrapolate), source, output, request)
    if as_json:
        print(json.dumps(made.as_json(), indent=2, allow_nan=False))
    else:
        _print(made)


def _print(made: Prediction) -> None:
    space, time = made.strides
    from ups.library.prediction import shown

    said = ", ".join(f"{name} = {shown(value)}" for name, value in made.coefficients.items())
    print(f"{made.path}: {made.trajectories} trajectories, {made.steps} frames of {made.points} points, {said}")
    print(f"read with space_stride {space} and time_stride {time}; {made.given} frame(s) given")
    if made.diverged:
        print(f"{made.diverged} forecasts diverged: they hold NaN or Inf")
    for protocol, value in made.scores.items():
        own = "  <- the written forecast" if protocol == made.protocol else ""
        print(f"nRMSE {protocol:<10} {_shown(value['mean'])} ± {_shown(value['stderr'])}{own}")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _samples(text: str) -> tuple[int, int | None]:
    start, colon, stop = text.partition(":")
    try:
        if colon:
            return int(start or 0), int(stop) if stop else None
    except ValueError:
        pass
    raise ParameterError(f"--samples {text}: START:STOP was expected, such as 0:128, 128: or :10.")


def coefficient_of(text: str) -> tuple[str, float]:
    """Return name and value of NAME=NUMBER."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ParameterError(f"--coefficient {text}: NAME=NUMBER was expected, such as viscosity=0.01.") from None
