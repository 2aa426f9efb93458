"""Physical units <-> normalised units, by the training split's statistics."""

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata


class FieldNormalizer:
    """Per-channel affine map of fields (..., C, *space) to zero mean and unit variance, and back."""

    def __init__(self, metadata: FieldMetadata, device: torch.device | str = "cpu") -> None:
        shape = (-1, *[1] * metadata.grid.rank)
        self.mean = torch.tensor(metadata.normalization.mean, device=device).reshape(shape)
        self.std = torch.tensor(metadata.normalization.std, device=device).reshape(shape)

    def normalize(self, u: Tensor) -> Tensor:
        return (u - self.mean) / self.std

    def denormalize(self, u: Tensor) -> Tensor:
        return u * self.std + self.mean
