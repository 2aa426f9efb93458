"""Tables in the documentation that a benchmark writes itself, between a pair of marker comments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first row is its head, all columns but the first are aligned to the right."""
    rule = "|---|" + "---:|" * (len(rows[0]) - 1)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], rule, *lines[1:]])


def write(path: Path, marker: str, text: str) -> None:
    """Replace what stands between `<!-- marker -->` and `<!-- /marker -->`; a file that is not there is made.

    Raises:
        SystemExit: if the file lacks the markers.
    """
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    content = path.read_text(encoding="utf-8") if path.is_file() else f"{start}\n{end}\n"
    before, _, rest = content.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{path} has no place for the tables: put the lines {start} and {end} where they belong.")
    path.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")
