"""The parameters with which a file could be used: the sections `task` and `data` of params/base.yaml, to paste."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ups.data.readers import Source
from ups.inspection.views import View
from ups.parameters.equations import EQUATIONS

# PDEBench's own training grid, and what the default parameters are tuned on: 1024 points / 4, 201 frames / 5.
_POINTS, _FRAMES = {1: 256, 2: 64}, 41  # points along each axis, by the dimensions of space
_HELD_OUT = 10  # every tenth trajectory for test, as many for validation


def strides(view: View) -> tuple[int, int]:
    """Return the smallest strides that lead to at most 256 points (64 along each axis of a plane) and 41 frames.

    The stride in space divides the numbers of points, because the grid is periodic; otherwise it is 1.
    """
    most, smallest = _POINTS.get(view.rank, 1), min(view.points)
    dividing = (n for n in range(1, smallest + 1) if all(points % n == 0 for points in view.points))
    space = next((n for n in dividing if smallest // n <= most), 1)
    time = next(n for n in range(1, view.frames + 1) if len(range(0, view.frames, n)) <= _FRAMES)
    return space, time


def splits(samples: int) -> dict[str, list[int | None]]:
    """Return sample ranges: the first tenth for test, the next for validation, the rest for training."""
    held = max(1, samples // _HELD_OUT)
    return {"test": [0, held], "validation": [held, 2 * held], "train": [2 * held, None]}


def suggest(path: Path, view: View, source: Source, duration: float, extent: float) -> dict[str, Any]:
    """Return the sections `task` and `data`; without `task` where the file does not say its equation and numbers."""
    space, time = strides(view)
    data = {"path": str(path), "space_stride": space, "time_stride": time, "splits": splits(view.samples)}
    if source.initial is not None:  # several regimes share initial conditions, and splits count these
        data["splits"] = splits(int(source.initial.max()) + 1)
    names = EQUATIONS[source.equation].coefficient_names if source.equation else ()
    if source.equation is None or set(names) - set(source.coefficients):
        return {"data": data}
    task = {
        "name": f"{source.equation}{source.grid.rank}d",
        "equation": source.equation,
        "coefficients": {
            name: np.unique(source.coefficients[name]).tolist()
            if isinstance(source.coefficients[name], np.ndarray)
            else source.coefficients[name]
            for name in names
        },
        "domain_extent": extent,
        "final_time": duration,
    }
    return {"task": task, "data": data}


def snippet(sections: Mapping[str, Any], channels: Mapping[str, Mapping[str, float]]) -> str:
    """Return the sections as YAML, with what needs no parameter as comments."""
    lines = ["# Into params/base.yaml, instead of the sections of the same names. Then: ups data audit; make repro"]
    if "task" not in sections:
        lines.append(
            "# The file does not say its equation and coefficients: section `task` stays yours to set (params/tasks/)."
        )
    for name, section in sections.items():
        lines.append(f"{name}:")
        for key, value in section.items():
            shown = (
                yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=120).replace("\n...", "").strip()
            )
            lines.append(f"  {key}: {shown}")
    for name, values in channels.items():
        lines.append(
            f"# Normalisation of {name} needs no parameter: prepare_data takes mean and deviation from the training "
            f"split\n# (here about {values['mean']:.4g} and {values['std']:.4g})."
        )
    return "\n".join(lines)


def resolution(diffusivity: float, jump: float, dx: float, stride: int) -> str:
    """Return how well the grid resolves the steepest front there can be, before and after sub-sampling.

    A viscous front u = -a tanh(a x / 2D) with D = nu/pi has the jump 2 a, and the width 4 D / a between tanh(-1) and
    tanh(1).
    """
    width = 8 * diffusivity / jump
    after = f", {width / (dx * stride):.2g} with space_stride {stride}" if stride > 1 else ""
    return f"a front across the whole range of u is {width:.3g} wide: {width / dx:.2g} cells of the file{after}"


def diffusivity(viscosity: float) -> float:
    """Return the factor of u_xx that PDEBench's nu stands for, nu / pi."""
    return viscosity / pi
