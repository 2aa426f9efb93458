"""The interpreter and the installed packages, against what the project asks for and what it pins."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from ups.doctor.finding import Finding, ok, problem, warn

LOCK = Path("requirements.lock")
PROJECT = Path("pyproject.toml")
_SHOWN = 6


def interpreter() -> Finding:
    """Check version and place of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    found = f"Python {version} in {sys.prefix}"
    own = Path(".venv").resolve()
    if os.environ.get("PYTHONPATH"):
        mend = "Unset it, or use `make`, which does: it shadows what is pinned."
        return warn("python", f"{found}; PYTHONPATH is {os.environ['PYTHONPATH']}", mend)
    if own.is_dir() and Path(sys.prefix).resolve() != own:
        return warn("python", f"{found}, not the project's .venv", "`source .venv/bin/activate`.")
    return ok("python", found)


def packages(lock: Path = LOCK, project: Path = PROJECT) -> Finding:
    """Compare the installed versions with the pinned ones and with the project's own requirements."""
    if not lock.is_file():
        return warn("packages", f"{lock} is not here", "Run `ups doctor` in the project's folder.")
    pinned = read_lock(lock)
    here = {name: installed(name) for name in pinned}
    different = {name: version for name, version in here.items() if version != pinned[name]}
    broken = unmet(project) if project.is_file() else []
    if not different and not broken:
        return ok("packages", f"all {len(pinned)} of {lock}, in the pinned versions")
    names = [f"{name} {version or 'missing'} (pinned {pinned[name]})" for name, version in different.items()]
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    wanted = " ".join(f"{name}=={pinned[name]}" for name in list(different)[:_SHOWN])
    some = f"`pip install --no-deps {wanted}`" if 0 < len(different) <= _SHOWN else f"`pip install -r {lock}`"
    # `make` reinstalls only what its stamp says is old.
    mend = f"{some}, or `rm .venv/.installed` and `make`."
    if broken:
        return problem("packages", f"not what {project} asks for: {', '.join(broken[:_SHOWN])}", mend)
    return warn("packages", f"{len(different)} of {len(pinned)} differ from {lock}: {shown}", mend)


def read_lock(lock: Path) -> dict[str, str]:
    """Return the pinned version of every package, by name."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))
    return {name.strip(): version.strip() for name, version in pairs}


def installed(name: str) -> str | None:
    """Return the installed version, its local part such as +cpu aside, or None."""
    try:
        return metadata.version(name).split("+")[0]
    except metadata.PackageNotFoundError:
        return None


def unmet(project: Path) -> list[str]:
    """Return what the project needs for running the pipeline and is not installed in a fitting version."""
    from packaging.requirements import Requirement

    table = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
    wanted = [*table.get("dependencies", []), *table.get("optional-dependencies", {}).get("pipeline", [])]
    found = []
    for text in wanted:
        needed = Requirement(text)
        version = installed(needed.name)
        if version is None or not needed.specifier.contains(version, prereleases=True):
            found.append(f"{re.sub(r' ', '', text)} ({version or 'missing'})")
    return found


def built_for_cuda() -> str | None:
    """Return the CUDA version that torch was built for; None for a CPU build or where it cannot be told.

    Read from the file that torch itself takes it from: importing torch takes seconds.
    """
    values: Mapping[str, str] = {}
    for file in metadata.files("torch") or []:
        if str(file) == "torch/version.py":
            text = Path(str(file.locate())).read_text(encoding="utf-8")
            values = dict(re.findall(r"^(\w+)\b[^=\n]*= *['\"]([^'\"]+)['\"]", text, re.MULTILINE))
            break
    return values.get("cuda")
