"""How each tool does the same work: the commands that its own documentation gives for it.

All of them start the same stage command with the same interpreter, in a fresh copy of the same project.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from measure import error_line, priority
from shape import Shape

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # the stand-in projects are those of the tests

import shapes  # noqa: E402

REQUIREMENTS = Path(__file__).with_name("snakemake-requirements.txt")
_LIMIT_S = 600.0
_QUIET_S = 5.0
_SOURCES = ("stage.py", "direct.py", "indirect.py")


class Project:
    """A fresh stand-in project.

    Args:
        shape: what it holds.
        folder: where; its log lies beside it.
        seconds: how long each stage takes.
    """

    def __init__(self, shape: Shape, folder: Path, seconds: float) -> None:
        self.shape, self.folder = shape, folder
        chain = dict(zip(shape.stages, [[], *([above] for above in shape.stages)], strict=False))
        shapes.make(folder, chain, shape.variants)
        (folder / "Snakefile").write_text(snakefile(shape))
        with (folder / ".gitignore").open("a") as file:
            file.write("/.snakemake/\n")
        shapes.standin.git(folder, "add", ".")
        shapes.standin.git(folder, "commit", "-q", "-m", "Snakefile")
        identity = {f"GIT_{who}_{what}": "peers" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        more = {"SECONDS_EACH": str(seconds), "DVC_NO_ANALYTICS": "true", "PYTHONPATH": "", **identity}
        self.environment = shapes.environment(folder, **more)
        self.log = Path(self.environment["EXECUTIONS"])

    def value(self, variant: str) -> tuple[str, float]:
        """Return the parameter that a variant changes, and its value there."""
        number = list(self.shape.variants).index(variant)
        return shapes.PARAMETER[self.shape.variants[variant]], round(0.001 * (number + 1), 4)

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        """Start a command in the project, in a process group of its own, at the priority of all measured ones."""
        return subprocess.Popen(
            [*priority(), *command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: list[str], check: bool = True) -> tuple[float, int, str]:
        """Run a command; returns seconds, exit code and output."""
        started = time.perf_counter()
        process = self.start(command)
        output, _ = process.communicate(timeout=_LIMIT_S)
        seconds = time.perf_counter() - started
        if check and process.returncode:
            raise SystemExit(f"`{' '.join(command)}` ended with {process.returncode}: {output[-2000:]}")
        return seconds, process.returncode, output


@dataclass(frozen=True)
class Sweep:
    """How a tool got all variants of a project done.

    Attributes:
        seconds: from its first command to the last result.
        failed: why a variant has no result, by variant.
    """

    seconds: float
    failed: dict[str, str] = field(default_factory=dict)


class Tool(ABC):
    """A tool that runs all variants of a project."""

    name: str

    @abstractmethod
    def all(self, workers: int) -> list[str]:
        """Return the command that brings every variant up to date."""

    @abstractmethod
    def one(self, variant: str) -> list[str]:
        """Return the command that brings one variant up to date, one stage at a time."""

    def sweep(self, project: Project, workers: int) -> Sweep:
        """Bring every variant up to date."""
        return Sweep(project.run(self.all(workers))[0])


class Ups(Tool):
    """This project's plain executor."""

    name = "ups sweep"
    command = (sys.executable, "-c", "from ups.cli import main; main()")

    def all(self, workers: int) -> list[str]:
        return [*self.command, "sweep", "--sweep", "all", "--workers", str(workers), "--no-publish"]

    def one(self, variant: str) -> list[str]:
        return [*self.command, "sweep", variant, "--no-publish"]


