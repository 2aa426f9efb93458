"""What turns docs/ into pages beside MkDocs itself: formulas, and pages for the code that the text links to.

Formulas become MathML here, once, and not in the reader's browser: every current browser draws MathML by itself, so
pages need no script and no network, and print as they look. Few systems have a font with brackets of
all sizes, so one goes along: STIX Two Math, which the package ziamath carries; nothing else of ziamath is used.

A link to a file outside docs/, such as `../ups/evaluation/metrics.py#nrmse`, leads to a page with that file's code, cut
at its functions and classes: the text works in the repository and as pages, without knowing the repository's address.
"""

from __future__ import annotations

import ast
import html
import importlib.util
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
SOURCES = "source"
MATH_FONT = "fonts/STIXTwoMath-Regular.ttf"
# [text](../path/in/the/repository#name)
_OUTWARD = re.compile(r"\]\(\.\./([\w./-]+?)(#[\w-]+)?\)")
# What latex2mathml does not know, or knows without saying that it encloses.
_LATEX = {
    "{aligned}": "{align*}",
    r"\lvert": r"\left|",
    r"\rvert": r"\right|",
    r"\lVert": r"\left\|",
    r"\rVert": r"\right\|",
}
# What browsers draw otherwise than meant: \sim as a letter, hats inside their letter, script letters as plain ones.
_MATHML = {
    "<mi>&#x0007E;</mi>": "<mo>&#x0223C;</mo>",
    '<mover accent="true">': "<mover>",
    "<mo>&#x0005E;</mo></mover>": '<mo stretchy="false">&#x002C6;</mo></mover>',
    '<mi mathvariant="script">L</mi>': "<mi>&#x02112;</mi>",
    '<mi mathvariant="script">A</mi>': "<mi>&#x1D49C;</mi>",
}
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\s*\\([(\[])(.*?)\\[)\]]\s*</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every file outside docs/ that some page links to, and the font of the formulas."""
    wanted: set[str] = set()
    for file in files.documentation_pages():
        wanted.update(path for path, _ in _OUTWARD.findall(file.content_string))
    for path in sorted(wanted):
        if (ROOT / path).is_file():
            files.append(File.generated(config, f"{SOURCES}/{path}.md", content=_source_page(path)))
    files.append(File.generated(config, MATH_FONT, abs_src_path=str(_package("ziamath") / MATH_FONT)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files outside docs/ lead to their pages; MkDocs complains about what is left."""
    if page.file.src_uri.startswith(f"{SOURCES}/"):
        return markdown
    return _OUTWARD.sub(lambda link: f"]({SOURCES}/{link[1]}.md{link[2] or ''})", markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Replace LaTeX by MathML."""
    return _FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found[2] == "[" else "inline"
    latex = html.unescape(found[3]).strip()
    for said, known in _LATEX.items():
        latex = latex.replace(said, known)
    formula = convert(latex, display=display)
    for given, wanted in _MATHML.items():
        formula = formula.replace(given, wanted)
    return f'<div class="formula">{formula}</div>' if display == "block" else formula


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    assert found
    assert found.origin
    return Path(found.origin).parent


def _source_page(path: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    head = f"---\nsearch: {{exclude: true}}\n---\n# {path}\n\n"
    if not path.endswith(".py"):
        return f"{head}{_block(text, Path(path).suffix[1:] or 'text')}"
    lines, parts, done = text.splitlines(), [], 0
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
            parts += [_block("\n".join(lines[done:first])), f"## {node.name} {{#{node.name}}}\n"]
            parts.append(_block("\n".join(lines[first : node.end_lineno])))
            done = node.end_lineno or first
    return head + "\n".join([*parts, _block("\n".join(lines[done:]))])


def _block(code: str, language: str = "python") -> str:
    return f"~~~~{language}\n{code.strip(chr(10))}\n~~~~\n" if code.strip() else ""
