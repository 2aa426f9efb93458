"""Units that a data file states in root attributes; "1", dimensionless, where it states none.

`units` has one for each field, `length_unit` and `time_unit` are those of coordinates and times. PDEBench's own files
have none of the three.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ups.errors import DataError

FIELDS, LENGTH, TIME = "units", "length_unit", "time_unit"
DIMENSIONLESS = "1"


@dataclass(frozen=True)
class Units:
    """Units of the fields, in the order of the channels, of lengths and of times."""

    fields: tuple[str, ...]
    length: str = DIMENSIONLESS
    time: str = DIMENSIONLESS


def stated_units(file: h5py.File, path: Path, channels: tuple[str, ...]) -> Units:
    """Return the units that a file states.

    Raises:
        DataError: if there is not one unit for each channel.
    """
    fields = tuple(_text(unit) for unit in np.atleast_1d(file.attrs.get(FIELDS, (DIMENSIONLESS,) * len(channels))))
    if len(fields) != len(channels):
        raise DataError(
            f"{path} states {len(fields)} unit(s) in its attribute `{FIELDS}`: {list(fields)}; one for each of the "
            f"fields {', '.join(channels)} was expected."
        )
    return Units(fields, *(_text(file.attrs.get(name, DIMENSIONLESS)) for name in (LENGTH, TIME)))


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
