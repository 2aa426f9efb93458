"""The surrogate behind its checks: what `ups.load` returns.

Shapes: (*batch) any number of leading axes, C field channels, *space the grid (X points on a line), d its rank, N
tokens, D latent width, Q query points, M members of an ensemble; B = product of (*batch), P coefficients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.data.reference_frame import Observer
from ups.data.regime_kind import trained_regimes
from ups.errors import InputError
from ups.inference.ensemble import drawing, is_stochastic
from ups.inference.manifest import read_manifest
from ups.inference.surrogate import Mode, Surrogate, assemble
from ups.library.labelled import from_xarray, is_labelled
from ups.library.state import Array, State
from ups.parameters.equations import EQUATIONS

# Deviations from the training mean beyond which values are taken for an error of units; turbulence has none at 20.
_MOST_DEVIATIONS = 20.0
# Coefficients are stored as float32 in some files and as float64 in others.
_COEFFICIENT_TOLERANCE = 1e-5


@dataclass(frozen=True, eq=False, repr=False)
class Latent:
    """A state in latent space.

    Attributes:
        code: what the surrogate's encoder returned, on the surrogate's device.
        observer: in whose frame of reference the surrogate sees the state.
        state: the state it was encoded from.
        surrogate: whose encoder it was; every training has a latent space of its own.
    """

    code: Tensor
    observer: Observer
    state: State
    surrogate: Surrogate

    @property
    def tokens(self) -> Array:
        """(*batch, N, D), of the kind of the state's `u`."""
        tokens = self.code.reshape(*self.state.batch_shape, *self.code.shape[1:])
        return _like(tokens, self.state)

    def __repr__(self) -> str:
        return f"Latent({tuple(self.tokens.shape)} of {self.state!r})"


