"""The surrogate: encode once, step in latent space, decode every frame.

Shapes: B batch, G given frames, C field channels, X the grid (any rank), N tokens, D latent width, P coefficients.
Fields are in physical units outside this class; the codec sees them from its own frame of reference, in normalised
units.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ups.data.fields import FieldMetadata
from ups.data.reference_frame import Observer, ReferenceFrame
from ups.errors import ArtifactError
from ups.inference.bundle import load_parts
from ups.inference.manifest import BUNDLE, Manifest, read_manifest, write_manifest
from ups.models.codec import Codec
from ups.models.flow import FlowCorrector
from ups.models.operator import LatentOperator
from ups.models.rollout import Advance, Step, repeated, step_map, unroll
from ups.models.teacher import CORRECTORS, Corrector, Teacher, kind_in
from ups.models.weights import CONFIG, WEIGHTS, is_skipped, load_model

Mode = Literal["operator", "zero_correction", "corrected", "student", "assembled"]
Choice = Literal["operator", "corrected", "student"]
# The parts that each choice needs beside codec and operator.
_USED: dict[Choice, tuple[str, ...]] = {"operator": (), "corrected": ("corrector",), "student": ("student",)}
# Calls through C++ with packed weights: a quarter faster than inductor's defaults where a step takes 0.2 ms.
_INDUCTOR = {"cpp_wrapper": True, "freezing": True}
_LEFT_OUT = "it does not pay and `evaluate` left it out of the bundle (its metrics.json, `assembly`, says why)"
_MOST_POINTS = 2**24  # in a bundle; ten times the largest grid of PDEBench


@dataclass(frozen=True)
class Forecast:
    """A surrogate with one of its step maps, callable as a forecaster.

    Attributes:
        step: the step map, decoding.
        evaluations_per_step: network evaluations per time step.
    """

    surrogate: Surrogate
    step: Step
    evaluations_per_step: float

    def compiled(self, steps: int = 4) -> Forecast:
        """Return the same forecaster with its step map compiled for the first batch size it meets, and for each other.

        On a CPU that takes a C++ compiler and some ten seconds, and pays for many small batches:
        `benchmarks/model/throughput.py`.

        Args:
            steps: how many are compiled as one. Each call of a compiled function costs some 20 microseconds.
        """
        several = torch.compile(repeated(self.step, steps), dynamic=False, options=dict(_INDUCTOR))
        return replace(self, step=cast(Step, several))

    @torch.no_grad()
    def __call__(self, given: Tensor, num_steps: int, coefficients: Tensor) -> Tensor:
        """Continue from the last given frame: (B, G, C, X), (B, P) -> (B, num_steps, C, X), physical units."""
        observer, z = self.surrogate.start(given[:, -1])
        frames = list(self.unroll(z, coefficients, num_steps))
        return observer.restore(torch.cat(frames, dim=1), first=1)

    def unroll(self, z: Tensor, coefficients: Tensor, num_steps: int) -> Iterator[Tensor]:
        """Yield decoded frames (B, f, C, X) as the codec sees them, as many at a time as a step predicts."""
        for _, decoded in unroll(self.step, z, coefficients, num_steps):
            assert decoded is not None  # the step map decodes
            yield decoded


@dataclass(frozen=True)
class Surrogate:
    """A trained codec and operator, with a corrector and a student where there are any.

    Attributes:
        choice: the step map of the assembled surrogate, as rollouts of the validation split decided
            (`ups.evaluation.assembly`).
        sources: the folders the parts were loaded from, by part name.
    """

    metadata: FieldMetadata
    codec: Codec
    operator: LatentOperator
    corrector: Corrector | None = None
    student: LatentOperator | FlowCorrector | None = None
    choice: Choice = "operator"
    sources: Mapping[str, Path] = field(default_factory=dict)

    def start(self, u: Tensor) -> tuple[Observer, Tensor]:
        """Return who looks at forecasts from fields `u`, (B, C, X), physical, and the tokens of `u`, (B, N, D)."""
        observer = ReferenceFrame(self.codec.frame, self.metadata).observer(u)
        return observer, self.codec.encode(observer.see(u[:, None])[:, 0])

    def decode(self, z: Tensor, observer: Observer, step: int) -> Tensor:
        """Tokens of time step `step` after the observer's start, (B, N, D) -> (B, C, X) physical."""
        return observer.restore(self.codec.decode(z)[:, None], first=step)[:, 0]

    def reencode(self, z: Tensor) -> Tensor:
        """Return the tokens, (B, N, D), that the next step starts from: `z`, or the encoding of what it decodes to."""
        return self.codec.encode(self.codec.decode(z)) if self.operator.reencode else z

    def decode_at(self, z: Tensor, observer: Observer, x: Tensor) -> Tensor:
        """Tokens of the observer's start, positions as fractions of the domain in [0, 1) -> (B, C, Q) physical.

        Positions are (Q,) on a line, (Q, d) on a grid of higher rank d.
        """
        return self.codec.decode_at(z, x) * observer.scale.flatten(1) + observer.level.flatten(2)

    @torch.no_grad()
    def reconstruct(self, fields: Tensor) -> Tensor:
        """Encode and decode frames: (B, T, C, X) -> (B, T, C, X)."""
        frames = fields.flatten(0, 1).split(1024)
        decoded = [self.decode(z, observer, 0) for observer, z in map(self.start, frames)]
        return torch.cat(decoded).unflatten(0, fields.shape[:2])

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The step maps this surrogate has."""
        modes: list[Mode] = ["operator"]
        if self.corrector is not None:
            modes += ["zero_correction", "corrected"]
        if self.student is not None:
            modes += ["student"]
        return (*modes, "assembled")

    def forecaster(self, mode: Mode = "assembled") -> Forecast:
        """Return a forecaster with one of the step maps.

        `operator`: the operator alone. `corrected`: operator and corrector, whether or not that pays.
        `zero_correction`: the corrected path with the correction set to zero. `student`: the distilled model,
        operator and corrector in one pass, or after the operator a flow of few steps.
        `assembled`: the one of `operator`, `corrected` and `student` that pays, see `choice`.

        Raises:
            ArtifactError: if the surrogate lacks that part.
        """
        if mode == "assembled":
            mode = self.choice
        if mode == "operator":
            return self._stepping(self.operator.advance, 1 / self.operator.frames_per_call)
        if mode == "student":
            if self.student is None:
                raise ArtifactError(f"this surrogate has no student: the stage `distill` was skipped, or {_LEFT_OUT}")
            if isinstance(self.student, FlowCorrector):
                return self._corrected(self.student)
            return self._stepping(self.student.advance, 1)
        if self.corrector is None:
            raise ArtifactError(
                f"this surrogate has no corrector for '{mode}': train_diffusion was skipped, or {_LEFT_OUT}"
            )
        if mode == "zero_correction":
            return self._stepping(lambda z, c: self.operator.advance(z, c) + 0.0, 1)
        return self._corrected(self.corrector)

    def _corrected(self, corrector: Corrector) -> Forecast:
        teacher = Teacher(self.operator, corrector, self.codec)
        return self._stepping(lambda z, c: teacher.step(z, c)[:, None], teacher.evaluations)

    def _stepping(self, advance: Advance, evaluations: float) -> Forecast:
        return Forecast(self, step_map(advance, self.codec, self.operator.reencode), evaluations)

    @torch.no_grad()
    def rollout(self, initial: Tensor, coefficients: Tensor, steps: int, mode: Mode = "assembled") -> Iterator[Tensor]:
        """Yield `steps` frames (B, C, X) after `initial` (B, C, X), one at a time."""
        observer, z = self.start(initial)
        number = 1
        for decoded in self.forecaster(mode).unroll(z, coefficients, steps):
            yield from observer.restore(decoded, first=number).unbind(1)
            number += decoded.shape[1]

    def reduced(self) -> Surrogate:
        """Return the surrogate without the parts that the assembled one does not use."""
        used = ("codec", "operator", *_USED[self.choice])
        return replace(
            self,
            corrector=self.corrector if "corrector" in used else None,
            student=self.student if "student" in used else None,
            sources={part: folder for part, folder in self.sources.items() if part in used},
        )

    def to(self, device: torch.device | str) -> Surrogate:
        for model in (self.codec, self.operator, self.corrector, self.student):
            if model is not None:
                model.to(device)
        return self

    def save(self, folder: Path) -> None:
        """Copy the parts into one self-contained folder that `load_bundle` reads; `folder` is created."""
        for part, source in self.sources.items():
            (folder / part).mkdir(parents=True)
            for file in (WEIGHTS, CONFIG):
                shutil.copy2(source / file, folder / part / file)
        write_manifest(folder, {"assembled": self.choice, "metadata": self.metadata.model_dump(mode="json")})


PARTS: dict[str, tuple[type[nn.Module], ...]] = {
    "codec": (Codec,),
    "operator": (LatentOperator,),
    "corrector": CORRECTORS,
    "student": (LatentOperator, FlowCorrector),
}


def load_surrogate(
    codec: Path, operator: Path, corrector: Path | None, student: Path | None, metadata: FieldMetadata
) -> Surrogate:
    """Put a surrogate together from the folders of its stages; a skipped stage counts as absent.

    Nothing has been decided yet: assembled, it is the operator alone.

    Raises:
        ArtifactError: if a folder lacks its files or holds another kind of model.
    """
    given = {"codec": codec, "operator": operator, "corrector": corrector, "student": student}
    folders = {part: folder for part, folder in given.items() if folder is not None and not is_skipped(folder)}
    parts = {part: load_model(folder, kind_in(folder, PARTS[part])) for part, folder in folders.items()}
    cast(Codec, parts["codec"]).keep_grid()
    return Surrogate(metadata=metadata, sources=folders, **cast(Any, parts))


def load_bundle(folder: Path) -> Surrogate:
    """Load a folder written by `Surrogate.save`; see `ups.inference.bundle` for what is checked.

    Raises:
        ArtifactError: if it is no surrogate bundle of this version, was altered, or its parts do not fit together.
    """
    return assemble(read_manifest(folder))


def assemble(manifest: Manifest) -> Surrogate:
    """Put a surrogate together from a bundle whose list of contents was read; errors as `load_bundle`."""
    content, place = manifest.content, manifest.folder / BUNDLE
    try:
        metadata = FieldMetadata.model_validate(content.get("metadata"))
    except ValidationError as error:
        raise ArtifactError(f"{place} has metadata that cannot be used: {error}") from None
    choice = _choice(content, place)
    missing = {"codec", "operator", *_USED[choice]} - set(manifest.parts)
    if missing:
        raise ArtifactError(f"{place} lacks the parts {sorted(missing)}, without which there is no forecast.")
    parts = load_parts(manifest, PARTS)
    cast(Codec, parts["codec"]).keep_grid()
    sources = {part: manifest.folder / part for part in parts}
    surrogate = Surrogate(metadata=metadata, choice=choice, sources=sources, **cast(Any, parts))
    _check_parts_fit(surrogate, manifest.folder)
    return surrogate


def _check_parts_fit(surrogate: Surrogate, folder: Path) -> None:
    """Forecast one step of the mean field with every mode: parts of different surrogates do not get through that."""
    metadata = surrogate.metadata
    if math.prod(metadata.grid.points) > _MOST_POINTS:
        raise ArtifactError(
            f"{folder / BUNDLE} claims a grid of {metadata.grid.points} points, more than any model has."
        )
    given = torch.zeros(1, 1, len(metadata.channels), *metadata.grid.points)
    coefficients = torch.ones(1, len(metadata.coefficients))
    try:
        frames = [surrogate.forecaster(mode)(given, 1, coefficients) for mode in surrogate.modes]
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ArtifactError(f"The parts in {folder} do not belong together: {error}") from None
    for frame in frames:
        if frame.shape != given.shape:
            shapes = f"{tuple(frame.shape[2:])}, metadata says {tuple(given.shape[2:])}"
            raise ArtifactError(
                f"The parts in {folder} do not belong together: they forecast fields of shape {shapes}."
            )


def _choice(content: Mapping[str, Any], place: Path) -> Choice:
    """Return which step map a bundle uses."""
    choice = content.get("assembled")
    if choice not in get_args(Choice):
        raise ArtifactError(f"{place} does not say which of {', '.join(get_args(Choice))} it uses (`assembled`).")
    return cast(Choice, choice)
