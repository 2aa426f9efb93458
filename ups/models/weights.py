"""Weights on disk: `model.safetensors` beside a `config.json` that says how to build the model again."""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import nn

from ups.errors import ArtifactError

M = TypeVar("M", bound=nn.Module)

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save_model(folder: Path, model: nn.Module, arguments: dict[str, Any], fingerprint: str) -> None:
    """Write weights and configuration into `folder`.

    Args:
        folder: existing folder.
        model: the model; its parameters and persistent buffers are written as they are.
        arguments: keyword arguments that build the model again from its class.
        fingerprint: key of the stage execution that trained it.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    _write_weights(state, folder / WEIGHTS)
    config = {
        "class": type(model).__name__,
        "arguments": arguments,
        "parameters": count_parameters(model),
        "fingerprint": fingerprint,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def load_model(folder: Path, kind: type[M]) -> M:
    """Build the model in `folder` on the CPU, frozen and in evaluation mode.

    The caller names the class, so this module knows none of them: a change in one model's code leaves the stages of
    the others alone.

    Raises:
        ArtifactError: if a file is missing, is no safetensors file, or holds another class or other shapes.
    """
    config = read_config(folder)
    if config.get("class") != kind.__name__:
        raise ArtifactError(
            f"{folder / CONFIG} describes a {config.get('class')!r}, but a {kind.__name__!r} was expected"
        )
    model = kind(**config["arguments"])
    try:
        model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    except FileNotFoundError:
        raise ArtifactError(f"{folder / WEIGHTS} does not exist. Run `dvc repro {folder.name}`.") from None
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise ArtifactError(f"{folder / WEIGHTS} does not fit its config.json: {error}") from None
    return model.eval().requires_grad_(False)


def read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text())
    except FileNotFoundError:
        raise ArtifactError(f"{folder / CONFIG} does not exist. Run `dvc repro {folder.name}`.") from None
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{folder / CONFIG} is not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise ArtifactError(f"{folder / CONFIG} must hold an object, not {type(config).__name__}")
    return config


def _write_weights(state: dict[str, torch.Tensor], path: Path) -> None:
    try:
        safetensors.torch.save_file(state, path)
    except safetensors.SafetensorError as error:  # an I/O error in another coat
        raise OSError(f"{path} cannot be written: {error}") from error


def save_skipped(folder: Path, reason: str) -> None:
    """Write the files of a stage that trained nothing, so that later stages find them and see that it was skipped."""
    _write_weights({}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"status": "skipped", "reason": reason}, indent=2) + "\n")


def is_skipped(folder: Path) -> bool:
    """Tell whether the stage that owns `folder` trained nothing."""
    return read_config(folder).get("status") == "skipped"


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 of the weights file."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def count_parameters(model: nn.Module) -> int:
    """Return the number of real parameters; a complex weight counts as two."""
    return sum(weight.numel() * (2 if weight.is_complex() else 1) for weight in model.parameters())
