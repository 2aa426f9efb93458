"""What each stage declares in its module, and the same in `dvc.yaml`: the two have to agree.

Read from the source: nothing here imports a stage, so it costs no torch.
"""

from __future__ import annotations

import ast
import importlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ups.errors import UpsError
from ups.parameters.files import BASE
from ups.parameters.section import Section
from ups.pipeline.imports import closure

DVC_YAML = Path("dvc.yaml")

# Where a stage runs is recorded with its result, but is no reason to run it again.
UNTRACKED_SECTIONS = ("compute",)


@dataclass(frozen=True)
class StageModule:
    """A stage as its module declares it.

    Attributes:
        name: also the name of its module, its DVC stage, its section of the parameters and its folder in `artifacts/`.
        params: parameter keys that its result depends on.
        inputs: files it reads, `${data.path}` being DVC's form of a reference to a parameter.
        code: files under `ups/` that it runs.
    """

    name: str
    params: list[str]
    inputs: list[str]
    code: list[str]

    @property
    def command(self) -> str:
        return f"python -m ups.stages.{self.name}"

    @property
    def output(self) -> str:
        return f"artifacts/{self.name}"

    def deps(self) -> list[str]:
        return [*self.inputs, *self.code]

    def in_dvc_yaml(self) -> dict[str, Any]:
        """Return the entries of this stage in `dvc.yaml` that follow from its module."""
        # To DVC, a parameter file without keys would mean the whole file.
        params = [{BASE.as_posix(): self.params}] if self.params else None
        return {"cmd": self.command, "params": params, "deps": self.deps(), "outs": [self.output]}


def stage_names() -> list[str]:
    """Return the stages in the order of `dvc.yaml`."""
    return list(_load()["stages"])


def read_stage(name: str, root: Path = Path(".")) -> StageModule:
    """Read a stage's declarations from its module.

    Raises:
        UpsError: if the module does not exist or does not declare `Params` and a literal `INPUTS`.
    """
    path = root / "ups" / "stages" / f"{name}.py"
    if not path.is_file():
        raise UpsError(f"{DVC_YAML} has a stage '{name}', but {path} does not exist.")
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    inputs = [value.replace("{", "${") for value in _inputs(tree, path).values()]
    return StageModule(name, _params(tree, path), list(dict.fromkeys(inputs)), closure(f"ups.stages.{name}", root))


def disagreements() -> list[str]:
    """Return one sentence per difference between `dvc.yaml` and the stage modules."""
    content = _load()["stages"]
    found = []
    for name, written in content.items():
        for key, wanted in read_stage(name).in_dvc_yaml().items():
            found.extend(_compare(name, key, written.get(key), wanted))
    return found


def check() -> None:
    """Refuse a `dvc.yaml` that does not say what the stages read.

    Raises:
        UpsError: DVC would take an old result for a new one; says how to mend it.
    """
    found = disagreements()
    if found:
        shown = found[:3] + [f"And {len(found) - 3} more differences."] * (len(found) > 3)
        raise UpsError(
            f"{DVC_YAML} does not match the stages' modules, so DVC could reuse a result of other code: "
            f"{' '.join(shown)} Run `ups deps --write`."
        )


def write() -> list[str]:
    """Bring `dvc.yaml` in line with the stage modules, its comments kept; returns what was changed."""
    from ruamel.yaml import YAML

    found = disagreements()
    if found:
        editor = YAML()
        editor.width = 4096
        editor.preserve_quotes = True
        editor.indent(mapping=2, sequence=4, offset=2)
        document = editor.load(DVC_YAML.read_text(encoding="utf-8"))
        for name, entries in document["stages"].items():
            for key, wanted in read_stage(name).in_dvc_yaml().items():
                if _compare(name, key, entries.get(key), wanted):
                    _set(entries, key, wanted)
        buffer = io.StringIO()
        editor.dump(document, buffer)
        DVC_YAML.write_text(buffer.getvalue(), encoding="utf-8")
    return found


def _compare(name: str, key: str, written: Any, wanted: Any) -> list[str]:
    if written == wanted or (key == "deps" and sorted(written or []) == sorted(wanted)):
        return []
    if key == "deps":
        missing = [dep for dep in wanted if dep not in (written or [])]
        extra = [dep for dep in written or [] if dep not in wanted]
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"lists {', '.join(extra)} needlessly"] * bool(extra)
        return [f"Stage {name} {' and '.join(parts)}."]
    return [f"Stage {name}: {key} is {written!r}, not {wanted!r}."]


def _set(entries: Any, key: str, wanted: Any) -> None:
    from ruamel.yaml.comments import CommentedSeq

    if wanted is None:
        del entries[key]
        return
    if key == "params":
        keys = CommentedSeq(wanted[0][BASE.as_posix()])
        keys.fa.set_flow_style()
        wanted = [{BASE.as_posix(): keys}]
    if key in entries:
        entries[key] = wanted
    else:
        entries.insert(list(entries).index("cmd") + 1, key, wanted)


def _load() -> dict[str, Any]:
    from ups.parameters.files import read_yaml

    return read_yaml(DVC_YAML)


def _inputs(tree: ast.Module, path: Path) -> dict[str, str]:
    for node in tree.body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if [target.id for target in targets if isinstance(target, ast.Name)] == ["INPUTS"]:
            try:
                inputs = ast.literal_eval(getattr(node, "value", None) or ast.Constant(None))
            except ValueError:
                break
            if isinstance(inputs, dict):
                return inputs
    raise UpsError(f"{path} must hold `INPUTS: dict[str, str] = {{...}}`, written out.")


def _params(tree: ast.Module, path: Path) -> list[str]:
    """Return the tracked keys of the stage's `Params` from its annotations and the sections that they name."""
    sections = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ups.parameters.")
        for alias in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Params":
            keys: list[str] = []
            for field in node.body:
                if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                    continue
                name = field.target.id
                kind: Any = None
                if isinstance(field.annotation, ast.Name) and field.annotation.id in sections:
                    module, attribute = sections[field.annotation.id]
                    kind = getattr(importlib.import_module(module), attribute)
                keys.extend(tracked_keys(name, kind))
            return keys
    raise UpsError(f"{path} must hold `class Params(Section)` with the sections that the stage reads.")


def tracked_keys(name: str, kind: Any) -> list[str]:
    """Return the parameter keys that a field `name: kind` of a stage's `Params` makes DVC track."""
    if name in UNTRACKED_SECTIONS:
        return []
    is_section = isinstance(kind, type) and issubclass(kind, Section)
    return kind.tracked_keys(name) if is_section else [name]
