"""Latents on disk: one contiguous float32 dataset per split, which can be mapped into memory.

Layout (HDF5): `<split>/latents` (B, T, N, D), `<split>/coefficients` (B, P); attributes `format`, `metadata` (JSON of
`FieldMetadata`) and `codec`, the SHA-256 of the codec's weights. B trajectories, T frames, N tokens, D latent width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import torch
from torch import Tensor

from ups.data.fields import FieldMetadata, Split
from ups.data.write_errors import check_space, plain_write_errors
from ups.errors import ArtifactError

FORMAT = "ups-latents-1"


@dataclass(frozen=True)
class Latents:
    """Encoded trajectories of one split.

    Attributes:
        tokens: (B, T, N, D).
        coefficients: (B, P).
        metadata: of the fields that were encoded.
        codec: SHA-256 of the weights that encoded them.
    """

    tokens: Tensor
    coefficients: Tensor
    metadata: FieldMetadata
    codec: str

    def to(self, device: torch.device | str) -> Latents:
        return Latents(self.tokens.to(device), self.coefficients.to(device), self.metadata, self.codec)


class LatentsWriter:
    """Write a latents file split by split; use it as a context manager.

    Args:
        path: the new file.
        metadata: of the fields that are encoded.
        codec: SHA-256 of the weights that encode them.
    """

    def __init__(self, path: Path, metadata: FieldMetadata, codec: str) -> None:
        self.path = path
        self._file = h5py.File(path, "w")
        self._file.attrs["format"] = FORMAT
        self._file.attrs["metadata"] = metadata.model_dump_json()
        self._file.attrs["codec"] = codec

    def __enter__(self) -> LatentsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with plain_write_errors(self.path):
            self._file.close()

    def write(self, split: Split, tokens: Tensor, coefficients: Tensor) -> None:
        """Write one split: tokens (B, T, N, D) and coefficients (B, P), float32, on the CPU."""
        check_space(self.path, tokens.nbytes + coefficients.nbytes)
        with plain_write_errors(self.path):
            group = self._file.create_group(split)
            group["latents"] = tokens.numpy()
            group["coefficients"] = coefficients.numpy()


def read_latents(path: Path, split: Split) -> Latents:
    """Load the latents of one split into memory.

    Raises:
        ArtifactError: if the file is missing, unreadable, or of another format.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                found = file.attrs.get("format")
                raise ArtifactError(f"{path} has format {found!r}, not {FORMAT!r}. Run `dvc repro -f encode_latents`.")
            return Latents(
                tokens=torch.from_numpy(file[split]["latents"][:]),
                coefficients=torch.from_numpy(file[split]["coefficients"][:]),
                metadata=FieldMetadata.model_validate_json(file.attrs["metadata"]),
                codec=str(file.attrs["codec"]),
            )
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist. Run `dvc repro encode_latents`.") from None
    except OSError as error:
        raise ArtifactError(
            f"{path} is not a readable HDF5 file ({error}). Run `dvc repro -f encode_latents`."
        ) from None