@dataclass(frozen=True, eq=False, repr=False)
class Emulator:
    """A trained surrogate as a library: states in, states out, and a clear no to what it was not trained for.

    What comes out is like what went in: NumPy for NumPy, tensors on the same device for tensors, a batch for a batch.
    Values are float32, which is what the networks compute in.

    Attributes:
        surrogate: the networks, on tensors and without checks.
        extrapolate: whether coefficients and values far outside the training range are let through.
        checksum: names the bundle it was loaded from; empty if it was not loaded.
        origin: where it was loaded from.
    """

    surrogate: Surrogate
    extrapolate: bool = False
    checksum: str = ""
    origin: str = ""
    keep: Any = None  # what must live as long as this, such as a temporary folder

    @property
    def metadata(self) -> FieldMetadata:
        """Equation, channels, units, coefficients, grid, time step, and what the training data covered."""
        return self.surrogate.metadata

    @property
    def x(self) -> npt.NDArray[np.float64]:
        """The points that fields are given on along the first axis of space, (X,): centres of equal cells."""
        values: npt.NDArray[np.float64] = self.metadata.grid.coordinates().numpy()
        return values

    @property
    def dt(self) -> float:
        """The time that one step takes, in `metadata.time_unit`."""
        return self.metadata.dt

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The step maps it has, see `Surrogate.forecaster`; `assembled` is the one that won on validation."""
        return self.surrogate.modes

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.surrogate.operator.buffers()).device

    def to(self, device: torch.device | str) -> Emulator:
        """Move the networks to a device; inputs may stay where they are."""
        self.surrogate.to(device)
        return self

    def state(self, u: Any, *, time: float | None = None, **coefficients: Any) -> State:
        """Make a state, the only thing that the other methods take.

        Args:
            u: (*batch, C, *space), or (*space) for a single field of a one-channel model; a NumPy array, a tensor, an
                `xarray.DataArray` or a list, in the units `metadata.units`, on the points `x`.
            time: of the state, 0 by default.
            coefficients: the equation's coefficients by name, numbers or arrays (*batch): `viscosity=0.01`.

        Raises:
            InputError: if that is not what the surrogate was trained for.
        """
        if is_labelled(u):
            state = from_xarray(u, self.metadata, coefficients, time)
        else:
            state = State(u, coefficients, 0.0 if time is None else time, self.metadata)
        self._check(state)
        return state

    def step(self, state: State, *, dt: float | None = None, mode: Mode = "assembled") -> State:
        """Return the state one time step `dt` later."""
        return next(self.rollout(state, 1, dt=dt, mode=mode))

    def rollout(
        self, initial: State, steps: int, *, dt: float | None = None, mode: Mode = "assembled"
    ) -> Iterator[State]:
        """Yield the states after `initial` one by one, free-running: encoded once, stepped in latent space.

        Repeated `step` is something else: it decodes and encodes in between. A forecast that diverges goes on with NaN
        (see `State.finite`); nothing is put in its place.

        Args:
            initial: one state or a batch.
            steps: number of time steps.
            dt: only to be sure: the time step must be the one of the training.
            mode: the step map.

        Raises:
            InputError: before the first step, if that is not what the surrogate was trained for.
            ArtifactError: if the surrogate has no such step map.
        """
        self._check_steps(steps, dt)
        self._check_mode(mode)
        fields, coefficients = self._tensors(initial)
        frames = self.surrogate.rollout(fields, coefficients, steps, mode)
        return (self._state(frame, initial, count) for count, frame in enumerate(frames, 1))

    def sample(
        self, initial: State, steps: int, *, members: int, seed: int = 0, dt: float | None = None
    ) -> Iterator[State]:
        """Yield ensembles (M, *batch, C, *space) one step after the other; needs a stochastic corrector.

        Args:
            initial: one state or a batch.
            steps: number of time steps.
            members: size M of the ensemble, at least 2.
            seed: all chance follows from it; the same seed gives the same ensemble on the same device.
            dt: as in `rollout`.

        Raises:
            InputError: if the corrector is deterministic, so that all members would be the same, or as `rollout`.
        """
        self._check_steps(steps, dt)
        self._check_stochastic()
        if isinstance(members, bool) or not isinstance(members, int) or members < 2:
            raise InputError(f"members = {members!r}: an ensemble has at least two.")
        single, coefficients = self._tensors(initial)
        fields = single.repeat(members, *[1] * (single.dim() - 1))
        generator = torch.Generator(device=self.device).manual_seed(seed)
        frames = drawing(self.surrogate, generator).rollout(fields, coefficients.repeat(members, 1), steps, "corrected")
        shape = (*initial.batch_shape, *single.shape[1:])
        ensemble = replace(
            initial,
            u=_like(fields.reshape(members, *shape), initial),
            coefficients={
                name: value if isinstance(value, float) else np.broadcast_to(value, (members, *value.shape))
                for name, value in initial.coefficients.items()
            },
        )
        return (self._state(frame, ensemble, count) for count, frame in enumerate(frames, 1))

    @torch.no_grad()
    def encode(self, state: State) -> Latent:
        """Return a state in latent space."""
        fields, _ = self._tensors(state)
        observer, code = self.surrogate.start(fields)
        return Latent(code, observer, state, self.surrogate)

    @torch.no_grad()
    def decode(self, latent: Latent, *, at: Any = None) -> Array:
        """Return the field of a latent state, on the points `x` or on any others.

        Args:
            latent: from `encode` of this surrogate.
            at: (Q,) positions in the unit of `x`, (Q, d) on a grid of rank d above 1; on a periodic domain any number
                is one. None: the grid's points.

        Returns:
            (*batch, C, *space) or (*batch, C, Q), of the kind of the state's `u`.

        Raises:
            InputError: if `at` is no list of finite positions inside the domain.
        """
        if not isinstance(latent, Latent):
            raise InputError(f"decode takes what encode returned, not a {type(latent).__name__}.")
        if latent.surrogate is not self.surrogate:
            raise InputError("This latent state was encoded by another surrogate; its numbers mean nothing here.")
        if at is None:
            values = self.surrogate.decode(latent.code, latent.observer, 0)
        else:
            values = self.surrogate.decode_at(latent.code, latent.observer, self._fractions(at))
        state = latent.state
        if state.u.ndim == self.metadata.grid.rank:  # given without batch and channel
            return _like(values[0, 0], state)
        return _like(values.reshape(*state.batch_shape, *values.shape[1:]), state)

    def __repr__(self) -> str:
        meta, grid = self.metadata, self.metadata.grid
        sides = (f"[{low:g}, {low + length:g})" for low, length in zip(grid.origin, grid.extent, strict=True))
        lines = [
            f"Surrogate of {meta.equation}: {', '.join(meta.channels)} on {_sizes(grid.points)} points of "
            f"{' x '.join(sides)}, time step {meta.dt:g}",
            *(f"  trained for {said}" for said in self._trained_for()),
            f"  modes: {', '.join(self.modes)}",
        ]
        return "\n".join(lines)

    def _tensors(self, state: State) -> tuple[Tensor, Tensor]:
        """Return fields (B, C, X) and coefficients (B, P) on the networks' device."""
        if not isinstance(state, State):
            names = ", ".join(f"{name}=..." for name in self.metadata.coefficients)
            raise InputError(f"A State was expected, not a {type(state).__name__}: surrogate.state(u, {names}).")
        self._check(state)
        meta = self.metadata
        fields = torch.as_tensor(np.array(state.u) if isinstance(state.u, np.ndarray) else state.u).to(self.device)
        columns = [np.broadcast_to(state.coefficients[name], state.batch_shape) for name in meta.coefficients]
        table = torch.tensor(np.stack(columns, axis=-1), dtype=torch.float32, device=self.device)
        return fields.reshape(-1, len(meta.channels), *meta.grid.points), table.reshape(-1, len(columns))

    def _state(self, frame: Tensor, like: State, count: int) -> State:
        time = like.time + count * self.dt
        return replace(like, u=_like(frame.reshape(tuple(like.u.shape)), like), time=time)

    def _fractions(self, at: Any) -> Tensor:
        positions = at.detach().cpu().numpy() if isinstance(at, Tensor) else at
        try:
            x = np.atleast_1d(np.asarray(positions, dtype=np.float64))
        except (TypeError, ValueError):
            raise InputError(f"at = {at!r} is no list of positions.") from None
        grid = self.metadata.grid
        expected = "(Q,)" if grid.rank == 1 else f"(Q, {grid.rank})"
        if x.ndim != min(grid.rank, 2) or (x.ndim == 2 and x.shape[1] != grid.rank) or not np.isfinite(x).all():
            raise InputError(
                f"at has shape {x.shape} or holds NaN; a list {expected} of finite positions was expected."
            )
        origin, extent = (np.array(side) if grid.rank > 1 else side[0] for side in (grid.origin, grid.extent))
        fraction = (x - origin) / extent
        outside = ((fraction < 0) | (fraction > 1)) & ~np.array(grid.periodic)
        if outside.any():
            raise InputError(f"at holds positions outside the domain, which begins at {grid.origin[0]:g}.")
        wrapped = torch.from_numpy(fraction % 1.0).to(torch.float32)
        return wrapped.remainder(1.0).to(self.device)  # rounding to float32 may reach 1

    def _check(self, state: State) -> None:
        meta = self.metadata
        for name in ("equation", "channels", "units", "coefficients", "dt"):
            mine, theirs = getattr(meta, name), getattr(state.metadata, name)
            if mine != theirs:
                raise InputError(
                    f"The state was made for a surrogate with {name} {theirs!r}; this one was trained with {mine!r}. "
                    "Make states with the surrogate that takes them: surrogate.state(...)."
                )
        if (meta.grid.points, meta.grid.extent) != (state.metadata.grid.points, state.metadata.grid.extent):
            raise InputError(
                f"The state is on {_sizes(state.metadata.grid.points)} points of a domain of length "
                f"{_sizes(state.metadata.grid.extent)}; this surrogate was trained on {_sizes(meta.grid.points)} "
                f"points of {_sizes(meta.grid.extent)}."
            )
        if not state.finite.all():
            where = np.argwhere(~np.isfinite(np.asarray(state.numpy().u)))[0].tolist()
            raise InputError(
                f"u holds NaN or Inf at index {where} (time {state.time:g}). If it came from a rollout, that forecast "
                "diverged."
            )
        if meta.training and meta.training.regimes:
            self._check_signs(state)
        if not self.extrapolate:
            self._check_ranges(state)

    def _check_ranges(self, state: State) -> None:
        anyway = "To forecast all the same: ups.load(..., extrapolate=True)."
        for name, (low, high) in self._ranges().items():
            slack = _COEFFICIENT_TOLERANCE * max(abs(low), abs(high))
            values = np.atleast_1d(state.coefficients[name])
            outside = values[(values < low - slack) | (values > high + slack)]
            if outside.size:
                raise InputError(
                    f"{name} = {outside[0]:g}, but the surrogate was trained for {' and '.join(self._trained_for())}; "
                    f"what it says elsewhere is a guess. {anyway}"
                )
        meta = self.metadata
        u = np.asarray(state.numpy().u, dtype=np.float64).reshape(-1, len(meta.channels), *meta.grid.points)
        for channel, name in enumerate(meta.channels):
            mean, std = meta.normalization.mean[channel], meta.normalization.std[channel]
            largest = float(np.abs(u[:, channel] - mean).max())
            if largest > _MOST_DEVIATIONS * std:
                raise InputError(
                    f"{name} is {largest / std:.0f} standard deviations from the training data's mean (mean {mean:g}, "
                    f"deviation {std:g}, in '{meta.units[channel]}'). Is its unit another? {anyway}"
                )

    def _trained_for(self) -> list[str]:
        """Say for each coefficient what it was trained for: a value, several, or a range."""
        regimes = trained_regimes(self.metadata.training)
        said = []
        for at, (name, span) in enumerate(self._ranges().items()):
            values = sorted({regime[at] for regime in regimes})
            said.append(f"{name} {', '.join(f'{value:g}' for value in values) if len(values) > 1 else _span(span)}")
        return said

    def _check_signs(self, state: State) -> None:
        """Refuse what no equation has: models of several regimes take logarithms of such coefficients."""
        for coefficient in EQUATIONS[self.metadata.equation].coefficients:
            values = np.atleast_1d(state.coefficients[coefficient.name])
            if coefficient.positive and (values <= 0).any():
                raise InputError(
                    f"{coefficient.name} = {values[values <= 0][0]:g}, but '{self.metadata.equation}' needs it above 0."
                )

    def _ranges(self) -> dict[str, tuple[float, float]]:
        training = self.metadata.training
        return dict(zip(self.metadata.coefficients, training.coefficients, strict=True)) if training else {}

    def _check_steps(self, steps: Any, dt: float | None) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
            raise InputError(f"steps = {steps!r}: a whole number of time steps, at least 1, was expected.")
        if dt is None or abs(dt - self.dt) <= 1e-6 * self.dt:
            return
        ratio = dt / self.dt
        whole = round(ratio)
        hint = (
            f"For {dt:g} take {whole} steps, and every {whole}th state of a rollout."
            if whole >= 2 and abs(ratio - whole) < 1e-6 * whole
            else f"It knows the times t + n * {self.dt:g} and none between; train one with another data.time_stride."
        )
        raise InputError(f"dt = {dt:g}, but the surrogate was trained for the time step {self.dt:g}. {hint}")

    def _check_mode(self, mode: str) -> None:
        if mode not in get_args(Mode):
            raise InputError(f"mode = {mode!r}: this surrogate has {', '.join(self.modes)}.")
        self.surrogate.forecaster(cast(Mode, mode))  # says which stage was skipped

    def _check_stochastic(self) -> None:
        corrector = self.surrogate.corrector
        if corrector is None:
            raise InputError(
                "This surrogate has no corrector and gives one forecast per state; sample needs a stochastic one, "
                "which `evaluate` puts into the bundle only if it pays on validation. Use rollout."
            )
        if not is_stochastic(corrector):
            raise InputError(
                f"This surrogate's corrector ({type(corrector).__name__}) is deterministic: it was trained to one "
                "target per state, so an ensemble would be the same forecast many times, or noise that no training "
                "stands behind. Use rollout; for the spread of several trainings, run it on several seeds."
            )


