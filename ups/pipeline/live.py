"""Publish a sweep to MLflow while it runs: curves as the epochs end, each variant and seed as soon as it is finished.

A stage that is executed writes its curve into the run of the variant and seed that it is executed for. What came from
the cache, or was executed for another one, is added when the results are complete.
"""

from __future__ import annotations

import csv
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ups import tracking
from ups.parameters.flat import flatten
from ups.pipeline import collect, description, publish, repair, results
from ups.pipeline.jobs import Job, parameters
from ups.pipeline.plan import Node
from ups.pipeline.sweep import Observer, State
from ups.pipeline.workspace import FOLDER as WORKSPACES
from ups.tracking import LiveRun, Point, TrackingError

_POLL_S = 2.0  # between two looks at the histories of the stages that run


class LivePublisher(Observer):
    """Publishes from a thread of its own: a store that is slow or away delays no stage.

    Args:
        sweep: name of the sweep, if it has one.
        say: prints a line.
    """

    def __init__(self, sweep: str | None, say: Callable[[str], None]) -> None:
        self.links: dict[str, tracking.Link] = {}
        self.unpublished: list[str] = []
        self.problem = ""
        self._sweep, self._say = sweep, say
        self._root = Path.cwd()
        self._runs: dict[str, LiveRun] = {}
        self._running: dict[Node, float] = {}
        self._failed: dict[str, str] = {}
        self._events: queue.Queue[tuple[Node, State, str] | Job | None] = queue.Queue()
        self._attempt(repair.repair)
        self._thread = threading.Thread(target=self._work, name="live-publisher", daemon=True)
        self._thread.start()

    def stage(self, node: Node, state: State, message: str) -> None:
        self._events.put((node, state, message))

    def finished(self, job: Job) -> None:
        self._events.put(job)

    def close(self, interrupted: bool = False) -> None:
        """Publish what is finished and close the runs of what is not: KILLED after an interruption, else FAILED."""
        self._events.put(None)
        self._thread.join()
        for name, run in self._runs.items():
            why = self._failed.get(name) or "The sweep ended before this variant and seed was finished."
            status = "KILLED" if interrupted or name not in self._failed else "FAILED"
            self._attempt(lambda run=run, status=status, why=why: run.abandon(status, why))  # type: ignore[misc]

    def _work(self) -> None:
        while True:
            try:
                event = self._events.get(timeout=_POLL_S if self._running else None)
            except queue.Empty:
                self._follow()
                continue
            if event is None:
                return
            if isinstance(event, Job):
                self._finish(event)
            else:
                self._stage(*event)

    def _stage(self, node: Node, state: State, message: str) -> None:
        job = node.jobs[0]
        if state is State.RUNNING:
            self._running[node] = time.time()
            if job.name not in self._runs:
                self._open(job)
            return
        self._running.pop(node, None)
        if state is State.FAILED:
            self._failed.update({other.name: f"{node.stage} failed: {message}" for other in node.jobs})

    def _open(self, job: Job) -> None:
        params = parameters(job)
        tags = {
            "task": params["task"]["name"],
            "variant": job.variant,
            "preset": job.selection.preset,
            "seed": str(job.seed),
            **({"sweep": self._sweep} if self._sweep else {}),
        }
        varied = {f"varies.{key}": value for key, value in collect.varied(job.variant).items()}

        def begin() -> None:
            name = collect.run_name(job.variant, job.seed, job.selection.preset)
            self._runs[job.name] = LiveRun(
                params["task"]["name"],
                name,
                time.time(),
                {**flatten(params), **varied},
                tags,
                tracking.store(),
                description.of_experiment(params),
            )

        self._attempt(begin)

    def _follow(self) -> None:
        """Send the epochs that the running stages have finished by now."""
        for node, started in list(self._running.items()):
            job = node.jobs[0]
            if job.name in self._runs:
                workspace = self._root / WORKSPACES / job.name
                points = list(_epochs(workspace, node.stage, started))
                self._attempt(lambda name=job.name, points=points: self._runs[name].send(points))  # type: ignore[misc]

    def _finish(self, job: Job) -> None:
        def publish_it() -> None:
            live = self._runs.get(job.name)
            self.links[job.name] = publish.publish_results(self._root / results.FOLDER / job.name, live)
            self._runs.pop(job.name, None)
            self._say(f"{job.name}: {publish.describe(self.links[job.name])}")

        if not self._attempt(publish_it):
            self.unpublished.append(job.name)

    def _attempt(self, action: Callable[[], object]) -> bool:
        """Do something with the store unless it was found to be away: waiting for it again and again costs minutes."""
        if self.problem:
            return False
        try:
            action()
        except TrackingError as error:
            self.problem = str(error)
            self._say(f"Publishing stops, the sweep goes on. {error}")
            return False
        return True


def _epochs(workspace: Path, stage: str, started: float) -> Iterator[Point]:
    """Read the history that a running stage keeps in its temporary folder."""
    for path in (workspace / "artifacts").glob(f".{stage}.*.tmp/history.csv"):
        try:
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
        except OSError:
            continue  # the stage has just ended
        for row in rows:
            now = started + (collect.number(row.get("seconds")) or 0.0)
            yield from collect.epoch_points(stage, row, now)
