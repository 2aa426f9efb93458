"""Which kind of file or folder a path is, judged by what is inside and not by its name.

PDEBench alone has five layouts. Not all of them can be trained on; the others are recognised, so that the answer is
what the file is and what to do, and not that something is missing in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ups.data.catalogue import CATALOGUE
from ups.data.dataset import FORMAT as DATASET_FORMAT
from ups.data.flat_layout import SPACE, TENSOR, TIME
from ups.data.grouped_layout import EQUATION
from ups.data.labelled import ARRAY_SUFFIXES, read_labelled
from ups.data.latents import FORMAT as LATENTS_FORMAT
from ups.data.well import is_well
from ups.errors import DataError, UpsError
from ups.inference.manifest import BUNDLE, read_manifest
from ups.parameters.equations import EQUATIONS

_MOST_LISTED = 40  # datasets and attributes of a file; a grouped file has thousands
_FLOW = ("density", "pressure", "Vx", "Vy", "Vz")
_CONVERT = (
    "Write its fields (trajectories, frames, points) with ups.data.arrays.write_dataset, a call of one line "
    "(docs/own-data.md), then inspect that file."
)
_USE = "Use the snippet below in params/base.yaml, then `make repro`."


class Kind(StrEnum):
    """What a path is."""

    FLAT = "pdebench-flat"
    GROUPED = "pdebench-grouped"
    DARCY = "pdebench-darcy"
    FLOW = "pdebench-flow"
    WELL = "the-well"
    ARRAYS = "arrays"
    DATASET = "ups-dataset"
    LATENTS = "ups-latents"
    SURROGATE = "ups-surrogate"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Recognised:
    """A path and what it turned out to be.

    Attributes:
        path: the file or folder.
        kind: what it is.
        description: the same in a sentence.
        advice: what to do with it.
        usable: whether a command of this project takes it as it is.
        datasets: name -> "shape dtype" of an HDF5 file's datasets.
        attributes: of its root.
    """

    path: Path
    kind: Kind
    description: str
    advice: str
    usable: bool = False
    datasets: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


def recognise(path: Path) -> Recognised:
    """Say what a path is; never fails for what is in it."""
    if path.suffix in ARRAY_SUFFIXES and path.exists():
        return _arrays(path)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        return Recognised(
            path, Kind.FOREIGN, "It does not exist.", "Check the path; `ups data list` names published files."
        )
    try:
        with h5py.File(path, "r") as file:
            return _hdf5(path, file)
    except OSError as error:
        return _no_hdf5(path, str(error))


def _folder(path: Path) -> Recognised:
    if (path / BUNDLE).exists():
        try:
            manifest = read_manifest(path)
        except UpsError as error:
            return Recognised(path, Kind.SURROGATE, "A surrogate bundle that cannot be loaded.", str(error))
        content = {key: value for key, value in manifest.content.items() if key != "files"}
        return Recognised(
            path,
            Kind.SURROGATE,
            f"A trained surrogate with the parts {', '.join(manifest.parts)}.",
            f'Load it with `ups.load("{path}")`, or forecast a file: `ups predict FILE -o forecast.h5 --model {path}`.',
            True,
            {name: f"{entry['bytes']:,} bytes" for name, entry in manifest.content["files"].items()},
            content,
        )
    files = sorted(item.name for item in path.iterdir() if item.suffix in (".h5", ".hdf5"))
    inside = f" It holds {', '.join(files[:8])}." if files else ""
    return Recognised(path, Kind.FOREIGN, f"A folder, no surrogate bundle.{inside}", "Inspect one of the files in it.")


def _arrays(path: Path) -> Recognised:
    try:
        found = read_labelled(path)
        if not found.fields or "x" not in found.coordinates:
            missing = "no field with trajectories, frames and points" if not found.fields else "no coordinate `x`"
            raise DataError(f"It has {missing}.")
    except DataError as error:
        return Recognised(path, Kind.ARRAYS, f"Arrays that `ups data import` cannot take: {error}", _CONVERT)
    equation = found.equation or "EQUATION"
    advice = (
        f"`ups data import {path} -o data/{path.stem}.h5 --equation {equation}` checks them and writes such a file."
    )
    shapes = {name: f"{tuple(array.shape)} {array.dtype}" for name, array in found.fields.items()}
    shapes |= {name: f"{values.shape} {values.dtype}" for name, values in found.coordinates.items()}
    stated = {**({"equation": found.equation} if found.equation else {}), **found.numbers}
    return Recognised(path, Kind.ARRAYS, "Arrays with coordinates.", advice, True, shapes, stated)


def _hdf5(path: Path, file: h5py.File) -> Recognised:
    datasets, attributes = _listed(file), {name: _plain(value) for name, value in file.attrs.items()}
    kind, description, advice, usable = _judge(file, path)
    return Recognised(path, kind, description, advice, usable, datasets, attributes)


def _judge(file: h5py.File, path: Path) -> tuple[Kind, str, str, bool]:
    written = file.attrs.get("format")
    if written == DATASET_FORMAT:
        advice = "The stages read it as artifacts/prepare_data/dataset.h5. Its source file is what `data.path` takes."
        return Kind.DATASET, "The data set that `prepare_data` wrote: split, sub-sampled, audited.", advice, True
    if written == LATENTS_FORMAT:
        advice = "train_operator and train_diffusion read it; there is nothing in it to be chosen as data."
        return Kind.LATENTS, "Latents that `encode_latents` wrote.", advice, True
    rank = file[TENSOR].ndim if isinstance(file.get(TENSOR), h5py.Dataset) else None
    if rank == 3 and "nu" not in file:
        missing = [name for name in (SPACE, TIME) if name not in file]
        if not missing:
            description = "PDEBench's flat layout: tensor (trajectories, frames, points)."
            return Kind.FLAT, description, _USE, True
        advice = f"Add the dataset {' and '.join(missing)}: without it spacing and time step are unknown."
        return Kind.FOREIGN, f"Nearly PDEBench's flat layout: {' and '.join(missing)} missing.", advice, False
    if rank is not None and "nu" in file:
        advice = "One solution per coefficient and no time: set data.path and `ups sweep steady-prior --task darcy2d`."
        return Kind.DARCY, "PDEBench's Darcy flow: coefficient `nu` and steady solution `tensor`.", advice, False
    if any(name in file for name in _FLOW):
        advice = f"Not trainable as it is: several fields in several datasets. {_CONVERT}"
        return Kind.FLOW, "PDEBench's compressible Navier-Stokes: one dataset for each field.", advice, False
    if is_well(file):
        name = _plain(file.attrs.get("dataset_name", "without a name"))
        return Kind.WELL, f"The Well's layout, dataset '{name}'.", _USE, True
    if _is_grouped(file):
        if file.attrs.get(EQUATION) in EQUATIONS:
            return Kind.GROUPED, "PDEBench's grouped layout, with the equation in its attributes.", _USE, True
        advice = f"Not trainable as it is: each trajectory is a group of its own. {_CONVERT}"
        return Kind.GROUPED, "PDEBench's grouped layout: a group with `data` for each trajectory.", advice, False
    return Kind.FOREIGN, _foreign(file), _CONVERT, False


def _is_grouped(file: h5py.File) -> bool:
    first = next(iter(file.values()), None)
    return isinstance(first, h5py.Group) and isinstance(first.get("data"), h5py.Dataset)


def _foreign(file: h5py.File) -> str:
    found: list[tuple[int, str, tuple[int, ...]]] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and item.ndim >= 2:
            found.append((item.size, name, item.shape))

    file.visititems(visit)
    if not found:
        return "HDF5 without any field: no floating-point dataset has two or more axes."
    _, name, shape = max(found)
    return f"HDF5 in a layout that is not known here. Its largest field is `{name}` {shape}."


def _no_hdf5(path: Path, error: str) -> Recognised:
    with path.open("rb") as file:
        start = file.read(64)
    size = f"{path.stat().st_size:,} bytes"
    if "truncated" in error:
        return Recognised(
            path,
            Kind.FOREIGN,
            f"An HDF5 file that was cut off after {size}.",
            f"`ups data fetch {path.name}` goes on where the download stopped."
            if path.name in CATALOGUE
            else "Copy or make it again.",
        )
    known = [
        (b"version https://git-lfs", "A pointer of Git LFS, not the file itself", "Fetch the content: `git lfs pull`."),
        (b"\x93NUMPY", "A NumPy array", f"Load it with numpy.load. {_CONVERT}"),
        (b"PK\x03\x04", "A zip archive, such as a PyTorch file", f"Load it where it comes from. {_CONVERT}"),
        (b"CDF", "NetCDF 3", "Call it .nc; `ups data import` then reads it with xarray."),
        (b"MATLAB 5.0", "A MATLAB file", f"Load it with scipy.io.loadmat. {_CONVERT}"),
        (b"\x1f\x8b", "A gzip archive", "Unpack it, then inspect what was in it."),
        (b"\x80", "A Python pickle; loading one runs code from it", f"Load it only if you made it. {_CONVERT}"),
        (b"<", "HTML or XML: a saved error page of a failed download looks like this", "Fetch the file again."),
    ]
    for sign, what, advice in known:
        if start.startswith(sign):
            return Recognised(path, Kind.FOREIGN, f"{what} ({size}).", advice)
    return Recognised(
        path, Kind.FOREIGN, f"No HDF5 file: {size}, beginning with {start[:16]!r}.", "Fetch or make it again."
    )


def _listed(file: h5py.File) -> dict[str, str]:
    """Return shape and type of the first datasets, without walking through a file of ten thousand groups."""
    found: dict[str, str] = {}

    def visit(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset):
            found[name] = f"{item.shape} {item.dtype}"
        return True if len(found) >= _MOST_LISTED else None

    file.visititems(visit)
    return found


def _plain(value: Any) -> Any:
    """Return an attribute as JSON has it; long ones are cut."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[:8].tolist()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if isinstance(value, int | float | list) else str(value)[:200]
