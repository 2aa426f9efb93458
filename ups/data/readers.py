"""Data files as sources of trajectories: what `prepare_data` reads, whatever the layout.

Shapes: N trajectories in the file, B in a chunk, T frames, C channels, then space; frames and points are those left
after sub-sampling.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import h5py
import numpy as np
import numpy.typing as npt

from ups.data.darcy_layout import PERMEABILITY, DarcySource
from ups.data.fields import Grid
from ups.data.flat_layout import TENSOR, Number
from ups.data.flat_reader import FlatSource
from ups.data.grouped_layout import DATA
from ups.data.grouped_reader import GroupedSource
from ups.data.well import is_well
from ups.data.well_reader import WellSource
from ups.errors import DataError


class Source(Protocol):
    """An open data file.

    Attributes:
        path: the file.
        layout: name of its layout.
        equation: the equation the file itself states, or None.
        coefficients: the numbers it states, by name, each one number or an array (N,) with one for each trajectory;
            empty if it states none. A file that states no equation may have numbers that are no coefficient.
        initial: (N,), number of the initial condition of each trajectory, where several share one; else None.
        channels, units: names and units of the fields.
        time_unit: unit of times.
        grid: the grid after sub-sampling.
        dt: time between two frames after sub-sampling.
        first_time: of the first frame.
        num_samples: trajectories N.
        num_frames: frames T after sub-sampling.
    """

    path: Path
    layout: str
    equation: str | None
    coefficients: dict[str, Number]
    initial: npt.NDArray[np.int64] | None
    channels: tuple[str, ...]
    units: tuple[str, ...]
    time_unit: str
    grid: Grid
    dt: float
    first_time: float
    num_samples: int
    num_frames: int

    def chunks(self, start: int, stop: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the trajectories start .. stop - 1 in order, as arrays (B, T, C, *space) of bounded size."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_source(path: Path, space_stride: int = 1, time_stride: int = 1) -> Source:
    """Open a data file and check everything that can be checked without reading the fields.

    Args:
        path: an HDF5 file in a known layout.
        space_stride: use every n-th grid point; must divide their number, because the grid is periodic.
        time_stride: use every n-th frame, beginning with the first.

    Raises:
        DataError: if the file is missing, not a complete HDF5 file, of an unknown layout, or fails the layout's checks.
    """
    file = _open_hdf5(path)
    try:
        if TENSOR in file and PERMEABILITY in file:
            return DarcySource(file, path, space_stride, time_stride)
        if TENSOR in file:
            return FlatSource(file, path, space_stride, time_stride)
        if is_well(file):
            return WellSource(file, path, space_stride, time_stride)
        if any(isinstance(item, h5py.Group) and DATA in item for item in file.values()):
            return GroupedSource(file, path, space_stride, time_stride)
        raise DataError(
            f"{path} has no dataset '{TENSOR}' (it holds: {', '.join(list(file)[:8]) or 'nothing'}). Expected is one "
            "of PDEBench's layouts: flat (`tensor` (trajectories, frames, points), `x-coordinate`, `t-coordinate`), "
            "Darcy (`nu`, `tensor`), or grouped (`0000/data`, `0000/grid/x`, ...); or The Well's (`t0_fields`, "
            "`dimensions`). `ups data inspect` says what a file is, and `ups data import` makes one from arrays."
        )
    except BaseException:
        file.close()
        raise


def _open_hdf5(path: Path) -> h5py.File:
    if not path.is_file():
        raise DataError(
            f"{path} does not exist. Check `data.path`; `ups data list` names the files that `ups data fetch` "
            "downloads."
        )
    try:
        return h5py.File(path, "r")
    except OSError as error:
        size = path.stat().st_size
        if "truncated file" in str(error):
            raise DataError(
                f"{path} is truncated: it ends after {size:,} bytes, earlier than its own header says. The download or "
                "copy broke off: fetch it again (`ups data fetch` goes on where it stopped)."
            ) from error
        if not h5py.is_hdf5(path):
            with path.open("rb") as raw:
                begin = raw.read(16)
            raise DataError(
                f"{path} ({size:,} bytes) is not an HDF5 file: it begins with {begin!r}. A saved error page of a "
                "failed download looks like this; fetch the file again."
            ) from error
        raise DataError(f"{path} cannot be read as HDF5: {error}. Fetch or make the file again.") from error
