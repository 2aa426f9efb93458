"""The dataset file: the one file all stages after `prepare_data` read.

Layout (HDF5): attribute `metadata` (JSON of `FieldMetadata`), attribute `format`; one group per split with
`fields` (B, T, C, *space) float32, `coefficients` (B, P) float32 and `index` (B,) int64.
"""

from pathlib import Path

import h5py
import torch

from ups.data.fields import FieldMetadata, Split, Trajectories
from ups.errors import ArtifactError

FORMAT = "ups-dataset-1"


def write_metadata(file: h5py.File, metadata: FieldMetadata) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["metadata"] = metadata.model_dump_json()


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
        raise ArtifactError(f"{path} is not a readable HDF5 file ({error}). Run `dvc repro -f prepare_data`.") from error
    if file.attrs.get("format") != FORMAT:
        found = file.attrs.get("format")
        file.close()
        raise ArtifactError(f"{path} has format {found!r}, not {FORMAT!r}. Run `dvc repro -f prepare_data`.")
    return file
