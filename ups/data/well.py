"""What is in an HDF5 file of The Well: fields, axes, boundary conditions and scalars, before anything is read of them.

The layout is the specification of PolymathicAI/the_well, `docs/data_format.md` (Ohana et al., NeurIPS 2024,
arXiv:2412.00568): root attributes `dataset_name`, `grid_type`, `n_spatial_dims`, `n_trajectories`; groups `dimensions`
(`time` and one array for each axis), `boundary_conditions`, `scalars`, and the fields by tensor order: `t0_fields`
(N, T, *space), `t1_fields` (N, T, *space, D), `t2_fields` (N, T, *space, D, D). Every array says in attributes whether
it varies between samples, in time and along each axis. Only h5py is needed, not the package `the_well`.

Shapes: N trajectories, T frames, D dimensions of space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ups.data.axes import Axis, floats, regular_axis
from ups.errors import DataError

DIMENSIONS, BOUNDARIES, SCALARS, TIME = "dimensions", "boundary_conditions", "scalars", "time"
FIELDS = ("t0_fields", "t1_fields", "t2_fields")
PERIODIC, CARTESIAN = "periodic", "cartesian"


@dataclass(frozen=True)
class WellField:
    """One field.

    Attributes:
        name: its name.
        order: of the tensor: 0 scalar, 1 vector, 2 matrix.
        varies: whether it is different in every sample, at every time and along every axis.
    """

    name: str
    order: int
    varies: bool

    @property
    def place(self) -> str:
        """The dataset's path in the file."""
        return f"{FIELDS[self.order]}/{self.name}"


@dataclass(frozen=True)
class WellContents:
    """What a file says of itself.

    Attributes:
        path: the file.
        dataset: its `dataset_name`.
        grid_type: "cartesian", "spherical", ...
        axes: names of the axes of space, in the order of the fields' axes.
        boundaries: axis -> kinds of its boundary conditions, lower case; empty where none is stated.
        samples, frames: N and T.
        points: of the grid, for each axis.
        fields: all of them.
        scalars: the numbers that hold for the whole file, by name.
        varying_scalars: names of those that differ between samples or in time.
    """

    path: Path
    dataset: str
    grid_type: str
    axes: tuple[str, ...]
    boundaries: Mapping[str, tuple[str, ...]]
    samples: int
    frames: int
    points: tuple[int, ...]
    fields: tuple[WellField, ...]
    scalars: Mapping[str, float]
    varying_scalars: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path} (The Well, dataset '{self.dataset}')"

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Whether each axis is periodic, and says so."""
        return tuple(set(self.boundaries[axis]) == {PERIODIC} for axis in self.axes)

    def described(self) -> str:
        """Return fields and boundaries as a phrase."""
        kinds = ("scalar", "vector", "matrix")
        listed = [
            f"{kinds[field.order]} {field.name}" + ("" if field.varies else " (constant)") for field in self.fields
        ]
        walls = [f"{axis}: {' and '.join(self.boundaries[axis]) or 'not stated'}" for axis in self.axes]
        return f"fields {', '.join(listed) or 'none'}; boundaries {', '.join(walls)}; {self.grid_type} grid"


def is_well(file: h5py.File) -> bool:
    """Return whether a file has the groups of The Well's layout."""
    return all(isinstance(file.get(name), h5py.Group) for name in (DIMENSIONS, FIELDS[0])) and TIME in file[DIMENSIONS]


def contents(file: h5py.File, path: Path) -> WellContents:
    """Return what a file of The Well says of itself.

    Raises:
        DataError: if a part of the layout is missing.
    """
    dimensions = file[DIMENSIONS]
    axes = _names(dimensions.attrs.get("spatial_dims"))
    missing = [name for name in axes if name not in dimensions]
    if not axes or missing:
        raise DataError(
            f"{path} looks like a file of The Well, but `{DIMENSIONS}` "
            + (f"has no {' and no '.join(missing)}." if axes else "does not name its axes in `spatial_dims`.")
            + " Download or write it again; the layout is docs/data_format.md of PolymathicAI/the_well."
        )
    fields = tuple(_fields(file))
    constant, varying = _scalars(file, path)
    return WellContents(
        path=path,
        dataset=_text(file.attrs.get("dataset_name", path.stem)),
        grid_type=_text(file.attrs.get("grid_type", "")).lower() or "unstated",
        axes=axes,
        boundaries=_boundaries(file, axes),
        samples=_samples(file, fields),
        frames=int(dimensions[TIME].shape[-1]),
        points=tuple(int(dimensions[name].shape[-1]) for name in axes),
        fields=fields,
        scalars=constant,
        varying_scalars=varying,
    )


