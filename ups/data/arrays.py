"""Write a data set of your own into a file that `data.path` takes, from numpy, h5py or zarr arrays.

    from ups.data.arrays import write_dataset

    write_dataset("data/mine.h5", u, equation="burgers", coefficients={"viscosity": 0.01}, x=x, t=t)

The layout is PDEBench's: flat for one field on a line, Darcy's for Darcy, grouped for the rest. Everything that would
be refused later, or would silently be wrong, is refused here, before a file is there.

Shapes: N trajectories, T frames, C fields, X (Y) points, *space the grid.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ups.data import units as unit_names
from ups.data.axes import floats, regular_axis, strided_grid
from ups.data.fields import Grid
from ups.data.file_writer import replacing
from ups.data.writers import create
from ups.errors import DataError
from ups.parameters.equations import EQUATIONS, Equation

_BYTES = 64 * 2**20  # of one block in memory
_FEWEST_POINTS = 8
_FEWEST_FRAMES = 2
_AXES = ("x", "y")


class ArrayLike(Protocol):
    """What a field may be: an array, or something on a disk that gives out parts of it."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, part: slice) -> Any: ...


def write_dataset(
    path: Path | str,
    fields: ArrayLike | Mapping[str, ArrayLike],
    *,
    equation: str,
    coefficients: Mapping[str, float],
    x: npt.ArrayLike,
    t: npt.ArrayLike | None = None,
    y: npt.ArrayLike | None = None,
    units: Mapping[str, str] | None = None,
    length_unit: str = unit_names.DIMENSIONLESS,
    time_unit: str = unit_names.DIMENSIONLESS,
) -> Path:
    """Check fields and write them, a block of trajectories at a time.

    Args:
        path: the new file.
        fields: (N, T, *space) float32 or float64, N trajectories of their own initial conditions; where the equation
            has several fields, a mapping from their names. Steady problems have no axis of time: (N, X, Y).
        equation: a name of `ups.parameters.equations.EQUATIONS`.
        coefficients: its numbers by name, the same for all trajectories.
        x, y: (X,), (Y,) equidistant positions, without the end point that a periodic domain shares with its begin.
        t: (T,) equidistant times.
        units: field -> unit; "1", dimensionless, by default.
        length_unit, time_unit: of x, y and t.

    Returns:
        The file.

    Raises:
        DataError: if anything does not fit; no file is left then.
        OSError: if there is no space for it.
    """
    path = Path(path)
    if path.exists():
        raise DataError(f"{path} exists already, and is not overwritten. Delete it, or choose another name.")
    if not path.parent.is_dir():
        raise DataError(f"The folder {path.parent} does not exist. Make it, or choose another place for {path.name}.")
    described = _equation(equation)
    numbers = _coefficients(equation, described, coefficients)
    named = _named(fields, equation, described)
    grid = _grid(described, x, y, length_unit)
    times = _times(equation, described, t)
    samples = _check_shapes(named, described, grid, times)
    notes = {
        unit_names.FIELDS: _units(described, units),
        unit_names.LENGTH: length_unit,
        unit_names.TIME: time_unit,
    }
    rows = max(1, _BYTES // (4 * len(named) * max(1, len(times)) * math.prod(grid.points)))
    with replacing(path) as fresh, create(fresh, equation, numbers, samples, grid, times, notes) as writer:
        for begin in range(0, samples, rows):
            part = slice(begin, min(begin + rows, samples))
            block = np.stack([_block(name, array, part, described) for name, array in named.items()], axis=2)
            if begin == 0 and described.periodic:
                _check_end_points(block)
            writer.write(begin, block)
    return path


def _equation(name: str) -> Equation:
    if name not in EQUATIONS:
        raise DataError(
            f"equation = {name!r} is none of {', '.join(EQUATIONS)}. What is conserved and which baselines there are "
            "depends on it, so it has to be known; docs/extending.md says how an equation is added."
        )
    return EQUATIONS[name]


def _coefficients(equation: str, described: Equation, given: Mapping[str, float]) -> dict[str, float]:
    names = described.coefficient_names
    if set(given) != set(names):
        raise DataError(
            f"coefficients has {', '.join(given) or 'nothing'}; {', '.join(names)} is what '{equation}' has: "
            f"{described.formula}."
        )
    numbers = {}
    for coefficient in described.coefficients:
        value = np.asarray(given[coefficient.name])
        if value.size != 1 or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
            raise DataError(
                f"coefficients['{coefficient.name}'] is {given[coefficient.name]!r}; one finite number for the whole "
                "file was expected. Trajectories with other values go into another file."
            )
        numbers[coefficient.name] = float(value.reshape(()))
        if coefficient.positive and not numbers[coefficient.name] > 0:
            raise DataError(f"coefficients['{coefficient.name}'] is {numbers[coefficient.name]:g}; it must be above 0.")
    return numbers


def _named(fields: ArrayLike | Mapping[str, ArrayLike], equation: str, described: Equation) -> dict[str, ArrayLike]:
    """Return the fields in the equation's order."""
    names = described.channel_names
    if not isinstance(fields, Mapping):
        if len(names) > 1:
            raise DataError(
                f"'{equation}' has {len(names)} fields: pass them by name, "
                f"{{{', '.join(f'{name!r}: ...' for name in names)}}}, each (trajectories, frames, points)."
            )
        return {names[0]: fields}
    if set(fields) != set(names):
        raise DataError(
            f"fields has {', '.join(map(str, fields)) or 'nothing'}; {', '.join(names)} is what '{equation}' has. "
            "Rename or leave out the others."
        )
    return {name: fields[name] for name in names}


def _grid(described: Equation, x: npt.ArrayLike, y: npt.ArrayLike | None, unit: str) -> Grid:
    given = {"x": x} if y is None else {"x": x, "y": y}
    if len(given) != described.rank:
        raise DataError(
            f"Positions of {len(given)} axis(es) were given ({', '.join(given)}); {described.formula} has "
            f"{described.rank}: {', '.join(_AXES[: described.rank])}."
        )
    axes = [regular_axis(floats(np.asarray(values)), name) for name, values in given.items()]
    for name, axis in zip(given, axes, strict=True):
        if axis.count < _FEWEST_POINTS:
            raise DataError(f"{name} has {axis.count} points; at least {_FEWEST_POINTS} are needed.")
    return strided_grid(axes, 1, described.periodic, unit)


def _times(equation: str, described: Equation, t: npt.ArrayLike | None) -> npt.NDArray[np.float64]:
    if described.steady:
        if t is not None:
            raise DataError(f"'{equation}' is steady: leave t out, and give fields of shape (samples, x, y).")
        return np.zeros(0)
    if t is None:
        raise DataError(f"t is missing: the times of the frames, which '{equation}' needs.")
    axis = regular_axis(floats(np.asarray(t)), "t")
    return axis.first + axis.spacing * np.arange(axis.count, dtype=np.float64)


def _units(described: Equation, given: Mapping[str, str] | None) -> list[str]:
    unknown = sorted(set(given or {}) - set(described.channel_names))
    if unknown:
        raise DataError(
            f"units has {', '.join(unknown)}, which is no field; the fields are {', '.join(described.channel_names)}."
        )
    return [(given or {}).get(channel.name, channel.unit) for channel in described.channels]


def _check_shapes(
    fields: Mapping[str, ArrayLike], described: Equation, grid: Grid, times: npt.NDArray[np.float64]
) -> int:
    """Check all shapes and types; returns the number of trajectories."""
    names = ("trajectories", *(() if described.steady else ("frames",)), *_AXES[: grid.rank])
    inner = (*(() if described.steady else (len(times),)), *grid.points)
    samples = None
    for name, array in fields.items():
        shape = tuple(int(size) for size in array.shape)
        if shape[1:] != inner or len(shape) != len(names):
            raise DataError(
                f"{name} has shape {shape}; ({', '.join(names)}) = (N, {', '.join(map(str, inner))}) was expected from "
                f"the lengths of the coordinates.{_remedy(shape, inner)}"
            )
        if samples not in (None, shape[0]):
            raise DataError(f"{name} has {shape[0]} trajectories, another field has {samples}; all must have the same.")
        samples = shape[0]
        _check_type(name, np.dtype(array.dtype))
    if not samples:
        raise DataError("There is no trajectory in the fields.")
    return samples


def _remedy(shape: Sequence[int], inner: tuple[int, ...]) -> str:
    """Return what to do about a shape, if one can tell."""
    if len(shape) == len(inner) and tuple(shape) == inner:
        return " One trajectory needs an axis of its own: fields[None]."
    if len(shape) == len(inner) + 2 and 1 in shape:
        return " There is an axis too many: take the fields' one channel, such as fields[..., 0] or fields[:, :, 0]."
    if len(shape) == len(inner) + 1:
        for order in itertools.permutations(range(len(shape))):
            if tuple(shape[axis] for axis in order[1:]) == inner:
                return f" The axes are in another order: numpy.transpose(fields, {order})."
    return ""


def _check_type(name: str, kind: np.dtype[Any]) -> None:
    if kind.kind != "f" or kind.itemsize < 4:
        reasons = {
            "f": "half precision has three digits: simulate or store it again as float32",
            "i": "whole numbers may have been scaled for storage: undo that, then .astype('float32')",
            "u": "whole numbers may have been scaled for storage: undo that, then .astype('float32')",
            "c": "complex numbers: take .real, or two fields of an equation that has two",
        }
        reason = reasons.get(kind.kind, "turn it into numbers first")
        raise DataError(f"{name} has type {kind}; float32 or float64 was expected ({reason}).")


def _block(name: str, array: ArrayLike, part: slice, described: Equation) -> npt.NDArray[np.float32]:
    """Return some trajectories (B, T, *space) of one field, checked."""
    stored = np.asarray(array[part])
    with np.errstate(over="ignore"):  # found below, and named
        block = stored.astype(np.float32)
    finite = np.isfinite(block)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        value, steady = stored[where], described.steady
        place = f"trajectory {part.start + where[0]}" + ("" if steady else f", frame {where[1]}")
        space = ", ".join(str(i) for i in where[1 if steady else 2 :])
        reason = "leave that trajectory out" if not np.isfinite(value) else "too large for float32: use other units"
        raise DataError(f"{name} holds {value} in {place} at ({space}), counted from 0: {reason}.")
    return block[:, None] if described.steady else block


def _check_end_points(block: npt.NDArray[np.float32]) -> None:
    """Refuse a periodic field whose last point is its first one again: its spacing would be wrong by one cell."""
    for axis, name in enumerate(_AXES[: block.ndim - 3]):
        values = np.moveaxis(block, 3 + axis, 0)
        if np.array_equal(values[0], values[-1]) and not np.array_equal(values[0], values[1]):
            raise DataError(
                f"The last point along {name} repeats the first one in every frame: a periodic domain has it only "
                f"once. Leave it out of the fields and of {name}: [..., :-1]."
            )
