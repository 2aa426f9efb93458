"""Examples and exit codes of every command: the last lines of its `--help`, and the table in docs/cli.md.

python -m ups.cli.reference      # write the table
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ups.errors import UpsError

if TYPE_CHECKING:
    import typer
    from typer.models import CommandInfo

PAGE = Path("docs/cli.md")
START, END = "<!-- commands -->", "<!-- /commands -->"


@dataclass(frozen=True)
class Entry:
    """What `--help` says of a command beside its options.

    Attributes:
        fails: when it ends with exit code 1, in words that go on after "Exit code 1:".
        examples: command lines.
    """

    fails: str
    examples: tuple[str, ...]


COMMANDS = {
    "repro": Entry(
        "parameters or dvc.yaml are not in order, or a stage failed; earlier results are back",
        ("ups repro", "ups repro train_codec"),
    ),
    "publish": Entry(
        "nothing was reproduced, the results do not belong to the work tree, or the store cannot be written",
        ("ups publish", "ups publish golden-42", "ups publish --all"),
    ),
    "table": Entry(
        "a seed is missing, or there are no results",
        ("ups table lights golden-vs-light --preset short --claims", "ups table --write"),
    ),
    "results": Entry("there are no results yet", ("ups results", "ups results --write-readme")),
    "deps": Entry("dvc.yaml does not match the stages' modules (without --write)", ("ups deps", "ups deps --write")),
    "doctor": Entry("there is a problem; warnings alone end with 0", ("ups doctor", "ups doctor --json")),
    "experiments": Entry(
        "DVC fails, as without a git commit",
        ("ups experiments", "ups experiments --metric student.rollout_ic.nrmse.mean --md"),
    ),
    "plan": Entry(
        "a variant, sweep or file does not exist, or parameters are impossible",
        ("ups plan --sweep golden-vs-light --seeds 0-5", "ups plan golden no-diffusion --preset tiny --json"),
    ),
    "sweep": Entry(
        "a stage failed; 128 + n: ended by signal n, and the same command goes on from there",
        (
            "ups sweep golden no-diffusion --preset tiny",
            "ups sweep --sweep golden-vs-light --seeds 0-5 --workers 2",
            "ups sweep --sweep corrector-search --workers 2",
        ),
    ),
    "compare": Entry(
        "there are no results of a variant; every verdict ends with 0",
        (
            "ups compare golden light-diffusion",
            "ups compare golden light-diffusion --seeds 0-5 --protocol rollout_ic --json",
        ),
    ),
    "report": Entry(
        "there are no results of what is asked for", ("ups report golden-vs-light", "ups report -o report.html")
    ),
    "leaderboard": Entry(
        "the store cannot be read, or no run has the metric", ("ups leaderboard", "ups leaderboard --json")
    ),
    "promote": Entry(
        "it is not better over seeds, or cannot be compared; the champion stays", ("ups promote light-diffusion",)
    ),
    "reproduce": Entry(
        "a metric differs by more than --tolerance, or the run's code or data are gone",
        ("ups reproduce 0123456789abcdef0123456789abcdef --rerun",),
    ),
    "prune": Entry(
        "there is nothing of a name after --keep, or a sweep is running",
        ("ups prune --keep golden", "ups prune --keep golden --yes"),
    ),
    "predict": Entry(
        "the surrogate was not trained for the file, or one of the two cannot be read",
        (
            "ups predict artifacts/simulate/data.h5 -o forecast.h5 --samples 0:128",
            "ups predict own.hdf5 -o forecast.h5 --given 10 --coefficient viscosity=0.01",
        ),
    ),
    "data list": Entry("never", ("ups data list --size",)),
    "data fetch": Entry(
        "the name is not in the catalogue, the server fails, or the MD5 differs",
        ("ups data fetch 1D_Burgers_Sols_Nu0.001.hdf5",),
    ),
    "data simulate": Entry(
        "the task has no such solver, or the data are further from the truth than `simulate.max_error`",
        (
            "ups data simulate -o data/wave.h5 --task wave1d --samples 128",
            "ups data simulate -o data/other.h5 --seed 7 --method finite_volume --refinement 2",
        ),
    ),
    "data import": Entry(
        "the files do not fit together, or to the equation; nothing is written then",
        (
            "ups data import own.npz -o data/own.h5 --equation burgers --coefficient viscosity=0.01",
            "ups data import flow.hdf5 -o data/flow.h5 --equation navier_stokes --field vorticity=curl:velocity",
        ),
    ),
    "data inspect": Entry(
        "neither the pipeline nor `ups data import` can use the file",
        ("ups data inspect data/own.hdf5 --plot own.png", "ups data inspect data/own.hdf5 --samples 0 --json"),
    ),
    "data join": Entry(
        "the files do not fit each other, or do not say their coefficients",
        ("ups data join data/a.hdf5 data/b.hdf5 -o data/both.h5 --space-stride 4 --time-stride 5",),
    ),
    "data audit": Entry(
        "an initial condition is in two splits, or prepare_data would refuse the file",
        ("ups data audit", "ups data audit data/own.hdf5 --json"),
    ),
    "params list": Entry("a variant or sweep file is invalid", ("ups params list",)),
    "params show": Entry(
        "a name does not exist, or parameters are impossible", ("ups params show golden --preset tiny",)
    ),
    "params diff": Entry(
        "a name does not exist, or parameters are impossible; a difference ends with 0",
        ("ups params diff golden light-diffusion", "ups params diff golden golden.tiny", "ups params diff base"),
    ),
    "params check": Entry(
        "parameters are impossible, dvc.yaml does not match, or the data file is missing",
        ("ups params check", "ups params check all"),
    ),
    "params use": Entry(
        "a name does not exist, or going on would lose edits of params/base.yaml",
        ("ups params use light-diffusion --seed 1", "ups params use base"),
    ),
}


def document(app: typer.Typer) -> None:
    """Add examples and exit codes to the help of every command that is described here."""
    for name, info in commands(app):
        entry = COMMANDS.get(name)
        if entry:  # Typer joins lines, and keeps paragraphs apart
            info.epilog = "\n\n".join(["Examples:", *entry.examples, f"Exit code 1: {entry.fails}."])


def commands(app: typer.Typer, prefix: str = "") -> Iterator[tuple[str, CommandInfo]]:
    """Yield every command with its full name, in the order of `--help`."""
    for info in app.registered_commands:
        function = info.callback
        yield prefix + (info.name or getattr(function, "__name__", "").replace("_", "-")), info
    for group in app.registered_groups:
        if group.typer_instance:
            name = f"{prefix}{group.name} " if isinstance(group.name, str) else prefix
            yield from commands(group.typer_instance, name)


def table(app: typer.Typer) -> str:
    """Return the commands as a Markdown table."""
    lines = ["| command | what it does | exit code 1 |", "|---|---|---|"]
    for name, info in commands(app):
        first = " ".join((info.callback.__doc__ or "").split("\n\n")[0].split()) if info.callback else ""
        lines.append(f"| `ups {name}` | {first} | {COMMANDS[name].fails} |")
    return "\n".join(lines)


def write(app: typer.Typer) -> None:
    """Write the table into docs/cli.md, between its markers.

    Raises:
        UpsError: if the page lacks the markers.
    """
    text = PAGE.read_text(encoding="utf-8")
    fresh, count = re.subn(f"{START}.*?{END}", lambda _: f"{START}\n{table(app)}\n{END}", text, flags=re.DOTALL)
    if not count:
        raise UpsError(f"{PAGE} has no place for the table: put the lines {START} and {END} where it belongs.")
    PAGE.write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    from ups.cli.app import app

    write(app)