def load_folder(
    folder: Path, *, device: torch.device | str = "cpu", extrapolate: bool = False, origin: str = "", keep: Any = None
) -> Emulator:
    """Load a bundle from a folder.

    Args:
        folder: written by the stage `evaluate` or by `Surrogate.save`.
        device: where the networks go.
        extrapolate: see `Emulator`.
        origin: what to call the place it came from, if not the folder.
        keep: kept alive with the emulator.

    Raises:
        ArtifactError: if the folder is no bundle of this version, was altered, or holds what is not believed.
        InputError: if this machine has no such device.
    """
    manifest = read_manifest(folder)
    surrogate = assemble(manifest).to(_usable(device))
    return Emulator(surrogate, extrapolate, manifest.checksum, origin or str(folder), keep)


def _usable(device: torch.device | str) -> torch.device:
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # torch says no by either
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device '{device}' cannot be used here ({reason}). Take 'cpu', or see `ups doctor`."
        ) from None
    return chosen


def _like(values: Tensor, state: State) -> Array:
    """Return a tensor as the kind of array that a state holds."""
    values = values.detach()
    return values.to(state.u.device) if isinstance(state.u, Tensor) else values.cpu().numpy()


def _sizes(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _span(span: tuple[float, float]) -> str:
    low, high = span
    return f"{low:g}" if low == high else f"from {low:g} to {high:g}"
