"""The library needs torch, numpy, h5py, safetensors and pydantic, and nothing else of what is installed here."""

import re
import subprocess
import sys
import tomllib

import pytest
from flat_files import fields, write_flat
from small_surrogate import write_bundle
from standin import ROOT

from ups.serving import PACKAGES

SNIPPET = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text().split("## As a library")[1], re.DOTALL)[0]

EVERYTHING = """
from pathlib import Path
import numpy as np
import ups
from ups.library.prediction import Request, predict
from ups.serving import _load_pyfunc, model_arguments

bundle = Path("artifacts/evaluate/surrogate")
surrogate = ups.load(bundle)
state = surrogate.state(np.zeros((2, 1, 32)), viscosity=0.01)
assert len(list(surrogate.rollout(state, 3))) == 3
latent = surrogate.encode(surrogate.step(state))
assert surrogate.decode(latent, at=[0.1, 0.2]).shape == (2, 1, 2)
assert predict(surrogate, Path("in.h5"), Path("out.h5"), Request()).scores["rollout_ic"]["mean"] > 0
assert model_arguments(bundle)["loader_module"] == "ups.serving"
assert _load_pyfunc(str(bundle)).predict({"u": np.zeros((1, 1, 32)), "viscosity": [0.01]}).shape == (1, 1, 1, 32)
for call, message in [(lambda: ups.load("models:/a@b"), "pip install mlflow"), (state.to_xarray, "pip install xarray")]:
    try:
        call()
    except ups.errors.UpsError as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)
print("all of it")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    (folder / "artifacts/evaluate").mkdir(parents=True)
    write_bundle(folder / "artifacts/evaluate/surrogate")
    write_flat(folder / "in.h5", fields(3, 5, 32), {"Nu": 0.01}, t=[0.0, 0.05, 0.1, 0.15, 0.2])
    (folder / "mlflow.db").write_bytes(b"")
    return folder


def run(folder, script):
    """Run a script where nothing else is installed."""
    (folder / "script.py").write_text(script)
    command = [sys.executable, ROOT / "tests/without_packages.py", "script.py"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_the_readme_snippet_runs(folder):
    lines = [line for line in SNIPPET.splitlines() if line and not line.startswith(("import", "#"))]
    assert len(lines) <= 5
    printed = run(folder, SNIPPET).splitlines()
    assert len(printed) == 40
    assert all(re.fullmatch(r"t = \d\.\d\d: .*", line) for line in printed)


def test_all_of_the_library_runs(folder):
    assert run(folder, EVERYTHING) == "all of it\n"


def test_what_it_may_not_import_is_really_hidden(folder):
    for name in ("yaml", "pandas", "mlflow", "scipy"):
        command = [sys.executable, ROOT / "tests/without_packages.py", "script.py"]
        (folder / "script.py").write_text(f"import {name}")
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert f"No module named '{name}'" in result.stderr


def test_the_list_of_requirements_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {re.split(r"[<>=]", text)[0] for text in project["dependencies"]}
    assert set(PACKAGES) == required - {"pyyaml"}  # the parameters' language, for the command line