def read_axes(file: h5py.File, made: WellContents) -> tuple[list[Axis], Axis]:
    """Return the axes of space, and that of time.

    Raises:
        DataError: if one differs between samples, moves, or is not equidistant.
    """
    return [_axis(file, made, name) for name in made.axes], _axis(file, made, TIME)


def _axis(file: h5py.File, made: WellContents, name: str) -> Axis:
    values = file[DIMENSIONS][name]
    moving = name != TIME and _flag(values, "time_varying")
    if values.ndim != 1 or moving or _flag(values, "sample_varying"):
        raise DataError(
            f"{made}: `{DIMENSIONS}/{name}` differs between samples or moves in time; one regular grid and one time "
            "step for all trajectories are needed. Interpolate the fields onto one."
        )
    return regular_axis(floats(np.asarray(values[()])), f"{made}: {name}")


def _fields(file: h5py.File) -> Iterator[WellField]:
    for order, group in enumerate(FIELDS):
        if group not in file:
            continue
        for name in _names(file[group].attrs.get("field_names")) or tuple(file[group]):
            array = file[group].get(name)
            if isinstance(array, h5py.Dataset):  # a name in the list without an array would be no field
                along = np.atleast_1d(array.attrs.get("dim_varying", True)).astype(bool).all()
                varies = all(_flag(array, flag, True) for flag in ("sample_varying", "time_varying"))
                yield WellField(name, order, bool(along) and varies)


def _samples(file: h5py.File, fields: tuple[WellField, ...]) -> int:
    shapes = [int(file[field.place].shape[0]) for field in fields if field.varies]
    return shapes[0] if shapes else int(file.attrs.get("n_trajectories", 0))


def _boundaries(file: h5py.File, axes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    kinds: dict[str, set[str]] = {axis: set() for axis in axes}
    for condition in file.get(BOUNDARIES, {}).values():
        for axis in _names(condition.attrs.get("associated_dims")):
            kinds.setdefault(axis, set()).add(_text(condition.attrs.get("bc_type", "unstated")).lower())
    return {axis: tuple(sorted(found)) for axis, found in kinds.items()}


def _scalars(file: h5py.File, path: Path) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the constant scalars, those of the root's attributes included, and the names of the others."""
    constant: dict[str, float] = {}
    varying = []
    for name in _names(file.attrs.get("simulation_parameters")):
        if np.size(file.attrs.get(name, ())) == 1:
            constant[name] = _number(file.attrs[name], f"{path}: attribute `{name}`")
    group = file.get(SCALARS, {})
    for name in _names(getattr(group, "attrs", {}).get("field_names")) or tuple(group):
        if name not in group:
            continue
        if group[name].size == 1:
            constant[name] = _number(group[name][()], f"{path}: {SCALARS}/{name}")
        else:
            constant.pop(name, None)
            varying.append(name)
    return constant, tuple(varying)


def _number(value: Any, what: str) -> float:
    stored: npt.NDArray[Any] = np.asarray(value).reshape(-1)
    if stored.dtype.kind not in "iuf":
        raise DataError(f"{what} is {value!r}; a number was expected.")
    return float(stored[0])


def _flag(array: h5py.Dataset, name: str, default: bool = False) -> bool:
    return bool(np.all(array.attrs.get(name, default)))


def _names(value: Any) -> tuple[str, ...]:
    """Return a list of names; a single one may be stored as plain text."""
    return () if value is None else tuple(_text(name) for name in np.atleast_1d(value))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
