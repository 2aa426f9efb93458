"""Write the results table into the README, between its markers, with the commit that made it."""

import datetime
import json
import re
from pathlib import Path

from ups.errors import UpsError

README = Path("README.md")
START, END = "<!-- results -->", "<!-- /results -->"


def write_results(table: str, root: Path = Path(".")) -> None:
    """Replace what stands between the markers.

    Raises:
        UpsError: if the README lacks the markers.
    """
    path = root / README
    text = path.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise UpsError(f"{path} has no place for the results: put the lines {START} and {END} where they belong.")
    made = json.loads((root / "artifacts" / "evaluate" / "provenance.json").read_text(encoding="utf-8"))
    date = datetime.datetime.fromtimestamp(made["started"], tz=datetime.UTC).strftime("%Y-%m-%d")
    commit = (made.get("git_commit") or "no commit")[:12] + (" with changes" if made.get("git_dirty") else "")
    source = f"Written by `ups results --write-readme`; made on {date} by commit {commit} on {made['device']}."
    path.write_text(pattern.sub(lambda _: f"{START}\n{table}\n\n{source}\n{END}", text), encoding="utf-8")
