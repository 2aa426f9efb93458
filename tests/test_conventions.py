"""The rules of the code base that a reader relies on: names agree, imports point one way, dvc.yaml is true."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from standin import ROOT

from ups.errors import UpsError
from ups.parameters.files import read_yaml
from ups.parameters.schema import Parameters
from ups.pipeline import stages
from ups.pipeline.imports import closure, direct_imports, foreign_imports

DVC_YAML = yaml.safe_load((ROOT / "dvc.yaml").read_text())
# pipeline.md, section 2: the list that is the authority, in its order.
STAGES = ["simulate", "prepare_data", "train_codec", "encode_latents", "train_operator", "train_diffusion", "distill"]
STAGES += ["train_steady_prior", "train_reward", "train_baseline", "evaluate", "evaluate_ttc"]
SOURCES = sorted([*ROOT.glob("ups/**/*.py"), *ROOT.glob("flows/**/*.py")])

# Which parts of the code may import which others; nothing else.
LEAVES = {"ups", "ups.errors", "ups.parameters"}
ALLOWED = {
    "ups": LEAVES | {"ups.library", "ups.tracking"},  # lazily: the library's front door
    "ups.errors": set(),
    "ups.parameters": {"ups.errors"},
    "ups.data": LEAVES,
    "ups.models": LEAVES | {"ups.data"},
    "ups.training": LEAVES | {"ups.data", "ups.models"},
    "ups.inference": LEAVES | {"ups.data", "ups.models"},
    "ups.evaluation": LEAVES | {"ups.data", "ups.models", "ups.inference"},
    "ups.stages": LEAVES | {"ups.data", "ups.models", "ups.training", "ups.inference", "ups.evaluation"},
    "ups.library": LEAVES | {"ups.data", "ups.inference", "ups.evaluation"},
    "ups.serving": LEAVES | {"ups.inference", "ups.library"},
    "ups.tracking": LEAVES | {"ups.serving"},
    "ups.pipeline": LEAVES | {"ups.tracking"},
    # Reads what runs left behind; the animation makes one forecast with the surrogate that a run wrote.
    "ups.report": LEAVES | {"ups.pipeline", "ups.tracking", "ups.evaluation", "ups.inference", "ups.data"},
    # Looks into files that somebody brings along, with the readers and measures that the stages use; runs nothing.
    "ups.inspection": LEAVES | {"ups.data", "ups.inference", "ups.evaluation"},
    # Looks at the place one works in: what the pipeline and the tracking keep where.
    "ups.doctor": LEAVES | {"ups.pipeline", "ups.tracking"},
    # The command line also shows tables and fetches data; it starts no stage itself.
    "ups.cli": LEAVES
    | {"ups.pipeline", "ups.tracking", "ups.evaluation", "ups.data", "ups.report", "ups.library", "ups.inference"}
    | {"ups.inspection", "ups.doctor"},
    "flows": LEAVES | {"ups.pipeline", "ups.tracking", "ups.report"},
}


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    return max((part for part in ALLOWED if module == part or module.startswith(f"{part}.")), key=len)


def test_stage_names_agree_everywhere():
    modules = {p.stem for p in ROOT.glob("ups/stages/*.py") if "\nINPUTS" in p.read_text()}
    assert list(DVC_YAML["stages"]) == STAGES
    assert modules == set(STAGES)
    assert [name for name in Parameters.model_fields if name in STAGES] == [s for s in STAGES if s != "encode_latents"]
    assert [list(stage["outs"]) for stage in DVC_YAML["stages"].values()] == [[f"artifacts/{s}"] for s in STAGES]


def test_every_section_of_base_yaml_is_a_stage_or_shared():
    shared = {"seed", "task", "data", "latent", "compute"}
    assert set(read_yaml(Path("params/base.yaml"))) - shared <= set(STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_dvc_yaml_says_what_the_stage_reads(name):
    assert [text for text in stages.disagreements() if text.startswith(f"Stage {name}")] == []


@pytest.mark.parametrize("name", STAGES)
def test_the_declarations_read_from_the_source_are_the_real_ones(name):
    module = importlib.import_module(f"ups.stages.{name}")
    fields = module.Params.model_fields.items()
    read = stages.read_stage(name)
    assert read.params == [key for field, info in fields for key in stages.tracked_keys(field, info.annotation)]
    assert read.inputs == list(dict.fromkeys(path.replace("{", "${") for path in module.INPUTS.values()))
    assert name == module.NAME


@pytest.mark.parametrize("name", ["simulate", "train_codec", "evaluate"])
def test_the_closure_holds_every_module_that_is_really_loaded(name):
    """The static closure against the interpreter: what a stage has loaded after its import must be in it."""
    code = f"import sys, ups.stages.{name}; print(*[m for m in sys.modules if m.split('.')[0] == 'ups'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    known = set(closure(f"ups.stages.{name}"))
    for module in result.stdout.split():
        path = ROOT.joinpath(*module.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        relative = file.relative_to(ROOT).as_posix()
        assert relative in known or not holds_code(file), module


def holds_code(file: Path) -> bool:
    """Return whether a file holds more than a docstring."""
    return len(ast.parse(file.read_text()).body) > 1


def test_the_closure_follows_what_it_should(tmp_path):
    files = {
        "ups/__init__.py": '"""Doc."""\ndef __getattr__(name):\n    from ups import heavy\n',
        "ups/a.py": "from ups import b\nfrom ups.c import x\ndef f():\n    import ups.d\n",
        "ups/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ups.e\nelse:\n    import ups.f\n",
        "ups/c/__init__.py": "from .inner import x\n",
        "ups/c/inner.py": "try:\n    from .. import g\nexcept ImportError:\n    pass\n",
        **{f"ups/{name}.py": "" for name in ("d", "e", "f", "g", "heavy")},
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "ups/d.py").write_text("X = 1")
    (tmp_path / "ups/f.py").write_text("X = 1")
    (tmp_path / "ups/g.py").write_text("X = 1")
    expected = ["ups/__init__.py", "ups/a.py", "ups/b.py", "ups/c/__init__.py", "ups/c/inner.py"]
    assert closure("ups.a", tmp_path) == [*expected, "ups/d.py", "ups/f.py", "ups/g.py"]
    (tmp_path / "ups/h.py").write_text("import ups.missing")
    with pytest.raises(UpsError, match=r"h\.py imports ups\.missing"):
        closure("ups.h", tmp_path)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_point_one_way(path):
    module = module_name(path)
    part = part_of(module)
    for imported in direct_imports(module) if part != "flows" else _imports_of_flow(path):
        other = part_of(imported)
        assert other == part or other in ALLOWED[part], f"{module} must not import {imported}"


def _imports_of_flow(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    return [
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module.startswith("ups")
    ]


@pytest.mark.parametrize(
    ("package", "owner"),
    [
        ("mlflow", "ups/tracking/"),
        ("dvc", "ups/pipeline/"),
        ("prefect", "flows/"),
        ("optuna", "ups/pipeline/samplers.py"),
    ],
)
def test_one_place_imports_each_tool(package, owner):
    users = {path.relative_to(ROOT).as_posix() for path in SOURCES if package in foreign_imports(path)}
    assert all(user.startswith(owner) for user in users), users


@pytest.mark.parametrize(
    "module",
    [
        "ups",
        "ups.cli.app",
        "ups.cli.report",
        "ups.tracking",
        "ups.pipeline.publish",
        "ups.pipeline.sweep",
        "ups.evaluation.table",
    ],
)
def test_importing_it_is_light(module):
    heavy = ("torch", "pandas", "mlflow", "prefect", "dvc", "matplotlib")
    code = f"import sys, {module}; print(*[m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.split() == []


@pytest.mark.parametrize("path", [*SOURCES, *sorted(ROOT.glob("tests/*.py"))], ids=lambda path: path.stem)
def test_files_are_short_and_named_by_a_concept(path):
    assert len(path.read_text().splitlines()) <= 500
    assert path.stem not in {"utils", "common", "helpers", "misc"}


def test_lock_is_exact_portable_and_complete():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "torch==2.13.0"
    assert all(line.count("==") == 1 and not set(line) & set(" @+/") for line in lines), "exact, without addresses"
    locked = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["pipeline"],
        *project["optional-dependencies"]["dev"],
    ]
    assert {re.split(r"[=<>\[ ]", text)[0].lower().replace("_", "-") for text in wanted} <= locked
