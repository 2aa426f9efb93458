"""What every stage does around its own work: read parameters, check inputs, write outputs as a whole or not at all.

A stage module holds a `Params` section, `INPUTS` and `run(params, inputs, outputs) -> metrics`, and ends with
`if __name__ == "__main__": main(...)`. It reads and writes files only; who calls or tracks it is not its affair.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ups.errors import ArtifactError, UpsError
from ups.parameters.files import BASE, read_yaml, validate_section
from ups.parameters.section import Section
from ups.stages.provenance import provenance

ARTIFACTS = Path("artifacts")

P = TypeVar("P", bound=Section)
Metrics = Mapping[str, Any]
Inputs = dict[str, Path]


def main(name: str, params: type[P], inputs: Mapping[str, str], run: Callable[[P, Inputs, Path], Metrics]) -> None:
    """Run a stage as a process: exit code 0, or 1 with one paragraph on stderr.

    Args:
        name: the stage, also the name of its folder under `artifacts/`.
        params: the sections the stage reads; each is a section of `params/base.yaml`.
        inputs: paths of the files the stage reads, relative to the project; a reference such as `{data.path}` is
            filled in.
        run: the stage's work. It writes into the folder it is given and returns its metrics.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        execute(name, params, inputs, run)
    except UpsError as error:
        _fail(name, str(error))
    except OSError as error:
        what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        _fail(name, f"{what.rstrip('.')}. {_advice(error)}")
    except KeyboardInterrupt:
        _fail(name, "interrupted. Nothing half-written was kept; run the same command again to go on.")


def execute(
    name: str, params: type[P], inputs: Mapping[str, str], run: Callable[[P, Inputs, Path], Metrics]
) -> Metrics:
    """Run a stage in this process; see `main`. Returns the metrics it wrote."""
    raw = read_yaml(BASE)
    sections = validate_section(params, {key: raw[key] for key in params.model_fields if key in raw})
    paths = {key: _fill(value, raw) for key, value in inputs.items()}
    for path in paths.values():
        if not path.exists():
            raise ArtifactError(f"{path} does not exist. {_origin(path)}")
    started = time.time()
    with _replacing(ARTIFACTS / name) as outputs:
        metrics = run(sections, paths, outputs)  # a process that helps another one to train does not come back
        _write_json(outputs / "metrics.json", metrics)
        _write_json(outputs / "provenance.json", provenance(name, started))
    return metrics


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield a fresh folder beside `target` that takes its place on success and vanishes on failure."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    _clear_leftovers(target)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _clear_leftovers(target: Path) -> None:
    """Remove what killed processes left beside `target`; a result they had moved aside is put back."""
    for leftover in target.parent.glob(f".{target.name}.*.*"):
        process, kind = leftover.name.split(".")[-2:]
        if process.isdigit() and not _alive(int(process)):
            if kind == "old" and not target.exists():
                leftover.rename(target)
            else:
                shutil.rmtree(leftover, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and belongs to somebody else
        return True
    return True


def _fill(template: str, raw: Mapping[str, Any]) -> Path:
    """Replace a whole-string reference such as `{data.path}` by the parameter's value."""
    if not (template.startswith("{") and template.endswith("}")):
        return Path(template)
    value: Any = raw
    for key in template[1:-1].split("."):
        value = value[key]
    return Path(value)


def _origin(path: Path) -> str:
    if path.parts[0] == ARTIFACTS.name:
        return f"It is made by the stage `{path.parts[1]}`: run `dvc repro {path.parts[1]}`."
    return "Check `data.path`; `ups data list` names the files that `ups data fetch` can download."


def _write_json(path: Path, content: Metrics) -> None:
    text = json.dumps(_finite(content, path.name), indent=2)
    path.write_text(text + "\n")


def _finite(value: Any, where: str) -> Any:
    """Return JSON-ready content; a NaN in a result is an error here, not a surprise in a table."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item, f"{where}:{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item, where) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ArtifactError(f"{where} is {value}: a result must be a finite number. Look at history.csv of this stage.")
    return value


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _advice(error: OSError) -> str:
    # HDF5 and safetensors report the system's words, but not always its number.
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in str(error):
        return (
            "The disk is full: free some space (`dvc gc --workspace` drops results params/base.yaml no longer asks "
            "for) and run again."
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return "The folder cannot be written: check its owner and whether the disk is mounted read-only."
    return "Earlier artifacts are as they were; mend the cause and run again."


def _fail(name: str, message: str) -> None:
    print(f"{name}: {message}", file=sys.stderr, flush=True)
    sys.exit(1)
