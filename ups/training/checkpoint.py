"""Epoch checkpoints: what a killed training goes on from, and only that very training."""

from __future__ import annotations

import hashlib
import pickle
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from ups.parameters.section import Section

FOLDER = Path(".ups/checkpoints")


class Checkpoint:
    """The latest epoch of one training, kept outside the stage's outputs until the stage has succeeded.

    Args:
        stage: name of the stage.
        fingerprint: key of the execution; a checkpoint with another key is never used.
        folder: where checkpoints lie.
    """

    def __init__(self, stage: str, fingerprint: str, folder: Path = FOLDER) -> None:
        self.fingerprint = fingerprint
        self.path = folder / f"{stage}.pt"
        self._temporary = self.path.with_suffix(".tmp")

    def save(self, state: dict[str, Any]) -> None:
        """Write `state` in one step: a process killed at any moment leaves the old or the new file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.save({"fingerprint": self.fingerprint, **state}, self._temporary)
        except RuntimeError as error:  # torch's writer reports a full disk this way
            raise OSError(f"{self._temporary} cannot be written: {error}") from error
        self._temporary.replace(self.path)

    def load(self) -> dict[str, Any] | None:
        """Return the stored state, or None when there is none that belongs to this execution."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            warnings.warn(f"{self.path} cannot be read ({error}); training starts from the beginning", stacklevel=2)
            return None
        return state if state.get("fingerprint") == self.fingerprint else None

    def delete(self) -> None:
        for path in (self.path, self._temporary):  # a process killed while writing leaves the second
            path.unlink(missing_ok=True)


def fingerprint(stage: str, params: Section, inputs: Iterable[Path]) -> str:
    """Return the key of a stage execution: its parameters, the content of its inputs, and its code.

    The code is that of every module of this package the process has imported, which includes all the stage uses.
    """
    digest = hashlib.sha256(f"{stage}\n{params.model_dump_json()}\n".encode())
    for path in sorted(inputs):
        digest.update(f"{path}\n{_file_hash(path)}\n".encode())
    for name, module in sorted(sys.modules.items()):
        source = getattr(module, "__file__", None)
        if name.partition(".")[0] == "ups" and source:
            digest.update(f"{name}\n{_file_hash(Path(source))}\n".encode())
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
