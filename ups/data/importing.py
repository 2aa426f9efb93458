"""Turn files that people bring (`ups.data.labelled`) into one file that `data.path` takes.

    ups data import mine.npz -o data/mine.h5 --equation burgers --coefficient viscosity=0.01
    ups data import shear_flow/data/*/*Reynolds_1e4*.hdf5 -o data/shear.h5 \\
        --equation navier_stokes --field vorticity=curl:velocity --coefficient viscosity=1e-4

Shapes: N trajectories, T frames, *space the grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ups.data.arrays import ArrayLike, write_dataset
from ups.data.axes import regular_axis
from ups.data.curl import Curl
from ups.data.labelled import Joined, Labelled, read_labelled
from ups.errors import DataError
from ups.parameters.equations import EQUATIONS

CURL = "curl:"


@dataclass(frozen=True)
class Imported:
    """What was written.

    Attributes:
        path: the file.
        equation: which it holds.
        parts: source and its range of trajectories [start, stop), in order.
        unused: numbers of the sources that are no coefficients.
    """

    path: Path
    equation: str
    parts: tuple[tuple[str, int, int], ...]
    unused: Mapping[str, float]


def import_files(
    sources: Sequence[Path],
    output: Path,
    equation: str | None = None,
    coefficients: Mapping[str, float] | None = None,
    fields: Mapping[str, str] | None = None,
) -> Imported:
    """Read files of one equation and one grid and write them one after the other.

    Args:
        sources: the files.
        output: the new file.
        equation: where the files do not state it.
        coefficients: where the files do not state them.
        fields: the equation's field -> its name in the files, or `curl:NAME` for the curl of a plane's velocity;
            fields of the same name need not be listed.

    Raises:
        DataError: if they do not fit, together or to the equation.
    """
    read = [read_labelled(path) for path in sources]
    if not read:
        raise DataError("No file was named.")
    name = _equation(read, equation)
    chosen = [_chosen(labelled, name, fields or {}) for labelled in read]
    _check_same(read)
    numbers = _coefficients(read, name, coefficients or {})
    first = read[0]
    write_dataset(
        output,
        {field: Joined([each[field] for each in chosen]) for field in chosen[0]},
        equation=name,
        coefficients=numbers,
        x=first.coordinates["x"],
        y=first.coordinates.get("y"),
        t=first.coordinates.get("t"),
        units={field: first.units[origin] for field, origin in _origins(name, fields or {}) if origin in first.units},
        length_unit=first.length_unit,
        time_unit=first.time_unit,
    )
    counts = [next(iter(each.values())).shape[0] for each in chosen]
    starts = np.cumsum([0, *counts]).tolist()
    parts = tuple((each.source, starts[i], starts[i + 1]) for i, each in enumerate(read))
    return Imported(output, name, parts, {key: v for key, v in first.numbers.items() if key not in numbers})


def _equation(read: Sequence[Labelled], given: str | None) -> str:
    stated = {each.equation for each in read if each.equation}
    if len(stated | ({given} if given else set())) > 1:
        raise DataError(
            f"The equation is {', '.join(sorted(stated))} in the files and {given} was given; one is needed."
        )
    name = given or next(iter(stated), None)
    if name is None or name not in EQUATIONS:
        said = f"'{name}' is" if name else f"{read[0].source} does not say its equation, which is"
        raise DataError(f"{said} none of {', '.join(EQUATIONS)}. Say it: --equation NAME.")
    return name


def _origins(equation: str, fields: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, fields.get(name, name)) for name in EQUATIONS[equation].channel_names]


def _chosen(labelled: Labelled, equation: str, fields: Mapping[str, str]) -> dict[str, ArrayLike]:
    """Return the equation's fields of one file."""
    names = EQUATIONS[equation].channel_names
    unknown = sorted(set(fields) - set(names))
    if unknown:
        raise DataError(f"--field {unknown[0]}=...: '{equation}' has the fields {', '.join(names)}.")
    if "x" not in labelled.coordinates:
        raise DataError(
            f"{labelled.source} has no coordinate `x`; without it the spacing is unknown. It holds "
            f"{', '.join([*labelled.coordinates, *labelled.fields]) or 'no array of numbers'}."
        )
    found: dict[str, ArrayLike] = {}
    for name, origin in _origins(equation, fields):
        array = labelled.fields.get(origin.removeprefix(CURL))
        if array is None:
            raise DataError(
                f"{labelled.source} has no field '{origin.removeprefix(CURL)}', but "
                f"{', '.join(labelled.fields) or 'none'}. Say which one is {name}: --field {name}=NAME."
            )
        found[name] = _curl(array, labelled, origin) if origin.startswith(CURL) else array
    return found


def _curl(array: ArrayLike, labelled: Labelled, origin: str) -> Curl:
    if set(labelled.coordinates) != {"x", "y", "t"} or len(array.shape) != 5 or array.shape[-1] != 2:
        raise DataError(
            f"{origin}: a velocity on a periodic plane, (trajectories, frames, x, y, 2), is needed; {labelled.source} "
            f"has shape {tuple(array.shape)} and the coordinates {', '.join(labelled.coordinates)}."
        )
    axes = [regular_axis(labelled.coordinates[name], name) for name in ("x", "y")]
    return Curl(array, tuple(axis.count * axis.spacing for axis in axes), labelled.source)


def _check_same(read: Sequence[Labelled]) -> None:
    first = read[0]
    for other in read[1:]:
        for axis, values in first.coordinates.items():
            have = other.coordinates.get(axis)
            if have is None or have.shape != values.shape or not np.allclose(have, values, rtol=1e-5, atol=1e-7):
                raise DataError(
                    f"{other.source} has another {axis} than {first.source}; one grid and one time step are needed."
                )
        if (other.units, other.length_unit, other.time_unit) != (first.units, first.length_unit, first.time_unit):
            raise DataError(f"{other.source} has other units than {first.source}. Convert one of them.")


def _coefficients(read: Sequence[Labelled], equation: str, given: Mapping[str, float]) -> dict[str, float]:
    numbers = {}
    for name in EQUATIONS[equation].coefficient_names:
        stated = {each.numbers[name]: each.source for each in read if name in each.numbers}
        values = {*stated, *({given[name]} if name in given else ())}
        if len(values) > 1:
            raise DataError(
                f"{name} is {' and '.join(f'{value:g}' for value in sorted(values))}; one value for the whole file is "
                "needed. Import the files of each value by themselves."
            )
        if not values:
            also = ", ".join(f"{key} = {value:g}" for key, value in read[0].numbers.items())
            raise DataError(
                f"{read[0].source} does not state its {name}{f' (but {also})' if also else ''}. Say it: --coefficient "
                f"{name}=NUMBER."
            )
        numbers[name] = values.pop()
    unknown = sorted(set(given) - set(numbers))
    if unknown:
        raise DataError(f"--coefficient {unknown[0]}=...: '{equation}' has {', '.join(numbers)}.")
    return numbers
