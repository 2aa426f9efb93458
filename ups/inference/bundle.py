"""From the files of a bundle to models, believing nothing that a file says about itself.

Order: sizes and hashes; the header of the weights file against its length; the model, built from its JSON with no more
memory than the weights justify; names, shapes and types of all tensors; the weights. They are safetensors and JSON: no
code runs from a bundle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from ups.errors import ArtifactError, UpsError
from ups.inference.manifest import Manifest, parse_json
from ups.inference.memory_budget import MemoryBudget
from ups.models.weights import CONFIG, WEIGHTS

# Bounds on what a foreign bundle may claim; the largest surrogate of the project stays far below each.
_LARGEST_NUMBER = 2**14  # of any size in a configuration: layers, widths, points
_MOST_HEADER_BYTES = 16 * 2**20
_SPARE_BYTES = 256 * 2**20  # for what a model computes for itself when it is built
_PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


def load_parts(manifest: Manifest, kinds: Mapping[str, tuple[type[nn.Module], ...]]) -> dict[str, nn.Module]:
    """Build every part of a bundle on the CPU, frozen and in evaluation mode.

    Args:
        manifest: of the bundle.
        kinds: the classes that each part that may occur may be of.

    Raises:
        ArtifactError: if a part is unknown, or its files are altered, foreign, or do not fit each other.
    """
    unknown = sorted(set(manifest.parts) - set(kinds))
    if unknown:
        raise ArtifactError(f"{manifest.folder} has the unknown parts {unknown}; known are {sorted(kinds)}.")
    return {part: _load(manifest, part, kinds[part]) for part in manifest.parts}


def _load(manifest: Manifest, part: str, kinds: tuple[type[nn.Module], ...]) -> nn.Module:
    kind, arguments = _description(manifest, part, kinds)
    weights = f"{part}/{WEIGHTS}"
    path = manifest.folder / weights
    header = _header(manifest, weights)
    # Eight bytes are counted for every value, and initialisation computes with each a few times.
    model = _build(kind, arguments, manifest.folder / part / CONFIG, 16 * manifest.size(weights) + _SPARE_BYTES)
    _check_header(header, model, path)
    state = safetensors.torch.load(manifest.read(weights))
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ArtifactError(f"{path}: '{name}' holds NaN or Inf; a surrogate with it forecasts nothing else.")
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def _description(
    manifest: Manifest, part: str, kinds: tuple[type[nn.Module], ...]
) -> tuple[type[nn.Module], dict[str, Any]]:
    path = manifest.folder / part / CONFIG
    config = parse_json(manifest.read(f"{part}/{CONFIG}"), path)
    named = {kind.__name__: kind for kind in kinds}
    kind = named.get(str(config.get("class")))
    if kind is None:
        expected = " or ".join(f"a {name!r}" for name in named)
        raise ArtifactError(f"{path} describes a {config.get('class')!r}, but {expected} was expected.")
    arguments = config.get("arguments")
    if not isinstance(arguments, dict):
        raise ArtifactError(f"{path} has no `arguments` to build a {kind.__name__} from.")
    _check_numbers(arguments, path)
    return kind, arguments


def _check_numbers(value: Any, path: Path) -> None:
    if isinstance(value, dict | list):
        if len(value) > _LARGEST_NUMBER:
            raise ArtifactError(f"{path} holds a list of {len(value):,} entries; no model of this project does.")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_numbers(inner, path)
    elif isinstance(value, int | float) and not abs(value) <= _LARGEST_NUMBER:
        raise ArtifactError(f"{path} holds the number {value:,}; {_LARGEST_NUMBER:,} is the largest allowed.")


def _build(kind: type[nn.Module], arguments: Mapping[str, Any], path: Path, budget: int) -> nn.Module:
    try:
        with MemoryBudget(budget):
            return kind(**arguments)
    # Whatever a constructor does with arguments that make no sense, the reason is in the file.
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ArithmeticError, MemoryError) as error:
        raise ArtifactError(f"{path} does not describe a {kind.__name__}: {type(error).__name__}: {error}") from None
    except UpsError as error:
        raise ArtifactError(f"{path} does not describe a {kind.__name__}: {error}") from None


def _header(manifest: Manifest, name: str) -> dict[str, Any]:
    """Return the header of a safetensors file, whose lengths are all inside the file."""
    path, size = manifest.folder / name, manifest.size(name)
    start = manifest.begin(name, 8)
    length = int.from_bytes(start, "little")
    if size < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
        if start.startswith(_PICKLE_STARTS):
            raise ArtifactError(
                f"{path} is a Python pickle, not safetensors. Loading a pickle runs code from it, so it is not loaded."
            )
        raise ArtifactError(
            f"{path} is no safetensors file: it claims a header of {length:,} bytes and is {size:,} bytes long."
        )
    header = parse_json(manifest.begin(name, 8 + length)[8:], path)
    header.pop("__metadata__", None)
    expected = 8 + length + sum(_bytes(entry, path) for entry in header.values())
    if expected != size:
        raise ArtifactError(f"{path} is {size:,} bytes long, but its tensors would take {expected:,}.")
    return header


def _bytes(entry: Any, path: Path) -> int:
    try:
        first, last = entry["data_offsets"]
        if type(first) is int and type(last) is int and 0 <= first <= last:
            return last - first
    except (TypeError, KeyError, ValueError):
        pass
    raise ArtifactError(f"{path} is no safetensors file: its header has no valid `data_offsets`.")


def _check_header(header: Mapping[str, Any], model: nn.Module, path: Path) -> None:
    """Compare names, shapes and types of a file's tensors with those of the model that its `config.json` builds."""
    expected = model.state_dict()
    if set(header) != set(expected):
        missing, extra = sorted(set(expected) - set(header)), sorted(set(header) - set(expected))
        raise ArtifactError(f"{path} does not fit its {CONFIG}: missing {missing[:3]}, unexpected {extra[:3]}.")
    for name, tensor in expected.items():
        shape, kind = header[name].get("shape"), header[name].get("dtype")
        if shape != list(tensor.shape) or _TYPES.get(kind) != tensor.dtype:
            raise ArtifactError(
                f"{path} does not fit its {CONFIG}: '{name}' is {json.dumps(shape)} {kind}, "
                f"{list(tensor.shape)} {tensor.dtype} was expected."
            )
