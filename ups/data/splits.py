"""Splits by trajectory: sample ranges of the source file, disjoint and deterministic."""

import itertools
from collections.abc import Mapping
from typing import TypeVar

from ups.errors import DataError

Name = TypeVar("Name", bound=str)


def resolve_splits(
    ranges: Mapping[Name, tuple[int, int | None]], num_samples: int, path: str, what: str = "trajectories"
) -> dict[Name, range]:
    """Turn sample ranges into index ranges of a file.

    Args:
        ranges: [start, stop) by split; stop = None means the end of the file.
        num_samples: trajectories in the file, or initial conditions where several regimes share them.
        path: the file, for error messages.
        what: what is counted.

    Raises:
        DataError: if a range is empty, exceeds the file, or shares samples with another.
    """
    resolved = {name: range(start, num_samples if stop is None else stop) for name, (start, stop) in ranges.items()}
    for name, rows in resolved.items():
        if rows.stop > num_samples or rows.start >= num_samples:
            raise DataError(
                f"data.splits.{name} = [{rows.start}, {ranges[name][1]}] asks for more than the {num_samples} {what} "
                f"of {path}. Lower the range, or use a larger file (simulate.samples for simulated data)."
            )
        if not rows:
            raise DataError(f"data.splits.{name} = [{rows.start}, {rows.stop}] is empty: start must be below stop.")
    ordered = sorted(resolved, key=lambda name: resolved[name].start)
    for first, second in itertools.pairwise(ordered):
        if resolved[second].start < resolved[first].stop:
            shared = range(resolved[second].start, min(resolved[first].stop, resolved[second].stop))
            raise DataError(
                f"data.splits.{first} and data.splits.{second} overlap: both hold the samples {shared.start} to "
                f"{shared.stop - 1}. A trajectory may be in one split only."
            )
    return resolved
