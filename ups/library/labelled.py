"""States as labelled arrays of xarray, and back. xarray is needed only to make them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ups.data.axes import regular_axis
from ups.data.fields import FieldMetadata
from ups.errors import DataError, InputError
from ups.library.state import State

SPACE, CHANNEL, TIME = "x", "channel", "time"
_SPACING_TOLERANCE = 1e-4  # float32 coordinates of a thousand points are known to this


def is_labelled(values: Any) -> bool:
    """Tell whether a value is a labelled array; does not import xarray."""
    return all(hasattr(values, name) for name in ("dims", "coords", "attrs", "transpose", "values"))


def to_xarray(states: State | Iterable[State]) -> Any:
    """Return one state, or a sequence of them such as a rollout, as an `xarray.DataArray`.

    Axes: `time` (for a sequence), `batch` (or `batch_0`, `batch_1`, ...), `channel`, `x`. Coordinates: `x`, `channel`,
    `time` and the equation's coefficients; attributes: units.

    Raises:
        InputError: if xarray is not installed, or there is no state.
    """
    try:
        import xarray
    except ImportError:
        raise InputError("to_xarray needs xarray: `pip install xarray`.") from None
    single = isinstance(states, State)
    every = [state.numpy() for state in ([states] if isinstance(states, State) else states)]
    if not every:
        raise InputError("There is no state to convert: the rollout was empty.")
    first = every[0]
    _check_rank(first.metadata)
    meta, batch = first.metadata, first.batch_shape
    names = ("batch",) if len(batch) == 1 else tuple(f"batch_{axis}" for axis in range(len(batch)))
    values = np.stack([np.asarray(state.u).reshape(*batch, len(meta.channels), -1) for state in every])
    coordinates = {
        SPACE: (SPACE, first.x, {"units": meta.grid.unit}),
        CHANNEL: list(meta.channels),
        TIME: ((), first.time) if single else (TIME, [state.time for state in every]),
        **{name: ((), v) if isinstance(v, float) else (names, v) for name, v in first.coefficients.items()},
    }
    array = xarray.DataArray(
        values[0] if single else values,
        dims=(*(() if single else (TIME,)), *names, CHANNEL, SPACE),
        coords=coordinates,
        name="_".join(meta.channels),
        attrs={"units": ", ".join(meta.units), "equation": meta.equation},
    )
    array[TIME].attrs["units"] = meta.time_unit
    return array


def from_xarray(array: Any, metadata: FieldMetadata, coefficients: dict[str, Any], time: float | None) -> State:
    """Return the state in a labelled array.

    Args:
        array: with the axis `x`, the axis `channel` (may be absent with one channel), and any others as batch.
            Coordinates of the name of a coefficient, and `time`, are used where the caller gives none.
        metadata: what the surrogate was trained on.
        coefficients: given by the caller, by name.
        time: given by the caller.

    Raises:
        InputError: if axes, units or positions are others than the surrogate's.
    """
    _check_rank(metadata)
    dims = tuple(array.dims)
    if SPACE not in dims or (CHANNEL not in dims and len(metadata.channels) > 1):
        raise InputError(f"The array has the axes {list(dims)}; '{SPACE}' and '{CHANNEL}' are needed. Rename them.")
    if TIME in dims:
        raise InputError(f"The array has {array.sizes[TIME]} times; a state has one: array.isel({TIME}=0).")
    batch = tuple(name for name in dims if name not in (SPACE, CHANNEL))
    ordered = array.transpose(*batch, *([CHANNEL] if CHANNEL in dims else []), SPACE)
    values = np.asarray(ordered.values)
    if CHANNEL in dims:
        _check_channels(array, metadata)
    else:
        values = values[..., None, :]
    _check_units(array, metadata)
    state_time = float(array.coords[TIME]) if time is None and TIME in array.coords else time or 0.0
    found = {name: _along(array.coords[name], batch) for name in metadata.coefficients if name in array.coords}
    state = State(values, {**found, **coefficients}, state_time, metadata)
    if SPACE in array.coords:
        _check_positions(np.asarray(array.coords[SPACE].values), metadata)
    return state


def _check_rank(metadata: FieldMetadata) -> None:
    if metadata.grid.rank != 1:
        raise InputError(
            f"Labelled arrays have one axis of space, 'x'; '{metadata.equation}' has {metadata.grid.rank}. Use plain "
            "arrays (*batch, channel, x, y)."
        )


def _along(coordinate: Any, batch: tuple[str, ...]) -> Any:
    return coordinate.transpose(*batch).values if coordinate.dims else float(coordinate)


def _check_channels(array: Any, metadata: FieldMetadata) -> None:
    if CHANNEL in array.coords:
        found = tuple(str(name) for name in array.coords[CHANNEL].values)
        if found != metadata.channels:
            raise InputError(f"The array has the channels {list(found)}; {list(metadata.channels)} were expected.")


def _check_units(array: Any, metadata: FieldMetadata) -> None:
    expected = ", ".join(metadata.units)
    for name, found, unit in (
        ("the field", array.attrs.get("units"), expected),
        (SPACE, array.coords[SPACE].attrs.get("units") if SPACE in array.coords else None, metadata.grid.unit),
        (TIME, array.coords[TIME].attrs.get("units") if TIME in array.coords else None, metadata.time_unit),
    ):
        if found is not None and found != unit:
            raise InputError(f"The unit of {name} is '{found}'; the surrogate was trained with '{unit}'. Convert it.")


def _check_positions(x: Any, metadata: FieldMetadata) -> None:
    """Compare spacing, not place: on a periodic domain the equation is the same wherever the corner lies."""
    try:
        axis = regular_axis(np.asarray(x, dtype=np.float64), "x")
    except DataError as error:
        raise InputError(str(error)) from None
    spacing = metadata.grid.spacing[0]
    if abs(axis.spacing - spacing) > _SPACING_TOLERANCE * spacing:
        raise InputError(
            f"The points lie {axis.spacing:g} apart, a domain of {axis.spacing * axis.count:g}; the surrogate was "
            f"trained with {spacing:g}, a domain of {metadata.grid.extent[0]:g}. Another length is another problem: "
            "rescale x, u and the coefficients together."
        )
