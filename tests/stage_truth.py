"""What each stage really reads, asked of the interpreter: the independent side of the mutation table.

Plans know it from `dvc.yaml`, which follows from a static reading of the source. Here every stage's module is imported
in a fresh process and says itself what it loaded, what its functions would load when they are called, and which files
it names; and its parameters are those whose change its validated `Params` notices.
"""

import importlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ups.parameters.files import validate_section
from ups.pipeline.stages import UNTRACKED_SECTIONS

# Runs in the project's folder. Third-party packages are imported once; every stage is imported in a process of its own.
_PROBE = """
import dis, importlib, json, os, sys, types
import torch, numpy, h5py, pydantic, safetensors.torch, yaml

def codes(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)

def named(module, with_body):
    # Modules that a module's functions import when they are called; with its body, all that it names.
    body = compile(open(module.__file__).read(), module.__file__, "exec")
    for code in codes(body):
        if code is body and not with_body:
            continue
        previous = None
        for instruction in dis.get_instructions(code):
            if instruction.opname == "IMPORT_NAME" and instruction.argval.split(".")[0] == "ups":
                yield instruction.argval
                yield from (f"{instruction.argval}.{name}" for name in previous.argval or ())
            previous = instruction

def loaded():
    return {name: module for name, module in sys.modules.items() if name.split(".")[0] == "ups" and module.__file__}

def imported(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name and error.name is not None and not name.startswith(error.name + "."):
            raise
        return None  # the name of something inside a module

def is_package(module):
    return os.path.basename(module.__file__) == "__init__.py"

for stage in sys.argv[1:]:
    sys.stdout.flush()
    if os.fork() == 0:
        own = importlib.import_module(f"ups.stages.{stage}")
        seen = set()
        while new := {name: module for name, module in loaded().items() if name not in seen}:
            seen |= set(new)
            for module in new.values():
                if not is_package(module):  # a package's lazy __getattr__ serves users of the library
                    for name in named(module, with_body=False):
                        imported(name)
        paths = {name: os.path.relpath(module.__file__) for name, module in loaded().items()}
        direct = sorted({paths[name] for name in named(own, with_body=True) if name in paths})
        print(json.dumps([stage, {"code": sorted(paths.values()), "direct": direct, "inputs": own.INPUTS}]))
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0, stage
"""


@dataclass(frozen=True)
class Truth:
    """What one stage reads.

    Attributes:
        code: files under `ups/` that it runs, itself included.
        direct: those that it names in an import itself.
        inputs: paths of the files that it opens, the reference to `data.path` not filled in.
    """

    code: frozenset[str]
    direct: frozenset[str]
    inputs: frozenset[str]

    def files(self, raw: dict[str, Any]) -> set[str]:
        """Return the paths of its inputs with these parameters."""
        return {path.replace("{data.path}", raw["data"]["path"]) for path in self.inputs}


def ask(folder: Path, stages: list[str]) -> dict[str, Truth]:
    """Return the truth on every stage of the project in a folder."""
    command = [sys.executable, "-c", _PROBE, *stages]
    shown = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    found = {}
    for line in shown.splitlines():
        stage, said = json.loads(line)
        # A file of nothing but a docstring runs nothing.
        code = frozenset(path for path in said["code"] if not path.endswith("__init__.py") or _holds_code(folder, path))
        direct = (frozenset(said["direct"]) & code) - {f"ups/stages/{stage}.py"}
        found[stage] = Truth(code, direct, frozenset(said["inputs"].values()))
    assert list(found) == stages
    return found


def _holds_code(folder: Path, path: str) -> bool:
    body = compile((folder / path).read_text(), path, "exec").co_code
    return body not in [compile(nothing, path, "exec").co_code for nothing in ("", '"""A docstring."""')]


def reads(stage: str, raw: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters as a stage sees them, those left out that say where it runs."""
    params = importlib.import_module(f"ups.stages.{stage}").Params
    section = validate_section(params, {key: raw[key] for key in params.model_fields if key in raw})
    return {key: value for key, value in section.model_dump().items() if key not in UNTRACKED_SECTIONS}


def downstream(names: set[str], truth: dict[str, Truth], raw: dict[str, Any]) -> set[str]:
    """Return the stages and all that read what they write."""
    while True:
        more = {
            name
            for name, stage in truth.items()
            if any(path.startswith(f"artifacts/{above}/") for path in stage.files(raw) for above in names)
        }
        if more <= names:
            return names
        names = names | more
