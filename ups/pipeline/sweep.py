"""Execute a plan: every distinct stage once, the first variant's stages first, several at a time.

A stage runs under a lock of its run-cache key. Another sweep that needs the same stage does something else meanwhile
and then finds the result in the cache. A failed stage costs only the variants that need it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from ups.errors import ArtifactError, UpsError
from ups.pipeline import dvc_store, executions, processes, results, snapshot
from ups.pipeline.dvc_store import CorruptObject
from ups.pipeline.executions import Execution
from ups.pipeline.jobs import Job
from ups.pipeline.locks import SWEEP, Interrupted, Lock
from ups.pipeline.plan import Action, Node, Plan, environment_change, plan
from ups.pipeline.workspace import Workspace

LOGS = Path(".ups/logs")
_RETRY_S = 0.05  # between two looks at a stage that another sweep is executing
_ROUNDS = 3  # plans made anew after a corrupt object of the cache was found


class State(StrEnum):
    """How far a stage execution has come in this sweep."""

    WAITING = "waiting"
    RUNNING = "running"
    EXECUTED = "executed"
    SHARED = "shared"  # another sweep, or other parameters leading to the same, executed it meanwhile
    CACHED = "cached"
    FAILED = "failed"
    SKIPPED = "skipped"  # needs one that failed


_DONE = (State.EXECUTED, State.SHARED, State.CACHED)
_OVER = (*_DONE, State.FAILED, State.SKIPPED)


@dataclass
class Report:
    """What a sweep did.

    Attributes:
        executed: stages with the variant and seed that they ran for, in the order in which they ended.
        shared: stages that were planned to run and were found in the cache when their turn came.
        cached: how many stages were in the cache from the start.
        failures: the message of each stage that failed, by `<stage> of <variant>-<seed>`.
        finished: names of the jobs that have results.
        unfinished: names of the others.
        copied: bytes copied out of the cache into workspaces.
        interrupted: the signal that ended it early; 0 if none did.
        seconds: how long it took.
    """

    executed: list[tuple[str, str]] = field(default_factory=list)
    shared: list[tuple[str, str]] = field(default_factory=list)
    cached: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    copied: int = 0
    interrupted: int = 0
    seconds: float = 0.0


class Observer:
    """What follows a sweep. Its methods are called from the sweep's threads, several at a time."""

    def stage(self, node: Node, state: State, message: str) -> None:
        """Called when a stage starts (RUNNING) and when it is over."""

    def around(self, node: Node, execute: Callable[[], None]) -> None:
        """Called instead of the execution of a stage, which it has to call."""
        execute()

    def finished(self, job: Job) -> None:
        """Called when the results of a variant and seed are there."""


