"""The audit of a prepared data set: no initial condition in two splits, and the figures one wants to have seen.

Two splits that share an initial condition make every test score meaningless, and a copy need not be exact: a file that
was re-saved, filtered or made with another viscosity holds the same initial conditions to a few digits. So splits are
compared byte by byte and by the nearest relative distance |a - b| / max(|a|, |b|) in L2 over the first frames.

Shapes: B trajectories, T frames, C channels, F = C * points values of a first frame.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ups.data.statistics import ChannelStatistics
from ups.errors import DataError

_BLOCK = 1024  # rows compared at a time: 1024 x 1024 distances are 8 MiB

Array = npt.NDArray[Any]
Name = TypeVar("Name", bound=str)


class SplitAudit:
    """What is remembered of one split while it passes by in chunks.

    Args:
        samples: positions of its trajectories in the source file, in the order in which they pass.
        changes: a chunk (B, T, C, *space) and its coefficients (B, P) -> the largest change in time of each quantity
            that the equation conserves.
        periodic: whether the domain is periodic.
    """

    def __init__(
        self,
        samples: Sequence[int],
        changes: Callable[[npt.NDArray[np.float32], Array], Mapping[str, float]] | None = None,
        periodic: bool = True,
    ) -> None:
        self.samples = samples
        self._changes, self._periodic = changes, periodic
        self.largest_changes: dict[str, float] = {}
        self.statistics = ChannelStatistics()
        self.largest_drift = 0.0
        self.largest_wrap = 0.0
        self._initial: list[npt.NDArray[np.float32]] = []

    def update(self, fields: npt.NDArray[np.float32], coefficients: Array | None = None) -> None:
        """Take in a chunk (B, T, C, *space) with its coefficients (B, P)."""
        self.statistics.update(fields)
        self._initial.append(fields[:, 0].reshape(len(fields), -1).copy())
        integral = fields.mean(axis=tuple(range(3, fields.ndim)), dtype=np.float64)
        self.largest_drift = max(self.largest_drift, float(np.abs(integral - integral[:, :1]).max()))
        for axis in range(2, fields.ndim - 1) if self._periodic else ():
            self.largest_wrap = max(self.largest_wrap, _wrap_ratio(np.moveaxis(fields[:, -1], axis, -1)))
        measured = self._changes(fields, coefficients) if self._changes and coefficients is not None else {}
        for name, value in measured.items():
            self.largest_changes[name] = max(self.largest_changes.get(name, 0.0), value)

    @property
    def initial(self) -> npt.NDArray[np.float32]:
        """First frames, (B, F)."""
        return np.concatenate(self._initial)

    def report(self) -> dict[str, Any]:
        seen = self.samples[: len(self.initial)]
        return {
            "samples": [min(seen), max(seen) + 1],
            "minimum": self.statistics.minimum,
            "maximum": self.statistics.maximum,
            "mean": self.statistics.mean.tolist(),
            "std": self.statistics.std.tolist(),
            # max |mean u(t) - mean u(0)| over all channels: 0 but for rounding where the mean is conserved and all
            # points are there; sub-sampled points alias fronts, and then it is not.
            "largest_change_of_mean": self.largest_drift,
            # max |Q(t) - Q(0)| of what the equation declares to be conserved.
            "largest_change_of_conserved": self.largest_changes,
            # jump across the periodic boundary over the largest jump inside, last frame; above 1 only where the
            # steepest place happens to lie there, far above 1 if the domain is not periodic.
            "largest_wrap_ratio": self.largest_wrap if self._periodic else None,
        }


@dataclass(frozen=True)
class Nearest:
    """The closest pair of first frames from two splits: relative L2 distance and samples of the source file."""

    distance: float
    samples: tuple[int, int]


def check_overlap(splits: Mapping[Name, SplitAudit], min_distance: float) -> dict[str, Any]:
    """Compare the initial conditions of all pairs of splits.

    Args:
        splits: the audited splits.
        min_distance: smallest relative L2 distance that two initial conditions of different splits may have.

    Returns:
        A JSON-ready report: nearest pair for each pair of splits, and duplicates inside each split (allowed).

    Raises:
        DataError: if an initial condition occurs in two splits, byte by byte or closer than `min_distance`.
    """
    hashes = {name: [_digest(row) for row in audit.initial] for name, audit in splits.items()}
    samples = {name: audit.samples for name, audit in splits.items()}
    # Several regimes begin with the same fields: each is compared once, under the number of its first sample.
    once = {name: _first_of_each(values) for name, values in hashes.items()}
    initial = {name: audit.initial[once[name]] for name, audit in splits.items()}
    report: dict[str, Any] = {"min_distance": min_distance, "nearest": {}}
    for first, second in itertools.combinations(splits, 2):
        _refuse_identical(first, second, hashes, samples)
        pair = nearest_pair(initial[first], initial[second])
        rows = once[first][pair.samples[0]], once[second][pair.samples[1]]
        nearest = Nearest(pair.distance, (int(samples[first][rows[0]]), int(samples[second][rows[1]])))
        if nearest.distance < min_distance:
            raise DataError(
                f"sample {nearest.samples[0]} ({first}) and sample {nearest.samples[1]} ({second}) begin with almost "
                f"the same field: their relative L2 distance is {nearest.distance:.2e}, below "
                f"prepare_data.min_distance = {min_distance:.2e}. Scores on {second} would measure memory. Remove the "
                "copies or move them into one split."
            )
        report["nearest"][f"{first}/{second}"] = {"distance": nearest.distance, "samples": list(nearest.samples)}
    report["duplicates_inside"] = {name: len(values) - len(set(values)) for name, values in hashes.items()}
    return report


def nearest_pair(first: Array, second: Array) -> Nearest:
    """Find the closest rows of two arrays (B1, F) and (B2, F) by |a - b| / max(|a|, |b|); `samples` are rows.

    Squared distances come from a product of matrices in float64; cancellation there leaves about 1e-8 of relative
    distance, far below any sensible threshold, and the distance of the pair found is computed anew without it.
    """
    best, pair = float("inf"), (0, 0)
    for i in range(0, len(first), _BLOCK):
        a = first[i : i + _BLOCK].astype(np.float64)
        a_squares = np.square(a).sum(axis=1)
        for j in range(0, len(second), _BLOCK):
            b = second[j : j + _BLOCK].astype(np.float64)
            b_squares = np.square(b).sum(axis=1)
            squares = a_squares[:, None] + b_squares - 2 * (a @ b.T)
            scale = np.maximum(np.maximum(a_squares[:, None], b_squares), np.finfo(np.float64).tiny)
            ratio = squares / scale
            smallest = int(ratio.argmin())
            if ratio.flat[smallest] < best:
                row, column = np.unravel_index(smallest, ratio.shape)
                best, pair = float(ratio.flat[smallest]), (i + int(row), j + int(column))
    a, b = first[pair[0]].astype(np.float64), second[pair[1]].astype(np.float64)
    length = max(float(np.linalg.norm(a)), float(np.linalg.norm(b)), np.finfo(np.float64).tiny)
    return Nearest(float(np.linalg.norm(a - b)) / length, pair)


def _refuse_identical(
    first: Name, second: Name, hashes: Mapping[Name, list[bytes]], samples: Mapping[Name, Sequence[int]]
) -> None:
    where = {digest: row for row, digest in enumerate(hashes[first])}
    shared = [(where[digest], row) for row, digest in enumerate(hashes[second]) if digest in where]
    if shared:
        one, other = shared[0]
        raise DataError(
            f"{len(shared)} initial condition(s) are in both {first} and {second}, byte for byte: sample "
            f"{samples[first][one]} equals sample {samples[second][other]}. Scores on {second} would measure "
            "memory. Remove the copies or move them into one split."
        )


def _first_of_each(hashes: list[bytes]) -> list[int]:
    """Return the first row of each distinct field, in order."""
    return sorted({digest: row for row, digest in reversed(list(enumerate(hashes)))}.values())


def _digest(row: npt.NDArray[np.float32]) -> bytes:
    # Adding zero turns -0.0 into 0.0, which compare equal and differ in bytes.
    return hashlib.blake2b((row + np.float32(0)).tobytes(), digest_size=16).digest()


def _wrap_ratio(frame: npt.NDArray[np.float32]) -> float:
    """Return the largest |u_0 - u_{X-1}| / max_i |u_{i+1} - u_i| along the last axis of frames (B, C, ..., X)."""
    across = np.abs(frame[..., 0] - frame[..., -1])
    inside = np.abs(np.diff(frame, axis=-1)).max(axis=-1)
    varying = inside > 0
    return float((across[varying] / inside[varying]).max(initial=0.0))
