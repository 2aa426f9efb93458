"""The parts of the benchmark: each measures one thing for every tool that can do it and returns plain numbers."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from measure import Start, end, error_line, priority, starts, wait_for
from shape import Shape
from tools import Dvc, Project, Snakemake, Sweep, Tool, Ups, have_no_server

Cell = tuple[str, int, str]  # shape, workers, tool
PAIR = "two ups sweeps"
_KILLED_STAGE_S = 4.0  # long enough that an orphan is seen
_FLOW = "from prefect import flow\n@flow\ndef trivial(): return 1\ntrivial()\n"


@dataclass(frozen=True)
class Measured:
    """One tool's run of all variants.

    Attributes:
        seconds: see `tools.Sweep`.
        executions: stages that were started, by their own account.
        failed: see `tools.Sweep`.
    """

    seconds: float
    executions: int
    failed: dict[str, str]


class Bench:
    """What the parts share.

    Args:
        folder: temporary, for the projects.
        shapes: the first is used where one is enough.
        tools: ups, DVC and Snakemake, in this order.
        seconds: how long each stage takes.
    """

    def __init__(self, folder: Path, shapes: list[Shape], tools: tuple[Ups, Dvc, Snakemake], seconds: float) -> None:
        self.shapes, self.tools, self.seconds = shapes, tools, seconds
        self.ups, self.dvc, self.snakemake = tools
        self.loads: list[float] = []
        self._folder, self._count = folder, 0

    def project(self, shape: Shape, seconds: float | None = None) -> Project:
        self._count += 1
        self.loads.append(os.getloadavg()[0])
        return Project(shape, self._folder / f"p{self._count}", self.seconds if seconds is None else seconds)

    # -- all variants ----------------------------------------------------------------------------------------------

    def sweeps(self, workers: list[int], repetitions: int) -> dict[Cell, list[Measured]]:
        """Measure every shape, number of workers and tool, the tools taking turns."""
        found: dict[Cell, list[Measured]] = defaultdict(list)
        for turn in range(repetitions):
            for shape in self.shapes:
                for count in workers:
                    runs = {tool.name: tool.sweep for tool in [*self.tools[turn % 3 :], *self.tools[: turn % 3]]}
                    for name, run in {**runs, PAIR: self._pair}.items():
                        project = self.project(shape)
                        swept = run(project, count)
                        measured = Measured(swept.seconds, len(starts(project.log)), swept.failed)
                        found[shape.name, count, name].append(measured)
                        print(f"{shape.name} / {count} / {name}: {measured}", file=sys.stderr, flush=True)
                        shutil.rmtree(project.folder)
        return found

    def _pair(self, project: Project, workers: int) -> Sweep:
        """Run two sweeps that are started at the same time in the same project."""
        started = time.perf_counter()
        both = [project.start(self.ups.all(workers)) for _ in range(2)]
        apart = time.perf_counter() - started
        outputs = [process.communicate()[0] for process in both]
        if apart > 0.2 or any(process.returncode for process in both):
            raise SystemExit(f"Two sweeps, started {apart:.2f} s apart, failed: {outputs}")
        return Sweep(time.perf_counter() - started)

    # -- nothing to do, almost nothing to do -----------------------------------------------------------------------

    def overheads(self, repetitions: int) -> dict[str, list[float]]:
        """Return seconds per stage of stages that take no time, what is left without anything to do, and restoring.

        Per executed stage: what one worker needs beyond an empty run and beyond the bare command.
        """
        shape = self.shapes[0]
        found: dict[str, list[float]] = defaultdict(list)
        for _ in range(repetitions):
            bare = self._bare(self.project(shape, 0.0))
            found["bare"].append(bare)
            for tool in self.tools:
                project = self.project(shape, 0.0)
                # `dvc repro` does one variant; a queue of them is no one worker's work.
                command = tool.one("v0") if tool is self.dvc else tool.all(1)
                wall = project.run(command)[0]
                executed = len(starts(project.log))
                empty = self._empty(project, command, found[f"{tool.name} no-op"])
                if tool is self.ups:
                    self._empty(project, tool.one("v0"), found["ups sweep v0 no-op"])
                found[f"{tool.name} per executed stage"].append((wall - empty) / executed - bare)
                if tool is not self.snakemake:  # which has no cache to restore from
                    self._forget(project)
                    wall = project.run(command)[0]
                    self._check_nothing_ran(project, executed)
                    found[f"{tool.name} per cached stage"].append(wall / executed)
                    found[f"{tool.name} bytes restored"].append(_bytes(project.folder))
            print(f"overheads: {dict(found)}", file=sys.stderr)
        return found

    def _empty(self, project: Project, command: list[str], into: list[float]) -> float:
        executed = len(starts(project.log))
        seconds = [project.run(command)[0] for _ in range(3)]
        self._check_nothing_ran(project, executed)
        into.extend(seconds)
        return statistics.median(seconds)

    @staticmethod
    def _check_nothing_ran(project: Project, executed: int) -> None:
        if len(starts(project.log)) != executed:
            raise SystemExit(f"Stages ran where all of them were done: {starts(project.log)[executed:]}")

    @staticmethod
    def _bare(project: Project) -> float:
        """Return the seconds that the stage command takes when nothing manages it."""
        command = f"exec python stage.py {project.shape.stages[0]}"
        seconds = []
        for _ in range(10):
            shutil.rmtree(project.folder / "artifacts", ignore_errors=True)
            seconds.append(project.run(["/bin/sh", "-c", command])[0] - project.run(["/bin/true"])[0])
        return statistics.median(seconds)

    @staticmethod
    def _forget(project: Project) -> None:
        """Leave nothing but the cache."""
        for name in (".ups", "artifacts"):
            shutil.rmtree(project.folder / name, ignore_errors=True)
        (project.folder / "dvc.lock").unlink(missing_ok=True)

    def late_change(self) -> dict[str, int]:
        """Return the bytes copied for a new variant that shares all but the last stages, by who reads them.

        The variant changes the last but one stage: that reads one cached output, and nobody reads the others.
        """
        shape = Shape("one variant", self.shapes[0].stages, {"v0": "train_operator"})
        project = self.project(shape, 0.0)
        project.run(self.ups.one("v0"))
        executed = len(starts(project.log))
        changed, above = shape.stages[-2], shape.stages[-3]
        overlay = {
            "extends": "v0",
            "hypothesis": "None.",
            "varies": [changed],
            changed: {"optimization": {"weight_decay": 0.5}},
        }
        (project.folder / "params/variants/late.yaml").write_text(yaml.safe_dump(overlay, sort_keys=False))
        project.run(self.ups.one("late"))
        sizes = dict.fromkeys(shape.stages, 0)
        for folder in (project.folder / ".ups/workspaces").glob("late-*/artifacts/*"):
            sizes[folder.name] = _bytes(folder)
        return {
            "executed": len(starts(project.log)) - executed,
            "read": sizes[above],
            "unread": sum(sizes[stage] for stage in shape.stages[:-3]),
        }

    # -- killed, or two at a time ----------------------------------------------------------------------------------

    def kills(self, repetitions: int) -> dict[str, list[dict[str, object]]]:
        """Return what happens when the driver of a running stage is killed with -9 and started again at once."""
        shape = Shape("one variant", self.shapes[0].stages, {"v0": "train_operator"})
        return {tool.name: [self._kill(tool, shape) for _ in range(repetitions)] for tool in self.tools}

    def _kill(self, tool: Tool, shape: Shape) -> dict[str, object]:
        project = self.project(shape, _KILLED_STAGE_S)
        driver = project.start(tool.one("v0"))
        if not wait_for(lambda: len(starts(project.log)) == 2, 60):
            raise SystemExit(f"{tool.name} has not come to its second stage in 60 s.")
        time.sleep(0.5)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()  # a process that nobody buries looks alive to DVC
        killed = time.time()
        orphan = starts(project.log)[-1]
        again = project.start(tool.one("v0"))
        copied = False
        began = None
        while time.time() < killed + 30 and again.poll() is None and began is None:
            new = starts(project.log)[2:]
            if new:
                began = new[0]
                copied = began.stage == orphan.stage and orphan.alive
            time.sleep(0.005)
        time.sleep(max(0.0, killed + 1.0 - time.time()))
        found: dict[str, object] = {
            "resumed_s": None if began is None else began.time - killed,
            "orphan": orphan.alive,
            "second_copy": copied,
        }
        ended, said = again.poll() is not None, end(again)
        end(driver)
        found["refused"] = error_line(said) if began is None and ended else ""
        _end_stages(starts(project.log))
        print(f"kill {tool.name}: {found}", file=sys.stderr)
        return found

    def second_process(self) -> dict[str, str]:
        """Return what a second process of each tool says that is started in the same project a second later."""
        shape = self.shapes[0]
        found = {}
        for tool in self.tools:
            project = self.project(shape)
            command = tool.one("v0") if tool is self.dvc else tool.all(2)
            first = project.start(command)
            wait_for(project.log.exists, 60)
            _, code, output = project.run(command, check=False)
            found[tool.name] = f"exit code {code}" + (f": {error_line(output)}" if code else "")
            first.communicate()
        return found

    # -- Prefect ---------------------------------------------------------------------------------------------------

    def prefect(self, repetitions: int) -> dict[str, list[float]]:
        """Return the seconds of importing Prefect, of a trivial flow without a server, and of this project's flow.

        The project's flow and `ups sweep` do the same: they find one variant in the cache, and its run in MLflow.
        """
        found: dict[str, list[float]] = defaultdict(list)
        project = self.project(self.shapes[0], 0.0)
        project.run(self.ups.all(2))
        executed = len(starts(project.log))
        home = {"PREFECT_HOME": str(project.folder.parent / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        project.environment = have_no_server({**project.environment, **home, "DO_NOT_TRACK": "1"})
        commands = {
            "import prefect": ["-c", "import prefect"],
            "trivial flow": ["-c", _FLOW],
            # Of one variant, for the stand-in stages write nothing that two variants could be compared by.
            "flows.ablation_sweep": ["-m", "flows.ablation_sweep", "v0"],
            "ups sweep": [*self.ups.command[1:], "sweep", "v0"],
        }
        for name in ("trivial flow", "ups sweep"):  # make Prefect's database, and MLflow's with the run
            project.run([sys.executable, *commands[name]])
        for _ in range(repetitions):
            for name, arguments in commands.items():
                found[name].append(project.run([sys.executable, *arguments])[0])
        self._check_nothing_ran(project, executed)
        return found


def _bytes(folder: Path) -> int:
    """Return the bytes of results that lie in a folder as files of their own, links and the cache left out."""
    return sum(path.stat().st_size for path in _files(folder) if "artifacts" in path.parts)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _end_stages(log: list[Start]) -> None:
    for start in log:
        if start.alive:
            os.kill(start.pid, signal.SIGKILL)


def described_priority() -> str:
    """Return in words at which priority the measured processes ran."""
    words = priority()
    return (
        f"all measured processes under `{shlex.join(words)}`" if words else "all measured processes at normal priority"
    )