class Sweep:
    """The execution of one plan.

    Args:
        made: the plan.
        workers: how many stages may run at a time.
        name: of the sweep, if it has one.
        observers: follow it.
        report: is filled in.
    """

    def __init__(
        self, made: Plan, workers: int, name: str | None, observers: Sequence[Observer], report: Report
    ) -> None:
        self.plan, self.name, self.report = made, name, report
        self.states = {n: State.CACHED if n.action is Action.CACHED else State.WAITING for n in made.nodes}
        self.corrupt: CorruptObject | None = None
        self._observers, self._workers = observers, workers
        self._slots = {"cpu": workers, "gpu": max(1, executions.gpu_count())}
        self._not_before: dict[Node, float] = {}
        self._commands: dict[Node, processes.Command] = {}
        self._changed = threading.Condition(threading.RLock())
        self._stopping = False
        self._root = Path.cwd()
        self._workspaces: dict[str, Workspace] = {}
        self._snapshot: str | None = None

    # -- scheduling ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Execute what the plan says; returns when everything is over or, after `stop`, nothing runs any more."""
        for job in self.plan.jobs:
            self._finish(job)
        waiting = sum(state is State.WAITING for state in self.states.values())
        if waiting:
            dvc_store.check_version()
            self._workspace(self.plan.jobs[0])  # the snapshot is of the tree as it is when the sweep begins
        threads = [threading.Thread(target=self._work, name=f"sweep-{i}") for i in range(min(self._workers, waiting))]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # signals are handled between two short waits
                thread.join(0.1)

    def stop(self) -> None:
        """Start nothing more and end what runs. May be called from a signal handler."""
        self._stopping = True
        for command in list(self._commands.values()):
            command.stop()

    def _work(self) -> None:
        while (node := self._next()) is not None:
            state, message = State.FAILED, ""
            try:
                state = self._perform(node)
            except Interrupted:
                state = State.WAITING
            except CorruptObject as error:
                self.corrupt, state, message = error, State.WAITING, str(error)
            except Exception as error:  # noqa: BLE001 - one stage's accident must not end the others
                message = _told(error)
            self._over(node, state, message)

    def _next(self) -> Node | None:
        """Wait for a stage that can start, the earliest in the plan; None when there will be none."""
        with self._changed:
            while True:
                waiting = [node for node, state in self.states.items() if state is State.WAITING]
                if not waiting or self._stopping or self.corrupt:
                    return None
                now = time.monotonic()
                for node in waiting:
                    ready = all(self.states[above] in _DONE for above in node.upstream.values())
                    if ready and self._slots[self._resource(node)] > 0 and self._not_before.get(node, 0.0) <= now:
                        self.states[node] = State.RUNNING
                        self._slots[self._resource(node)] -= 1
                        return node
                self._changed.wait(_RETRY_S)

    def _over(self, node: Node, state: State, message: str) -> None:
        with self._changed:
            self._slots[self._resource(node)] += 1
            self.states[node] = state
            if state is State.WAITING:
                self._not_before[node] = time.monotonic() + _RETRY_S
            if state is State.EXECUTED:
                self.report.executed.append((node.stage, node.jobs[0].name))
            if state is State.SHARED:
                self.report.shared.append((node.stage, node.jobs[0].name))
            if state is State.FAILED:
                self.report.failures[f"{node.stage} of {node.jobs[0].name}"] = message
                for other in self.plan.nodes:  # each after its upstream
                    if any(self.states[up] in (State.FAILED, State.SKIPPED) for up in other.upstream.values()):
                        self.states[other] = State.SKIPPED
            self._changed.notify_all()
            if state in _OVER:
                self._tell(node, state, message)
        if state in _DONE:
            for job in node.jobs:
                self._finish(job)

    def _tell(self, node: Node, state: State, message: str) -> None:
        for observer in self._observers:
            observer.stage(node, state, message)

    def _resource(self, node: Node) -> str:
        return "gpu" if node.step.resource == "gpu" and node.environment.get("device") == "cuda" else "cpu"

    def _finish(self, job: Job) -> None:
        """Write the results of a job as soon as all of its stages are done."""
        if all(self.states[node] in _DONE for node in self.plan.of(job).values()):
            with self._changed:
                if job.name in self.report.finished:
                    return
                self.report.finished.append(job.name)  # taken back below if there are no results after all
            try:
                results.write(self.plan, job, lambda: self._workspace(job).commit, self.name)
            except CorruptObject as error:
                self.report.finished.remove(job.name)
                self.corrupt = error
                return
            except Exception as error:  # noqa: BLE001 - as above; a thread that dies here would claim to have finished
                self.report.finished.remove(job.name)
                self.report.failures[f"results of {job.name}"] = _told(error)
                return
            for observer in self._observers:
                observer.finished(job)

    # -- one stage -------------------------------------------------------------------------------------------------

    def _perform(self, node: Node) -> State:
        """Execute a stage, unless its result is there by now or another sweep is at it."""
        record = self.plan.record(node)
        key = dvc_store.run_key(record)
        lock = Lock(f"run-{key}", self._root / ".ups" / "locks")
        if not lock.try_acquire():
            return State.WAITING
        try:
            outs = self.plan.store.find(record)
            if outs is not None and not self._made_otherwise(node, outs):
                node.outs = outs
                return State.SHARED
            workspace = self._workspace(node.jobs[0])
            with workspace.in_use(lambda: self._stopping) as in_use:
                execute = partial(self._execute, node, record, key, workspace, [lock.file, in_use])
                for observer in self._observers:
                    execute = partial(observer.around, node, execute)
                execute()
            return State.EXECUTED
        finally:
            lock.release()

    def _made_otherwise(self, node: Node, outs: list[dvc_store.Entry]) -> bool:
        """Return whether a result is not to be used because of the environment that it was made in."""
        if not self.plan.strict_environment:
            return False
        return bool(environment_change(node, outs, self.plan.store, executions.History(executions.read())))

    def _execute(
        self, node: Node, record: dvc_store.Record, key: str, workspace: Workspace, locks: Sequence[int]
    ) -> None:
        step, job = node.step, node.jobs[0]
        workspace.check_sources(step, self.plan.sources)
        needed = {(above.stage, out["path"]): out for above in node.upstream.values() for out in above.outs or []}
        for (_, path), out in needed.items():
            if any(dep == path or dep.startswith(f"{path}/") for dep, _ in step.products):
                self.report.copied += workspace.bring(out)
        workspace.clear(step)
        log = self._root / LOGS / job.name / f"{step.stage}.log"
        self._tell(node, State.RUNNING, "")
        start = time.time()
        code, outs = 1, []
        try:
            command = processes.Command(step.command, workspace.path, step.stage, log, locks)
            self._commands[node] = command
            if self._stopping:
                command.stop()
            code = command.wait()
            del self._commands[node]
            if code:
                said = processes.tail(log)
                if self._stopping:
                    raise Interrupted(f"{step.stage} was stopped.")
                raise ArtifactError(f"exit code {code}: {said} All of its output: {log.relative_to(self._root)}")
            workspace.check_outputs(step, self._read_of(node))
            outs = [self.plan.store.add(path, workspace.path) for path in sorted(step.outs)]
            self.plan.store.save({**record, "outs": outs})
        except BaseException:
            code = code or 1
            with contextlib.suppress(OSError):  # the first failure is the one to report
                workspace.clear(step)
            raise
        finally:
            self._log(node, key, start, code, workspace.commit)
        node.outs = outs
        workspace.keep(outs)
        self._write_lock(job, workspace)

    def _read_of(self, node: Node) -> dict[str, str]:
        """Return the files that other stages of the plan read of a stage, with one of those stages."""
        readers = [other for other in self.plan.nodes if other.upstream.get(node.stage) is node]
        return {path: other.stage for other in readers for path, writer in other.step.products if writer == node.stage}

    def _log(self, node: Node, key: str, start: float, code: int, commit: str) -> None:
        job = node.jobs[0]
        line = Execution(
            node.stage,
            node.fingerprint,
            key,
            job.variant,
            job.seed,
            round(start, 3),
            round(time.time(), 3),
            code,
            environment=node.environment,
            snapshot=commit,
            sweep=self.name,
        )
        executions.append(line, node.description)

    def _write_lock(self, job: Job, workspace: Workspace) -> None:
        known = {name: node for name, node in self.plan.of(job).items() if node.outs is not None}
        records = {name: {**self.plan.record(node), "outs": node.outs} for name, node in known.items()}
        dvc_store.write_lock(records, workspace.path / "dvc.lock")

    def _workspace(self, job: Job) -> Workspace:
        with self._changed:
            if self._snapshot is None:
                self._snapshot = snapshot.take(self._root)
            if job.name not in self._workspaces:
                self._workspaces[job.name] = Workspace(self._root, job, self._snapshot, self.plan.store)
            return self._workspaces[job.name]


