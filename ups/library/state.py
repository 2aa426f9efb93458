"""A state: fields at one time, in physical units, with all that is needed to read them as physics.

Shapes: (*batch) any number of leading axes, C field channels, *space the grid: X points on a line, X, Y on a plane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.errors import InputError

Array = npt.NDArray[Any] | Tensor


@dataclass(frozen=True, eq=False, repr=False)
class State:
    """Fields at one time; cannot be changed, and cannot be made of parts that do not fit each other.

    Made by `Emulator.state`, which knows the metadata. `u` is a copy in float32: a read-only NumPy array if it was
    given as one (or as a list), a tensor on the same device, without its gradient, if it was given as a tensor.

    Attributes:
        u: (*batch, C, *space) in the units `metadata.units`. A single field of a one-channel model may also be
            (*space).
        coefficients: the equation's coefficients by name, each one number or an array (*batch).
        time: in `metadata.time_unit`.
        metadata: equation, channels, units, grid and time step.

    Raises:
        InputError: naming what does not fit, what was expected and what to do.
    """

    u: Array
    coefficients: Mapping[str, Any]
    time: float
    metadata: FieldMetadata

    def __post_init__(self) -> None:
        u = _float32(self.u)
        _check_shape(tuple(u.shape), self.metadata)
        object.__setattr__(self, "u", u)
        object.__setattr__(self, "coefficients", MappingProxyType(self._checked_coefficients()))
        try:
            time = float(self.time)
        except (TypeError, ValueError):
            time = float("nan")
        if not np.isfinite(time):
            raise InputError(f"time is {self.time!r}; one finite number was expected, in units of the data's time.")
        object.__setattr__(self, "time", time)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of (*batch); () for a single field."""
        return tuple(self.u.shape[: -1 - self.metadata.grid.rank])

    @property
    def x(self) -> npt.NDArray[np.float64]:
        """Positions of the values along the first axis of space, (X,), in `metadata.grid.unit`."""
        values: npt.NDArray[np.float64] = self.metadata.grid.coordinates().numpy()
        return values

    @property
    def finite(self) -> npt.NDArray[np.bool_]:
        """(*batch), whether all values of a field are finite; a forecast that diverged is not."""
        u, rank = np.asarray(self.numpy().u), self.metadata.grid.rank
        result: npt.NDArray[np.bool_] = np.isfinite(u).all(axis=tuple(range(-min(u.ndim, rank + 1), 0)))
        return result

    def __getitem__(self, channel: str) -> Array:
        """Return one channel by name, (*batch, *space)."""
        names = self.metadata.channels
        if channel not in names:
            raise InputError(f"There is no channel {channel!r}; there are {list(names)}.")
        rank = self.metadata.grid.rank
        if self.u.ndim == rank:
            return self.u
        where: Any = (..., names.index(channel), *[slice(None)] * rank)
        return self.u[where]

    def numpy(self) -> State:
        """Return this state with `u` as a NumPy array."""
        return replace(self, u=self.u.detach().cpu().numpy()) if isinstance(self.u, Tensor) else self

    def torch(self, device: torch.device | str = "cpu") -> State:
        """Return this state with `u` as a tensor on a device."""
        return replace(self, u=torch.as_tensor(np.array(self.numpy().u)).to(device))

    def to_xarray(self) -> Any:
        """Return an `xarray.DataArray` with coordinates and units; needs xarray."""
        from ups.library.labelled import to_xarray

        return to_xarray(self)

    def __repr__(self) -> str:
        kind = f"torch, {self.u.device}" if isinstance(self.u, Tensor) else "numpy"
        shown = ", ".join(f"{name} {_shown(value)}" for name, value in self.coefficients.items())
        return f"State({self.metadata.equation}, t = {self.time:g}, u {tuple(self.u.shape)} {kind}, {shown})"

    def _checked_coefficients(self) -> dict[str, Any]:
        expected = self.metadata.coefficients
        given = dict(self.coefficients)
        if set(given) != set(expected):
            missing = [name for name in expected if name not in given]
            unknown = [name for name in given if name not in expected]
            said = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(unknown)}"] * bool(
                unknown
            )
            raise InputError(
                f"The equation '{self.metadata.equation}' has the coefficients {list(expected)} ({'; '.join(said)}). "
                f"Write them by name: {', '.join(f'{name}=...' for name in expected)}."
            )
        return {name: _coefficient(name, given[name], self.batch_shape) for name in expected}


