"""Splits by trajectory: sample ranges of the source file, disjoint and deterministic."""

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
        DataError: if a range exceeds the file. `ups.parameters.shared.Splits` has seen that none is empty or shares
            samples with another.
    """
    resolved = {name: range(start, num_samples if stop is None else stop) for name, (start, stop) in ranges.items()}
    for name, rows in resolved.items():
        if rows.stop > num_samples or rows.start >= num_samples:
            raise DataError(
                f"data.splits.{name} = [{rows.start}, {ranges[name][1]}] asks for more than the {num_samples} {what} "
                f"of {path}. Lower the range, or use a larger file (simulate.samples for simulated data)."
            )
    return resolved
