"""Everything that `ups data inspect` says about a path: gathered, as text, and for JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ups.data.axes import regular_axis, strided_grid, tidy
from ups.data.flat_layout import TENSOR
from ups.data.readers import Source, open_source
from ups.data.well import contents
from ups.errors import DataError
from ups.inspection import measurements, suggestion
from ups.inspection.layouts import Kind, Recognised, recognise
from ups.inspection.measurements import Curves, Measurements
from ups.inspection.views import View, spacing, view
from ups.parameters.equations import EQUATIONS

_ADVECTS = {"burgers", "advection"}


@dataclass
class Inspection:
    """What is known of a path.

    Attributes:
        what: what it is.
        layout: sizes, type and storage of the fields; empty where there are none.
        axes: name -> first, last and step (None and the reason where it is not constant).
        physics: sentences on coefficient and resolution.
        found: what the fields are like; None where there are none.
        problems: why the pipeline would refuse it, or should.
        parameters: the sections of params/base.yaml with which it could be used; empty if it cannot.
        curves, pictures: for the picture: curves, and some trajectories (B, T, C, *space) with their numbers.
    """

    what: Recognised
    layout: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, dict[str, Any]] = field(default_factory=dict)
    physics: list[str] = field(default_factory=list)
    found: Measurements | None = None
    problems: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    curves: Curves | None = None
    pictures: tuple[list[int], npt.NDArray[np.float32]] | None = None

    @property
    def usable(self) -> bool:
        return self.what.usable and not self.problems

    def as_json(self) -> dict[str, Any]:
        what = self.what
        return {
            "path": str(what.path),
            "kind": str(what.kind),
            "description": what.description,
            "usable": self.usable,
            "problems": self.problems,
            "advice": what.advice,
            "layout": self.layout,
            "axes": self.axes,
            "attributes": dict(what.attributes),
            "datasets": dict(what.datasets),
            "physics": self.physics,
            "measurements": measurements.plain(self.found) if self.found else None,
            "parameters": self.parameters,
        }


def inspect(path: Path, samples: int, pictures: int = 0) -> Inspection:
    """Look at a path.

    Args:
        path: a file or folder.
        samples: trajectories to measure, evenly spaced; 0 for all.
        pictures: trajectories to keep for a picture.

    Raises:
        DataError: if there is nothing at the path.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist. Check the path; `ups data list` names published files.")
    made = Inspection(recognise(path))
    if made.what.kind in (Kind.LATENTS, Kind.SURROGATE, Kind.ARRAYS, Kind.FOREIGN):
        if not made.what.usable:
            made.problems.append(made.what.description)
        return made
    with h5py.File(path, "r") as file:
        try:
            seen = view(file, made.what.kind)
        except DataError as error:
            made.problems.append(str(error))
            return made
        if seen is None or not seen.samples:
            made.problems.append("It holds no trajectory.")
            return made
        if made.what.kind is Kind.WELL:
            made.physics.append(contents(file, path).described())
        made.layout = _layout(file, seen, made.what.kind)
        made.axes = _axes(seen)
        made.found, made.curves = measurements.measure(seen, measurements.chosen(seen.samples, samples))
        if pictures:
            numbers = measurements.chosen(seen.samples, pictures)
            made.pictures = (numbers, seen.read(numbers, seen.frames))
    if not made.what.usable:
        made.problems.append(made.what.description)
    elif made.what.kind is not Kind.DATASET:
        _judge(made, seen)
    return made


def _layout(file: h5py.File, seen: View, kind: Kind) -> dict[str, Any]:
    data = file[TENSOR] if kind in (Kind.FLAT, Kind.DARCY) else None
    layout: dict[str, Any] = {
        "trajectories": seen.samples,
        "frames": seen.frames,
        "channels": list(seen.channels),
        "points": list(seen.points),
    }
    if data is not None:
        layout |= {"shape": list(data.shape), "dtype": str(data.dtype), "bytes": int(data.nbytes)}
        layout |= {"storage": f"chunks of {data.chunks}" if data.chunks else "contiguous", "filter": data.compression}
    return layout


def _axes(seen: View) -> dict[str, dict[str, Any]]:
    found = {}
    for name, values in zip(("x", "y", "z"), seen.positions, strict=False):
        found[name] = _axis(values, name)
    if len(seen.times):
        found["t"] = _axis(seen.times[: seen.frames], "t") | {"stored": len(seen.times)}
    return found


def _axis(values: npt.NDArray[Any], name: str) -> dict[str, Any]:
    step, wrong = spacing(values, name)
    numbers = np.asarray(values, dtype=np.float64)
    return {"first": float(numbers[0]), "last": float(numbers[-1]), "step": step, **({"wrong": wrong} if wrong else {})}


def _judge(made: Inspection, seen: View) -> None:
    """Ask the pipeline's own reader, look at what it does not see, and suggest parameters."""
    found = made.found
    if found is None:
        return
    if found.damaged:
        named = ", ".join(map(str, found.damaged_numbers))
        made.problems.append(
            f"{found.damaged} of {found.looked_at} trajectories looked at hold NaN or Inf ({named}): leave them out by "
            "data.splits, or make the file again."
        )
    space, time = suggestion.strides(seen)
    try:
        with open_source(made.what.path, space, time) as source:
            if seen.samples < 3:
                made.problems.append(f"{seen.samples} trajectories: three splits need at least one each.")
                return
            duration = source.dt / time * (seen.frames - 1)
            made.parameters = suggestion.suggest(made.what.path, seen, source, tidy(duration), source.grid.extent[0])
            _say_physics(made, seen, source, space)
    except DataError as error:
        made.problems.append(str(error))


