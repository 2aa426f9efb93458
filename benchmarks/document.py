"""What a benchmark leaves in the documentation: tables between a pair of marker comments, and answers to claims."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from ups.evaluation.claims.evidence import BENCHMARKS


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


def verdict(changes: Sequence[float], claimed: tuple[float, float]) -> str:
    """Judge a claimed range of change by the smallest and the largest change over the repetitions."""
    low, high = min(changes), max(changes)
    if claimed[0] <= low and high <= claimed[1]:
        return "holds"
    return "does not hold" if high < claimed[0] or low > claimed[1] else "cannot tell"


def answer(claim: str, verdicts: Sequence[str], measured: str, command: str, machine: str) -> Path:
    """Keep the answer to a claim of the recipe for `ups table --claims` and reports; returns the file.

    Args:
        claim: its name in `ups.evaluation.claims.recipe`.
        verdicts: of all its parts; the whole holds if all do, and does not hold if one does not.
        measured: what was measured, in words, with its range over the repetitions.
        command, machine: by which and on which it was measured.
    """
    worst = next((each for each in ("does not hold", "cannot tell") if each in verdicts), "holds")
    git = ["git", "rev-parse", "--short=12", "HEAD"], ["git", "status", "--porcelain", "--", "ups", "benchmarks"]
    commit, changed = (subprocess.run(each, capture_output=True, text=True, check=False).stdout.strip() for each in git)
    content = {
        "verdict": worst,
        "measured": measured,
        "command": command,
        "commit": f"{commit or 'unknown'}{' with changes' if changed else ''}",
        "machine": machine,
        "date": time.strftime("%Y-%m-%d"),
    }
    path = BENCHMARKS / f"{claim}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path