class Dvc(Tool):
    """DVC: `dvc repro` for the parameters in the working tree, its experiment queue for several variants."""

    name = "DVC queue"
    command = (sys.executable, "-m", "dvc")

    def all(self, workers: int) -> list[str]:
        return [*self.command, "queue", "start", "-j", str(workers)]

    def one(self, variant: str) -> list[str]:
        return [*self.command, "repro"]

    def sweep(self, project: Project, workers: int) -> Sweep:
        started = time.perf_counter()
        for variant in project.shape.variants:
            key, value = project.value(variant)
            parameter = f"params/base.yaml:++{key}={value}"
            project.run([*self.command, "exp", "run", "--queue", "-n", variant, "-S", parameter])
        project.run(self.all(workers))
        latest, ended = time.perf_counter(), 0
        while ended < len(project.shape.variants) and time.perf_counter() < started + _LIMIT_S:
            # Each experiment that has ended well is a git reference; looking for them costs DVC nothing.
            if (now := len(_experiments(project.folder))) > ended:
                ended, latest = now, time.perf_counter()
            elif time.perf_counter() > latest + _QUIET_S and not _processes(project.folder):
                break  # the workers have left: what is not there has failed
            time.sleep(0.05)
        failed = {variant: self._reason(project, variant) for variant in self._failed(project)}
        project.run([*self.command, "queue", "stop", "--kill"], check=False)
        return Sweep(latest - started, failed)

    @staticmethod
    def _failed(project: Project) -> list[str]:
        return sorted(set(project.shape.variants) - {path.name for path in _experiments(project.folder)})

    def _reason(self, project: Project, variant: str) -> str:
        return error_line(project.run([*self.command, "queue", "logs", variant], check=False)[2])


class Snakemake(Tool):
    """Snakemake, in an environment of its own.

    Args:
        folder: of the environment; made if it is not there with what is pinned.
        scheduler: `ilp`, Snakemake's default, or `greedy`.
    """

    name = "Snakemake"

    def __init__(self, folder: Path, scheduler: str = "ilp") -> None:
        stamp = folder / hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
        if not stamp.exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True)
            stamp.touch()
        self._command = [str(folder / "bin/snakemake"), "--scheduler", scheduler]

    def all(self, workers: int) -> list[str]:
        return [*self._command, "--cores", str(workers)]

    def one(self, variant: str) -> list[str]:
        return [*self._command, "--cores", "1", "--config", f"variant={variant}"]


def _experiments(folder: Path) -> list[Path]:
    """Return the references of finished experiments; those of DVC's own book-keeping lie elsewhere."""
    return [path for path in (folder / ".git/refs/exps").glob("??/*/*") if path.is_file()]


def _processes(folder: Path) -> list[int]:
    """Return the processes that work in a folder, or below it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended, or is another user's
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found.append(int(process.name))
    return found


def snakefile(shape: Shape) -> str:
    """Return a Snakefile of a shape: a result's path holds the settings that it depends on, so variants share it."""
    rules = []
    for place, stage in enumerate(shape.stages):
        pattern = "-".join(f"{{s{number}}}" for number in range(place + 1))
        upstream = []
        if place:
            above = "-".join(f"{{s{number}}}" for number in range(place))
            upstream = [f'        upstream="artifacts/{shape.stages[place - 1]}/{above}/metrics.json",']
        rules.append(
            "\n".join(
                [
                    f"rule {stage}:",
                    "    input:",
                    *upstream,
                    f"        code={list(_SOURCES)!r},",
                    "    output:",
                    f'        "artifacts/{stage}/{pattern}/metrics.json",',
                    f'        "artifacts/{stage}/{pattern}/provenance.json",',
                    f'    params: folder="artifacts/{stage}/{pattern}", value="{{s{place}}}"',
                    f'    shell: "OUT={{params.folder}} VALUE={{params.value}} python stage.py {stage}'
                    f'{" {input.upstream}" if place else ""}"',
                ]
            )
        )
    targets = {
        variant: "artifacts/{}/{}/metrics.json".format(shape.stages[-1], "-".join(shape.settings(variant).values()))
        for variant in shape.variants
    }
    head = f"""\
        TARGETS = {targets!r}
        wildcard_constraints: **{{f"s{{n}}": "[a-z0-9]+" for n in range({len(shape.stages)})}}

        rule all:
            input: [TARGETS[config["variant"]]] if "variant" in config else list(TARGETS.values())
    """
    return "\n\n".join([textwrap.dedent(head), *rules]) + "\n"


def have_no_server(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment without the address of a Prefect server."""
    return {key: value for key, value in environment.items() if key != "PREFECT_API_URL"} | {
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PATH": os.environ["PATH"],
    }