def sweep(
    jobs: Sequence[Job],
    workers: int = 1,
    name: str | None = None,
    strict_environment: bool = False,
    observers: Sequence[Observer] = (),
    made: Plan | None = None,
) -> Report:
    """Plan some variants and seeds and execute the plan.

    Args:
        jobs: variants and seeds.
        workers: how many stages may run at a time.
        name: of the sweep, for the log.
        strict_environment: take another version, device class or precision for a reason to run.
        observers: follow what happens.
        made: the plan, if it is at hand.

    Returns: what was done; a failure of some stages is no exception, see `Report.failures`.

    Raises:
        UpsError: if nothing can be planned, or the project is no git repository.
    """
    started = time.monotonic()
    made = made or plan(jobs, strict_environment)
    report = Report(cached=made.cached)
    with Interruption(report) as interruption:
        for _ in range(_ROUNDS):
            report.failures.clear()
            running = Sweep(made, workers, name, observers, report)
            interruption.target = running
            if report.interrupted:
                running.stop()
            if made.executions:
                made.store.clear_leftovers()
            with _no_pruning(made):
                running.run()
            if running.corrupt is None or report.interrupted:
                break
            made = plan(jobs, strict_environment)
        else:
            raise ArtifactError(f"The cache was found corrupt {_ROUNDS} times in a row: {running.corrupt}")
    report.unfinished = [job.name for job in jobs if job.name not in report.finished]
    report.seconds = round(time.monotonic() - started, 3)
    return report


def _no_pruning(made: Plan) -> contextlib.AbstractContextManager[object]:
    """Keep `ups prune` away from what is being made and used; a cached sweep writes nothing that it could take."""
    return Lock(SWEEP).held(shared=True) if made.executions else contextlib.nullcontext()


class Interruption(contextlib.AbstractContextManager["Interruption"]):
    """While it is entered in the main thread, SIGINT and SIGTERM stop the sweep instead of ending the process."""

    def __init__(self, report: Report) -> None:
        self.target: Sweep | None = None
        self._report = report
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        with contextlib.suppress(ValueError):  # not the main thread, which alone receives signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _: object) -> None:
        self._report.interrupted = number
        if self.target is not None:
            self.target.stop()


def _told(error: Exception) -> str:
    """Return what to tell of an error; one that nobody foresaw is a defect of this program, and shown in full."""
    if isinstance(error, UpsError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
    traceback.print_exception(error)
    return f"unexpected {type(error).__name__}: {error}. This is a defect of `ups`, not of the stage; see above."
