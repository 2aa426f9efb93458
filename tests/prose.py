"""What a program can read out of the documentation: links, anchors, commands, quoted messages."""

import argparse
import ast
import functools
import re
import shlex
import unicodedata
from pathlib import Path
from typing import Any

import typer

from ups.cli.app import app

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^( *)(```+|~~~+)(\w*)([^\n]*)\n(.*?)^\1\2[ ]*$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_OURS = ("ups", "make", "dvc")
_LITERALS = 20  # letters of a message that its quote has to hold, placeholders aside


def pages_of(nav: list[Any]) -> list[str]:
    """Return the pages in a navigation, in order."""
    found: list[str] = []
    for entry in nav:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += pages_of(value) if isinstance(value, list) else [value]
    return found


def code_of(text: str, language: str) -> list[tuple[str, str]]:
    """Return title and content of the code blocks of a language."""
    blocks = [(found[3], found[4], found[5]) for found in _FENCE.finditer(text)]
    titles = {title: re.search(r'title="([^"]+)"', title) for _, title, _ in blocks}
    return [(named[1] if (named := titles[title]) else "", code) for kind, title, code in blocks if kind == language]


def heading_anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as Python-Markdown names them."""
    found: set[str] = set()
    for line in _FENCE.sub("", text).splitlines():
        if heading := re.match(r"#+\s+(.*)", line):
            plain = unicodedata.normalize("NFKD", heading[1]).encode("ascii", "ignore").decode()
            name = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())
            number = 0
            while (anchor := f"{name}_{number}" if number else name) in found:
                number += 1
            found.add(anchor)
    return found


def problems_of_links(page: Path, text: str) -> list[str]:
    """Return one sentence per relative link of a page that leads nowhere."""
    problems = []
    # Code is no text, but the words of a link may be code.
    plain = re.sub(r"`\[[^`\n]*`", "", _FENCE.sub("", text))
    for target in _LINK.findall(plain):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        if not place.exists():
            problems.append(f"{target}: {place} does not exist")
        elif anchor and anchor not in _anchors(place, text if place == page else None):
            problems.append(f"{target}: {place.name} has no #{anchor}")
    return problems


def _anchors(place: Path, text: str | None) -> set[str]:
    text = place.read_text() if text is None else text
    if place.suffix == ".py":
        body = ast.parse(text).body
        return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return heading_anchors(text)


def commands(text: str) -> list[str]:
    """Return the commands in blocks marked bash, in indented blocks, and those of ours in the text."""
    blocks = [code for _, code in code_of(text, "bash")]
    rest = _FENCE.sub("", text)
    blocks += re.findall(rf"^    ((?:{'|'.join(_OURS)}|python -m) .*)", rest, re.MULTILINE)
    found = []
    for line in "\n".join(blocks).replace("\\\n", "  ").splitlines():
        for command in re.split(r" && | \| | ; ", line.split(" #")[0]):
            if command.strip() and not command.strip().startswith("#"):
                found.append(command.strip())
    prose = re.sub(r"^    .*", "", rest, flags=re.MULTILINE)
    spans = [code.strip("`") for code in _CODE.findall(prose)]
    return found + [code for code in spans if code.split(" ")[0] in _OURS and " " in code]


def problems_of_command(command: str) -> list[str]:
    """Return what is wrong with a command of `ups`, `make`, `dvc` or of a module of ours; nothing for others."""
    words = shlex.split(re.sub(r"\[|\]|<\(|\)", "", command))
    match words:
        case ["ups", *rest]:
            return _typer_problems(command, rest)
        case ["make", *targets]:
            known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            return [
                f"{command}: there is no target {name}" for name in targets if "=" not in name and name not in known
            ]
        case ["dvc", *rest]:
            return _dvc_problems(command, rest)
        case ["python", "-m", module, *_] if module.split(".")[0] in ("flows", "ups"):
            path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
            return [] if path.is_file() else [f"{command}: there is no module {module}"]
    return []


def _typer_problems(command: str, words: list[str]) -> list[str]:
    current: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(current, "commands"):
        if rest and rest[0] == "--help":
            return []
        if not rest or rest[0] not in current.commands:
            return [f"{command}: {' '.join(['ups', *words[: len(words) - len(rest)]])} has no such command"]
        current = current.commands[rest.pop(0)]
    options = {name for parameter in current.params for name in [*parameter.opts, *parameter.secondary_opts]}
    given = [word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    return [f"{command}: there is no option {name}" for name in given if name not in {*options, "--help"}]


def _dvc_problems(command: str, words: list[str]) -> list[str]:
    parser = _dvc_parser()
    rest = list(words)
    while choices := next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None):
        if not rest or rest[0] not in choices:
            return [f"{command}: there is no such command of DVC"]
        parser = choices[rest.pop(0)]
    given = [word.split("=")[0] for word in rest if word.startswith("-")]
    return [f"{command}: there is no option {name}" for name in given if name not in parser._option_string_actions]


@functools.cache
def _dvc_parser() -> argparse.ArgumentParser:
    from dvc.cli.parser import get_main_parser

    return get_main_parser()


def quotes(text: str) -> list[str]:
    """Return the quoted messages of a page."""
    return [line[2:] for line in text.splitlines() if line.startswith("> ")]


@functools.cache
def message_patterns() -> list[re.Pattern[str]]:
    """Return a pattern for every longer text in the code; what is filled in may be anything."""
    found = []
    for path in sorted(ROOT.glob("ups/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = [node.value]
            else:
                continue
            if sum(len(part) for part in parts if part) >= _LITERALS:
                found.append(re.compile("".join(".*" if part is None else re.escape(part) for part in parts)))
    return found