def _float32(values: Any) -> Array:
    """Return a float32 copy, of the kind it was given as; NumPy arrays read-only."""
    if isinstance(values, Tensor):
        if values.is_complex():
            raise InputError("u is complex; real fields were expected.")
        return values.detach().to(torch.float32, copy=True)
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "iuf":
            raise ValueError(f"its type is {array.dtype}")
        with np.errstate(over="ignore"):  # what becomes infinite is refused as such
            result = array.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"u is a {type(values).__name__} that is no array of real numbers ({error}). Give a NumPy array, a torch "
            "tensor, an xarray.DataArray or a list of numbers."
        ) from None
    result.setflags(write=False)
    return result


def _check_shape(shape: tuple[int, ...], metadata: FieldMetadata) -> None:
    grid, channels = metadata.grid, metadata.channels
    points, count = grid.points[-1], len(channels)
    names = f"{count} channel{'s' * (count > 1)} ({', '.join(channels)})"
    if (shape == grid.points and count == 1) or (shape[-1 - grid.rank :] == (count, *grid.points) and 0 not in shape):
        return
    if grid.rank > 1:
        expected = ", ".join(map(str, (count, *grid.points)))
        raise InputError(f"u has shape {shape}: (*batch, {expected}) was expected, {names} on the surrogate's grid.")
    if not shape or 0 in shape:
        raise InputError(f"u has shape {shape}: there is nothing in it. (*batch, {count}, {points}) was expected.")
    if shape[-1] != points:
        raise InputError(f"u has shape {shape}. {_other_grid(shape, metadata)}")
    if len(shape) == 1 or shape[-2] != count:
        several = f" If these are {shape[-2]} fields, write u[:, None, :]." if len(shape) == 2 and count == 1 else ""
        raise InputError(
            f"u has shape {shape}: (*batch, channels, points) = (*batch, {count}, {points}) was expected, because the "
            f"surrogate was trained on {names}.{several}"
        )


def _other_grid(shape: tuple[int, ...], metadata: FieldMetadata) -> str:
    grid, given = metadata.grid, shape[-1]
    points, low, high = grid.points[-1], grid.origin[-1], grid.origin[-1] + grid.extent[-1]
    text = (
        f"The surrogate was trained on {points} points of [{low:g}, {high:g}), the centres `surrogate.x`; its encoder "
        f"takes no others. "
    )
    if points in shape[:-1]:
        return text + f"Space is the last axis: move axis {shape.index(points)} there."
    if given % points == 0:
        return text + (
            f"Take one point in {given // points}, u[..., ::{given // points}], if that is how its data were made "
            "(data.space_stride); otherwise average over cells."
        )
    return text + (
        f"Interpolate the {given} values onto them yourself, for what lies between points is not known here. Forecasts "
        "can be read at any points: surrogate.decode(latent, at=points)."
    )


def _coefficient(name: str, value: Any, batch: tuple[int, ...]) -> Any:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {value!r}; a number or an array of numbers was expected.") from None
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or Inf.")
    if array.ndim == 0:
        return float(array)
    if array.shape != batch:
        raise InputError(
            f"{name} has shape {array.shape}, u has the batch {batch}: one number for all fields was expected, or one "
            f"for each, shape {batch}."
        )
    array.setflags(write=False)
    return array


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value.min():g}..{value.max():g}"