def _say_physics(made: Inspection, seen: View, source: Source, stride: int) -> None:
    several = {name: value for name, value in source.coefficients.items() if isinstance(value, np.ndarray)}
    if several:
        made.physics += [
            f"{name} differs from trajectory to trajectory: {len(np.unique(value))} values, {value.min():g} to "
            f"{value.max():g}"
            for name, value in several.items()
        ]
        return
    numbers = ", ".join(f"{name} = {value:g}" for name, value in source.coefficients.items())
    if source.equation is None:
        made.physics.append(f"The file states no equation{f', but the numbers {numbers}' if numbers else ''}.")
        return
    if source.equation not in _ADVECTS:
        made.physics.append(f"{source.equation}: {EQUATIONS[source.equation].formula}, {numbers or 'without numbers'}")
        return
    grid = strided_grid([regular_axis(seen.positions[0], "x")], 1)
    dx, dt = grid.spacing[0], made.axes["t"]["step"]
    limits = made.found.channels.get("u", {}) if made.found else {}
    if source.equation == "burgers":
        viscosity = float(source.coefficients["viscosity"])
        factor = suggestion.diffusivity(viscosity)
        speed = max(abs(limits.get("minimum", 0.0)), abs(limits.get("maximum", 0.0)))
        made.physics.append(
            f"Burgers u_t + (u^2/2)_x = (nu/pi) u_xx, nu = {viscosity:g}, so the diffusivity is nu/pi = {factor:.4g}"
        )
        jump = limits.get("maximum", 0.0) - limits.get("minimum", 0.0)
        if factor > 0 and jump > 0:
            made.physics.append(suggestion.resolution(factor, jump, dx, stride))
    else:
        speed = abs(float(source.coefficients["velocity"]))
        made.physics.append(f"advection u_t + beta u_x = 0, beta = {float(source.coefficients['velocity']):g}")
    if dt:
        made.physics.append(f"the largest speed crosses {speed * dt / dx:.3g} cells from frame to frame of the file")


def text(made: Inspection) -> list[str]:
    """Return the lines that are printed."""
    what = made.what
    problems = [problem for problem in made.problems if problem != what.description]
    lines = [f"{what.path}: {what.kind}", f"  {what.description}", *(f"  problem: {problem}" for problem in problems)]
    lines.append(f"  {'Mend that first. Then: ' if problems else ''}{what.advice}")
    if made.layout:
        lines += ["", *_layout_lines(made)]
    elif what.datasets:
        lines += ["", *(f"  {name:<32} {shape}" for name, shape in what.datasets.items())]
    if what.attributes and what.kind is not Kind.DATASET:
        lines.append("attributes    " + ", ".join(f"{name} = {value}" for name, value in what.attributes.items()))
    lines += [("physics       " if not index else " " * 14) + said for index, said in enumerate(made.physics)]
    if made.found:
        lines += ["", *_measured(made.found, made.layout["trajectories"])]
    if made.parameters and made.found:
        lines += ["", suggestion.snippet(made.parameters, made.found.channels)]
    return lines


def _layout_lines(made: Inspection) -> list[str]:
    layout = made.layout
    points = " x ".join(map(str, layout["points"]))
    lines = [
        f"fields        {layout['trajectories']} trajectories, {layout['frames']} frames, {points} points, "
        f"channels {', '.join(layout['channels'])}"
    ]
    if "shape" in layout:
        squeezed = f", {layout['filter']}" if layout["filter"] else ""
        size = f"{layout['bytes'] / 1e6:,.1f} MB"
        lines.append(f"stored as     {tuple(layout['shape'])} {layout['dtype']}, {size}, {layout['storage']}{squeezed}")
    for name, axis in made.axes.items():
        step = axis["wrong"] if axis["step"] is None else f"d{name} = {axis['step']:.6g}"
        extra = f" ({axis['stored']} times stored)" if axis.get("stored", layout["frames"]) != layout["frames"] else ""
        lines.append(f"{name:<14}{axis['first']:.6g} to {axis['last']:.6g}, {step}{extra}")
    return lines


def _measured(found: Measurements, total: int) -> list[str]:
    which = "all" if found.looked_at == total else f"{found.looked_at} evenly spaced"
    lines = [f"measured on   {which} of {total} trajectories"]
    lines.append(f"not finite    {found.nan} NaN, {found.inf} Inf, in {found.damaged} trajectories")
    for name, values in found.channels.items():
        shown = (
            f"{values['minimum']:.4g} to {values['maximum']:.4g}, mean {values['mean']:.4g}, std {values['std']:.4g}"
        )
        lines.append(f"{name:<14}{shown}")
        if name in found.mean_drift:
            drift = found.mean_drift[name]
            lines.append(
                f"integral      the domain's mean changes by at most {drift['largest']:.2e} ({drift['over_std']:.1e} "
                f"std), in trajectory {drift['trajectory']:.0f}"
            )
    if found.energy:
        energy = found.energy
        lines.append(
            f"energy        last/first frame: median {energy['median']:.4g}, {energy['least']:.4g} to "
            f"{energy['most']:.4g}; largest growth in a frame {max(energy['largest_growth'], 0):.1e}"
        )
    for name, bands in found.spectrum.items():
        shown = ", ".join(f"{band} {100 * share:.3g} %" for band, share in bands.items())
        lines.append(f"spectrum      {name} frame: {shown} of the fluctuations' energy (k < 4, 4-11, >= 12)")
    pairs = ", ".join(f"{number} = {earlier}" for number, earlier in found.duplicate_pairs[:4])
    pairs = f" ({pairs}{', ...' if found.duplicates > 4 else ''})" if pairs else ""
    lines.append(f"duplicates    {found.duplicates} of {total} initial conditions repeat an earlier one{pairs}")
    return lines
