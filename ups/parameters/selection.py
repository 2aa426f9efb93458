"""Write a resolved selection into the working tree's `params/base.yaml`, and take it back.

DVC reads that one file, so what stands in it is what runs. A first-line comment says which selection it holds;
the original waits in `.ups/base.yaml`, and resolving always starts from the original.
"""

from __future__ import annotations

import copy
import io
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ups.errors import ParameterError
from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import differences, put
from ups.parameters.overlay import DEFAULT_PRESET, complete, resolve

ORIGINAL = Path(".ups/base.yaml")
_HEADER = re.compile(r"^# Selected by `ups params use (.*?)`; undo: `ups params use base` \(original: .*\)\n")


@dataclass(frozen=True)
class Selection:
    """What to resolve; see `ups.parameters.overlay.resolve` for the fields."""

    variant: str | None = None
    task: str | None = None
    preset: str = DEFAULT_PRESET
    seed: int | None = None

    def resolve(self) -> dict[str, Any]:
        return resolve(original_base(), self.task, self.variant, self.preset, self.seed)

    def arguments(self) -> str:
        """Return the arguments of `ups params use` that make this selection."""
        words = [self.variant] if self.variant else ["base"]
        for name, value in (("preset", self.preset), ("task", self.task), ("seed", self.seed)):
            if value is not None and (name, value) != ("preset", DEFAULT_PRESET):
                words += [f"--{name}", str(value)]
        return shlex.join(words)


def current() -> Selection | None:
    """Return the selection that `params/base.yaml` says it holds; None if it is the original."""
    match = _HEADER.match(_text(BASE))
    if match is None:
        return None
    words = shlex.split(match.group(1))
    options = dict(zip(words[1::2], words[2::2], strict=False))
    return Selection(
        variant=None if words[0] == "base" else words[0],
        task=options.get("--task"),
        preset=options.get("--preset", DEFAULT_PRESET),
        seed=int(options["--seed"]) if "--seed" in options else None,
    )


def edits() -> dict[str, tuple[Any, Any]]:
    """Return what was changed by hand in `params/base.yaml` since the selection it holds: key -> (selected, now)."""
    selection = current()
    return {} if selection is None else differences(selection.resolve(), complete(read_yaml(BASE)))


def original_base() -> dict[str, Any]:
    """Return the content of the original base file.

    Raises:
        ParameterError: if `params/base.yaml` holds a selection and the original is gone.
    """
    return read_yaml(_original_path())


def use(selection: Selection) -> dict[str, tuple[Any, Any]]:
    """Write a selection into `params/base.yaml`, its comments kept; the original is saved.

    Returns: what now differs from the original.

    Raises:
        ParameterError: if the selection does not resolve, or if `params/base.yaml` was edited after the last `use`.
    """
    _refuse_to_lose_edits()
    original_text = _text(_original_path())
    changes = differences(complete(original_base()), selection.resolve())
    text = header(selection) + _edit(original_text, {key: after for key, (_, after) in changes.items()})
    ORIGINAL.parent.mkdir(exist_ok=True)
    _write(ORIGINAL, original_text)
    _write(BASE, text)
    return changes


def header(selection: Selection) -> str:
    """Return the first line of a parameter file that holds a selection."""
    made_by, undo = f"ups params use {selection.arguments()}", "ups params use base"
    return f"# Selected by `{made_by}`; undo: `{undo}` (original: {ORIGINAL})\n"


def content(selection: Selection, original: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what `params/base.yaml` would hold after `use(selection)`, the same defaults left out.

    Args:
        selection: what to resolve.
        original: the content of the original base file; read if not given.
    """
    original = original_base() if original is None else original
    resolved = resolve(original, selection.task, selection.variant, selection.preset, selection.seed)
    merged = copy.deepcopy(dict(original))
    for key, (_, after) in differences(complete(original), resolved).items():
        put(merged, key, after)
    return merged


def original_text() -> str:
    """Return the text of the original base file."""
    return _text(_original_path())


def restore() -> bool:
    """Put the original base file back; returns whether there was anything to undo."""
    if current() is None:
        return False
    _refuse_to_lose_edits()
    os.replace(_original_path(), BASE)
    return True


def _refuse_to_lose_edits() -> None:
    selection = current()
    if selection is None:
        return
    changed = edits()
    if changed:
        listed = ", ".join(f"{key}: {before!r} -> {after!r}" for key, (before, after) in changed.items())
        raise ParameterError(
            f"{BASE} holds the selection '{selection.arguments()}' and was changed since, here or in the files under "
            f"{BASE.parent} ({listed}). Going on would lose that: put it into a variant or into {ORIGINAL}, or drop it "
            f"with `cp {ORIGINAL} {BASE}`."
        )


def _original_path() -> Path:
    if current() is None:
        return BASE
    if not ORIGINAL.exists():
        committed = _committed()
        if committed is None:
            raise ParameterError(
                f"{BASE} holds a selection made by `ups params use`, but the original it was made from is neither in "
                f"{ORIGINAL} nor in a commit. Write the parameters you want into {BASE} and remove its first line."
            )
        ORIGINAL.parent.mkdir(exist_ok=True)
        _write(ORIGINAL, committed)
    return ORIGINAL


def _committed() -> str | None:
    """Return the latest `params/base.yaml` in git that is no selection; a clone of a committed one has no other."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""

    texts = (git("show", f"{commit}:./{BASE}") for commit in git("log", "--format=%H", "--", str(BASE)).split())
    return next((text for text in texts if text and not _HEADER.match(text)), None)


def _edit(text: str, changes: Mapping[str, Any]) -> str:
    """Return the YAML text with the values at some dotted keys replaced, its comments and layout kept.

    A value that the original leaves at its default is written only where it differs from that default: a section
    whose values are unchanged stays as it was, and so do the results that DVC has cached for it.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedSeq

    editor = YAML()
    editor.width = 4096
    editor.preserve_quotes = True
    editor.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    document = editor.load(text)
    for key, value in changes.items():
        if isinstance(value, list):
            value = CommentedSeq(value)
            value.fa.set_flow_style()
        put(document, key, value)
    buffer = io.StringIO()
    editor.dump(document, buffer)
    return buffer.getvalue()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParameterError(f"{path} does not exist. Run the command in the project's folder.") from None


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)
