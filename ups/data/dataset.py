"""The dataset file: the one file all stages after `prepare_data` read.

Layout (HDF5): attribute `metadata` (JSON of `FieldMetadata`), attribute `format`; one group per split with
`fields` (B, T, C, *space) float32, `coefficients` (B, P) float32 and `index` (B,) int64.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
import numpy.typing as npt
import torch

from ups.data.fields import FieldMetadata, Split, Trajectories
from ups.data.write_errors import check_space, plain_write_errors
from ups.errors import ArtifactError

FORMAT = "ups-dataset-1"


class DatasetWriter:
    """Write a dataset file split by split and chunk by chunk; use it as a context manager.

    The file gets its name only when the `with` block ends without an error and every declared trajectory was written,
    so a dataset file that exists is complete. Fields are contiguous, so they can be mapped into memory.

        with DatasetWriter(path) as writer:
            writer.begin_split("train", rows, frames, channels, points)
            writer.append(fields, coefficients)          # as often as needed
            writer.finish(metadata)

    Args:
        path: the file to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._file = h5py.File(self._temporary, "w")
        self._group: h5py.Group | None = None
        self._row = 0

    def begin_split(
        self, split: Split, index: Sequence[int], frames: int, channels: int, points: Sequence[int]
    ) -> None:
        """Declare a split; `index` (B,) are the positions of its trajectories in the source file."""
        self._check_full()
        check_space(self._temporary, 4 * len(index) * frames * channels * math.prod(points))
        group = self._file.create_group(split)
        group.create_dataset("fields", shape=(len(index), frames, channels, *points), dtype=np.float32)
        group.create_dataset("index", data=np.asarray(index, dtype=np.int64))
        self._group, self._row = group, 0

    def append(self, fields: npt.NDArray[np.float32], coefficients: npt.NDArray[np.float32]) -> None:
        """Add trajectories (B, T, C, *space) with their coefficients (B, P) to the split begun last."""
        if self._group is None:
            raise ValueError("begin_split comes before append")
        group, stop = self._group, self._row + len(fields)
        if "coefficients" not in group:
            shape = (len(group["index"]), coefficients.shape[1])
            group.create_dataset("coefficients", shape=shape, dtype=np.float32)
        if stop > len(group["index"]):
            raise ValueError(f"{group.name} was declared with {len(group['index'])} trajectories; {stop} were written")
        with plain_write_errors(self.path):
            group["fields"][self._row : stop] = fields
            group["coefficients"][self._row : stop] = coefficients
        self._row = stop

    def finish(self, metadata: FieldMetadata) -> None:
        """Write the metadata, which needs the statistics of the training split."""
        self._check_full()
        self._file.attrs["format"] = FORMAT
        self._file.attrs["metadata"] = metadata.model_dump_json()

    def _check_full(self) -> None:
        if self._group is not None and self._row != len(self._group["index"]):
            raise ValueError(
                f"{self._group.name} was declared with {len(self._group['index'])} trajectories, {self._row} were "
                "written"
            )

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            finished = kind is None and "metadata" in self._file.attrs
            with plain_write_errors(self.path):  # what HDF5 still holds is written here
                self._file.close()
            if finished:
                os.replace(self._temporary, self.path)
            elif kind is None:
                raise ValueError(f"{self.path}: the metadata were never written; call finish() last")
        finally:
            self._temporary.unlink(missing_ok=True)


def read_metadata(path: Path) -> FieldMetadata:
    """Return the metadata of a dataset file.

    Raises:
        ArtifactError: if the file is missing or is not a dataset file of this version.
    """
    with _open(path) as file:
        return FieldMetadata.model_validate_json(file.attrs["metadata"])


def read_split(path: Path, split: Split) -> Trajectories:
    """Load one split into memory.

    Args:
        path: a dataset file written by `prepare_data`.
        split: "train", "validation" or "test".

    Returns:
        The split's trajectories on the CPU, in physical units.

    Raises:
        ArtifactError: if the file is missing or is not a dataset file of this version.
    """
    with _open(path) as file:
        group = file[split]
        return Trajectories(
            fields=torch.from_numpy(group["fields"][:]),
            coefficients=torch.from_numpy(group["coefficients"][:]),
            index=torch.from_numpy(group["index"][:]),
            metadata=FieldMetadata.model_validate_json(file.attrs["metadata"]),
        )


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist. Run `dvc repro prepare_data`.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ArtifactError(
            f"{path} is not a readable HDF5 file ({error}). Run `dvc repro -f prepare_data`."
        ) from error
    if file.attrs.get("format") != FORMAT:
        found = file.attrs.get("format")
        file.close()
        raise ArtifactError(f"{path} has format {found!r}, not {FORMAT!r}. Run `dvc repro -f prepare_data`.")
    return file
