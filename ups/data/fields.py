"""Fields with their metadata: what every stage after `prepare_data` computes on.

Shapes: B trajectories, T frames, C field channels, X (Y, Z) grid points, P equation coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from torch import Tensor

from ups.errors import DataError


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Grid(Frozen):
    """A regular grid of cell centres, x_i = origin + (i + 1/2) * extent / points along each axis.

    Attributes:
        extent: length of the domain along each axis, in `unit`.
        points: number of grid points along each axis.
        origin: coordinate of the domain's lower corner.
        periodic: whether each axis is periodic.
        unit: unit of all lengths ("1" is dimensionless).
    """

    extent: tuple[float, ...]
    points: tuple[int, ...]
    origin: tuple[float, ...]
    periodic: tuple[bool, ...]
    unit: str = "1"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.extent) == len(self.points) == len(self.origin) == len(self.periodic) > 0:
            raise ValueError("extent, points, origin and periodic must have one entry for each axis")
        if min(self.points) < 1 or min(self.extent) <= 0:
            raise ValueError("points and extent must be positive")
        return self

    @property
    def rank(self) -> int:
        return len(self.points)

    @property
    def spacing(self) -> tuple[float, ...]:
        return tuple(length / count for length, count in zip(self.extent, self.points, strict=True))

    def coordinates(self, axis: int = 0) -> Tensor:
        """Return the cell centres along one axis, shape (points[axis],), float64."""
        index = torch.arange(self.points[axis], dtype=torch.float64)
        return self.origin[axis] + (index + 0.5) * self.spacing[axis]


class Normalization(Frozen):
    """Per-channel mean and standard deviation of the training split, in physical units."""

    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]


Range = tuple[float, float]


class TrainingRange(Frozen):
    """What the training split covers; outside of it a surrogate extrapolates.

    Attributes:
        coefficients: smallest and largest value of each coefficient, in the order of `FieldMetadata.coefficients`.
        trajectories: number of training trajectories.
        frames: frames of each.
        regimes: the combinations of coefficients it holds, rising, where there are several; empty for a single one.
    """

    coefficients: tuple[Range, ...]
    trajectories: int
    frames: int
    regimes: tuple[tuple[float, ...], ...] = ()

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `regimes` out where there is one: files of a single regime read as they always did."""
        content: dict[str, Any] = handler(self)
        return content if self.regimes else {key: value for key, value in content.items() if key != "regimes"}


class FieldMetadata(Frozen):
    """Everything needed to read a tensor of fields as physics.

    Attributes:
        equation: name of the PDE, e.g. "burgers".
        channels: name of each field channel; `units` holds their units in the same order.
        coefficients: names of the PDE coefficients, in the order of `Trajectories.coefficients`.
        grid: the spatial grid.
        dt: physical time between two stored frames, in `time_unit`; 0 for a static problem.
        normalization: statistics of the training split.
        training: what the training split covers, where that is known.
    """

    equation: str
    channels: tuple[str, ...]
    units: tuple[str, ...]
    coefficients: tuple[str, ...]
    grid: Grid
    dt: Annotated[float, Field(ge=0)]
    time_unit: str = "1"
    normalization: Normalization
    training: TrainingRange | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        statistics = self.normalization
        if not len(self.channels) == len(self.units) == len(statistics.mean) == len(statistics.std) > 0:
            raise ValueError("channels, units and normalization must have one entry for each channel")
        if self.training and len(self.training.coefficients) != len(self.coefficients):
            raise ValueError("training.coefficients must have one range for each coefficient")
        if self.training and any(len(regime) != len(self.coefficients) for regime in self.training.regimes):
            raise ValueError("training.regimes must have one number for each coefficient")
        return self


Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Trajectories:
    """Trajectories of one split in physical units.

    Attributes:
        fields: (B, T, C, *space), float32.
        coefficients: (B, P), PDE coefficients of each trajectory, ordered as `metadata.coefficients`.
        index: (B,), position of each trajectory in the source file.
        metadata: grid, time step, units and normalisation.

    Raises:
        DataError: if shapes do not match the metadata.
    """

    fields: Tensor
    coefficients: Tensor
    index: Tensor
    metadata: FieldMetadata

    def __post_init__(self) -> None:
        meta = self.metadata
        expected = (len(meta.channels), *meta.grid.points)
        if tuple(self.fields.shape[2:]) != expected:
            raise DataError(
                f"fields have shape {tuple(self.fields.shape)}; (trajectories, frames, {', '.join(map(str, expected))})"
                " was expected from the metadata. Run `prepare_data` again."
            )
        rows = self.fields.shape[0]
        if tuple(self.coefficients.shape) != (rows, len(meta.coefficients)) or self.index.shape != (rows,):
            raise DataError(
                f"{rows} trajectories need coefficients of shape ({rows}, {len(meta.coefficients)}) and as many "
                f"indices, not {tuple(self.coefficients.shape)} and {tuple(self.index.shape)}"
            )

    def __len__(self) -> int:
        return self.fields.shape[0]

    @property
    def num_frames(self) -> int:
        return self.fields.shape[1]

    def to(self, device: torch.device | str) -> Trajectories:
        return Trajectories(self.fields.to(device), self.coefficients.to(device), self.index.to(device), self.metadata)

    def select(self, rows: Any) -> Trajectories:
        return Trajectories(self.fields[rows], self.coefficients[rows], self.index[rows], self.metadata)
