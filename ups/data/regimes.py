"""Regimes: the combinations of coefficients that occur in a data file, and which of them a model is trained on.

A file may hold one initial condition under several coefficients (all of PDEBench's files of Burgers' equation begin
with the same 10,000 fields). Splits are therefore made by initial condition, alike in every regime.

Shapes: N trajectories of a file, P coefficients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ups.data.fields import Split
from ups.data.readers import Source
from ups.data.splits import resolve_splits
from ups.errors import DataError
from ups.parameters.equations import EQUATIONS
from ups.parameters.shared import SAME, Data, Task, listed

_SHOWN = 8  # values named in a message

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Table = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """The trajectories of a file.

    Attributes:
        coefficients: (N, P), in the equation's order.
        initial: (N,), number of the initial condition of each; the same number under several coefficients is the
            same field.
        trained: (N,), whether the regime is one that is trained on.
    """

    coefficients: Table
    initial: npt.NDArray[np.int64]
    trained: npt.NDArray[np.bool_]

    @property
    def shared(self) -> bool:
        """Whether initial conditions occur in several trajectories."""
        return len(np.unique(self.initial)) < len(self.initial)

    def rows(self, initial: range, only_trained: bool) -> Rows:
        """Return the positions of the trajectories that begin with `initial`, by initial condition, then by regime."""
        chosen = (self.initial >= initial.start) & (self.initial < initial.stop) & (self.trained | (not only_trained))
        found = np.flatnonzero(chosen)
        return found[np.argsort(self.initial[found], kind="stable")]


def assign(source: Source, task: Task, data: Data) -> tuple[Samples, list[str]]:
    """Return the coefficients and initial conditions of all trajectories of a file, and notes for the user.

    The file's own coefficients come before the task's. Where a file or a task has several regimes they must be the
    same ones, so that no trajectory is trained on, or tested, that the parameters do not name.

    Raises:
        DataError: if the file holds another equation, or other regimes, or does not say its coefficients where the task
            has several.
    """
    names = EQUATIONS[task.equation].coefficient_names
    notes = _check_equation(source, task)
    given: Mapping[str, float | Table] = {
        name: source.coefficients[name] for name in names if name in source.coefficients
    }
    columns = []
    for name in names:
        known = listed(task.coefficients[name])
        value = given.get(name, known[0])
        if name not in given and len(known) > 1:
            raise DataError(
                f"{source.path} does not say the {name} of its trajectories, and task.coefficients.{name} lists "
                f"{len(known)} values. Add it to the file (docs/data.md: one number for all, or one for each "
                "trajectory), or give the task the one value that the file holds."
            )
        if name not in given:
            notes.append(f"{source.path} does not state its {name}; task.coefficients.{name} = {value:g} is taken.")
        columns.append(np.broadcast_to(np.asarray(value, dtype=np.float64), (source.num_samples,)))
    table = np.stack(columns, axis=1)
    several = len(task.regimes) > 1 or len(np.unique(table, axis=0)) > 1
    if several:
        table = _matched(table, task, names, source)
    else:
        notes += [
            f"{source.path} was made with {name} = {value:g}, task.coefficients.{name} is "
            f"{task.regimes[0][name]:g}; the file's value is used."
            for name, value in zip(names, table[0], strict=True)
            if not np.isclose(value, task.regimes[0][name], rtol=SAME, atol=0)
        ]
    others = {name: value for name, value in source.coefficients.items() if name not in names}
    if others:
        said = ", ".join(f"{name} = {value:g}" if isinstance(value, float) else name for name, value in others.items())
        notes.append(f"{source.path} also states {said}, which are no coefficients of '{task.equation}'.")
    initial = np.arange(source.num_samples) if source.initial is None else source.initial
    return Samples(table, initial.astype(np.int64), _trained(table, names, task, data)), notes


def split(source: Source, samples: Samples, data: Data) -> dict[Split, Rows]:
    """Return the trajectories of each split: those of its initial conditions, for training the trained regimes alone.

    Raises:
        DataError: if the ranges overlap or find nothing, see also `resolve_splits`.
    """
    ranges = {name: getattr(data.splits, name) for name in SPLITS}
    what = "initial conditions" if samples.shared else "trajectories"
    initial = resolve_splits(ranges, int(samples.initial.max()) + 1, str(source.path), what)
    rows = {name: samples.rows(initial[name], only_trained=name != "test") for name in SPLITS}
    for name, found in rows.items():
        if not len(found):
            raise DataError(
                f"data.splits.{name} = [{initial[name].start}, {initial[name].stop}] finds no trajectory of "
                f"{source.path}: none that is {'in it' if name == 'test' else 'trained on'} begins with one of these "
                "initial conditions. Change the range, or data.train_on."
            )
    return rows


def chunks(source: Source, rows: Rows) -> Iterator[tuple[range, npt.NDArray[np.float32]]]:
    """Yield trajectories in the order of `rows`, as positions in the file and arrays (B, T, C, *space)."""
    for part in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
        start = int(part[0])
        for fields in source.chunks(start, int(part[-1]) + 1):
            yield range(start, start + len(fields)), fields
            start += len(fields)


def _check_equation(source: Source, task: Task) -> list[str]:
    if source.equation is None:
        return [f"{source.path} does not say which equation it holds; task.equation = '{task.equation}' is taken."]
    if source.equation != task.equation:
        raise DataError(
            f"{source.path} holds the equation '{source.equation}', but task.equation is '{task.equation}'. Choose the "
            "task that fits the file, or another data.path."
        )
    return []


def _matched(table: Table, task: Task, names: Sequence[str], source: Source) -> Table:
    """Return the table with each value replaced by the task's, to which it is equal but for rounding."""
    declared = np.array([[regime[name] for name in names] for regime in task.regimes])
    equal = np.isclose(table[:, None], declared, rtol=SAME, atol=0).all(2)  # (N, R)
    unknown = np.unique(table[~equal.any(1)], axis=0)
    if len(unknown):
        raise DataError(
            f"{source.path} holds {_words(unknown, names)}, which task.coefficients does not name: it has "
            f"{_words(declared, names)}. Name every value of the file there; data.train_on says which are trained on."
        )
    absent = declared[~equal.any(0)]
    if len(absent):
        raise DataError(
            f"{source.path} holds no trajectory with {_words(absent, names)}, which task.coefficients names; it has "
            f"{_words(np.unique(table, axis=0), names)}. Take out of the task what is not there, or make the data "
            "again."
        )
    return declared[equal.argmax(1)]


def _trained(table: Table, names: Sequence[str], task: Task, data: Data) -> npt.NDArray[np.bool_]:
    foreign = sorted(set(data.train_on or {}) - set(names))
    if foreign:
        raise DataError(f"data.train_on names {foreign}; the coefficients of '{task.equation}' are {list(names)}.")
    regimes, where = np.unique(table, axis=0, return_inverse=True)
    chosen = np.array([data.trains_on(dict(zip(names, regime.tolist(), strict=True))) for regime in regimes])
    if not chosen.any():
        raise DataError(
            f"data.train_on = {data.train_on} leaves no regime of the file; it has {_words(regimes, names)}."
        )
    return np.asarray(chosen[where.reshape(-1)])


def _words(regimes: Table, names: Sequence[str]) -> str:
    shown = "; ".join(
        ", ".join(f"{name} = {value:g}" for name, value in zip(names, regime, strict=True))
        for regime in regimes[:_SHOWN]
    )
    return shown + (f" and {len(regimes) - _SHOWN} more" if len(regimes) > _SHOWN else "")
