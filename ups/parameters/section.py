"""The base class of all parameter sections, and the block that every trained stage shares."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A frozen group of parameters: unknown keys, wrong types and non-finite numbers are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def tracked_keys(cls, name: str) -> list[str]:
        """Return the keys DVC has to track for this section: by default the section as a whole."""
        return [name]


class PartialSection(Section):
    """A few keys of a larger section, for a stage that must not rerun when the others change."""

    @classmethod
    def tracked_keys(cls, name: str) -> list[str]:
        return [f"{name}.{key}" for key in cls.model_fields]


class Optimization(Section):
    """How a stage trains. One *update* is one optimiser step on `pairs_per_update` samples.

    An *epoch* is the interval at which validation runs, a checkpoint is written and a line is logged. It counts
    `updates_per_epoch` updates, so a recipe keeps its number of updates on a data set of any size; with null it is
    one pass over the training samples.

    `optimizer`: `adamw`, or `muon`, which orthogonalises the updates of matrices and leaves all other weights to AdamW.
    Its steps are scaled to AdamW's usual size, so learning rate and weight decay mean the same for both.

    `gradient_clip` bounds the norm of the whole gradient, `clip_per_parameter`, applied before it, that of each
    weight's own; null bounds nothing.
    """

    epochs: NonNegative
    updates_per_epoch: Positive | None
    pairs_per_update: Positive
    micro_batches: Positive = 1
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: PositiveFloat
    min_learning_rate: NonNegativeFloat = 0.0
    schedule: Literal["none", "cosine"] = "none"
    warmup_updates: NonNegative = 0
    weight_decay: NonNegativeFloat = 0.0
    betas: tuple[Fraction, Fraction] = Field(default=(0.9, 0.999), strict=False)
    gradient_clip: PositiveFloat | None = 1.0
    clip_per_parameter: PositiveFloat | None = None
    ema_decay: Fraction | None = 0.999
    max_skipped_updates: Positive = 10

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.pairs_per_update % self.micro_batches:
            raise ValueError(
                f"micro_batches = {self.micro_batches} must divide pairs_per_update = {self.pairs_per_update}"
            )
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate = {self.min_learning_rate} must not exceed learning_rate = {self.learning_rate}"
            )
        return self
