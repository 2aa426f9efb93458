"""What has to run for some variants and seeds: every distinct stage execution once, known before anything runs.

The stages of all variants and seeds are merged into one graph by their fingerprints. A stage is `cached` if DVC's
run-cache holds a run with its command, parameters, code, data and the outputs of its upstream stages; else it is to
`run`. Imports neither DVC nor torch, prefect or mlflow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ups.parameters.files import read_yaml
from ups.pipeline import executions, reasons
from ups.pipeline.dvc_store import Entry, Record, Store, cache_folder
from ups.pipeline.executions import History
from ups.pipeline.fingerprint import Sources, describe, fingerprint
from ups.pipeline.graph import Step, steps
from ups.pipeline.jobs import Job
from ups.pipeline.predictions import Predictor, Workload, workload
from ups.pipeline.stages import DVC_YAML

_PROVENANCE = "provenance.json"


class Action(StrEnum):
    """What becomes of a stage."""

    RUN = "run"
    CACHED = "cached"


@dataclass(eq=False)
class Node:
    """One distinct stage execution.

    Attributes:
        fingerprint: see `ups.pipeline.fingerprint`.
        step: the stage with its parameters.
        description: what the result depends on.
        jobs: the variants and seeds that share it; the first is the one it runs for.
        upstream: the executions whose outputs it reads, by stage.
        action: what becomes of it.
        reason: why.
        outs: its outputs, once they are in the cache.
        seconds: how long it takes; None if it never ran.
        environment: versions, device class and precision it would run with.
    """

    fingerprint: str
    step: Step
    description: Mapping[str, Any]
    jobs: list[Job] = field(default_factory=list)
    upstream: dict[str, Node] = field(default_factory=dict)
    action: Action = Action.RUN
    reason: str = ""
    outs: list[Entry] | None = None
    seconds: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        return self.step.stage

    @property
    def predicted_s(self) -> float | None:
        return 0.0 if self.action is Action.CACHED else self.seconds

    @property
    def variants(self) -> list[str]:
        return list(dict.fromkeys(job.variant for job in self.jobs))


@dataclass
class Plan:
    """The merged graph.

    Attributes:
        jobs: variants and seeds.
        nodes: every distinct stage execution; all of the first job first, each after its upstream.
        store: the cache that results are looked up in and go to.
        sources: content of code and data.
        strict_environment: whether another environment is a reason to run.
    """

    jobs: list[Job]
    nodes: list[Node]
    store: Store
    sources: Sources
    strict_environment: bool = False

    @property
    def executions(self) -> int:
        return sum(node.action is Action.RUN for node in self.nodes)

    @property
    def cached(self) -> int:
        return len(self.nodes) - self.executions

    @property
    def naive_executions(self) -> int:
        return sum(len(node.jobs) for node in self.nodes)

    @property
    def predicted_s(self) -> float:
        return round(sum(node.predicted_s or 0.0 for node in self.nodes), 3)

    @property
    def saved_s(self) -> float:
        """Return the time that sharing and the cache save against running every stage of every variant and seed."""
        return round(sum((node.seconds or 0.0) * len(node.jobs) for node in self.nodes) - self.predicted_s, 3)

    def summary(self) -> str:
        """Return the totals in a sentence."""
        unknown = sum(node.predicted_s is None for node in self.nodes)
        took = f"about {duration(self.predicted_s)} on one worker, {duration(self.saved_s)} saved"
        if unknown:
            never = f"{unknown} of them have run in no sweep at this size, the others take {took}"
            took = never if unknown < self.executions else ""
        counts = f"{self.executions} executions instead of {self.naive_executions}, {self.cached} cached"
        return (
            f"{counts}; {took or 'none of them has run in a sweep at this size, so how long they take is not known'}."
        )

    def of(self, job: Job) -> dict[str, Node]:
        """Return the stage executions of one job, by stage."""
        return {node.stage: node for node in self.nodes if job in node.jobs}

    def record(self, node: Node) -> Record:
        """Return a node as DVC's run-cache keys it; its upstream outputs have to be known.

        Raises:
            ArtifactError: if an upstream stage did not write what the node reads.
        """
        return record(node, self.store, self.sources)

    def metrics(self, node: Node) -> dict[str, Any]:
        """Return the `metrics.json` of a node whose outputs are in the cache; empty if it holds none."""
        return _json(self.store, node.outs or (), "metrics.json")

    def as_json(self) -> dict[str, Any]:
        return {
            "executions": self.executions,
            "naive_executions": self.naive_executions,
            "cached": self.cached,
            "predicted_s": self.predicted_s,
            "saved_s": self.saved_s,
            "stages": [
                {
                    "stage": node.stage,
                    "fingerprint": node.fingerprint,
                    "action": str(node.action),
                    "reason": node.reason,
                    "variants": node.variants,
                    "predicted_s": node.predicted_s,
                }
                for node in self.nodes
            ],
        }


def duration(seconds: float) -> str:
    """Return a time for people."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def plan(jobs: Sequence[Job], strict_environment: bool = False) -> Plan:
    """Merge the stages of some variants and seeds and look up which results exist.

    Args:
        jobs: variants and seeds, see `ups.pipeline.jobs.resolve`.
        strict_environment: take another version, device class or precision for a reason to run.

    Raises:
        UpsError: if `dvc.yaml` or the parameters cannot be read, or a file that a stage reads does not exist.
    """
    root = Path.cwd()
    made = Plan(list(jobs), [], Store(cache_folder(root)), Sources(root), strict_environment)
    content = read_yaml(DVC_YAML)
    nodes: dict[str, Node] = {}
    for job in jobs:
        environment = executions.environment(job.raw.get("compute", {}))
        mine: dict[str, Node] = {}
        for step in steps(job.raw, content):
            description = describe(step, made.sources, {name: mine[name].fingerprint for name in step.upstream})
            key = fingerprint(description)
            if key not in nodes:
                upstream = {name: mine[name] for name in step.upstream}
                nodes[key] = Node(key, step, description, upstream=upstream, environment=environment)
            nodes[key].jobs.append(job)
            mine[step.stage] = nodes[key]
    made.nodes = list(nodes.values())
    _decide(made, History(executions.read()))
    return made


def record(node: Node, store: Store, sources: Sources) -> Record:
    """See `Plan.record`."""
    deps = [sources.entry(path) for path in node.step.sources]
    for path, producer in node.step.products:
        outs = node.upstream[producer].outs or []
        out = next(out for out in outs if path == out["path"] or path.startswith(f"{out['path']}/"))
        deps.append(store.entry_in(out, path))
    found: Record = {"cmd": node.step.command, "deps": sorted(deps, key=lambda dep: dep["path"])}
    if node.step.params:
        found["params"] = {file: dict(values) for file, values in node.step.params.items()}
    return {**found, "outs": [{"path": path} for path in sorted(node.step.outs)]}


def _decide(made: Plan, history: History) -> None:
    for node in made.nodes:
        waiting = [name for name, above in node.upstream.items() if above.outs is None]
        known = None if waiting else made.record(node)
        node.outs = made.store.find(known) if known else None
        changed = environment_change(node, node.outs, made.store, history) if node.outs else ""
        if node.outs is not None and not (changed and made.strict_environment):
            node.action, node.reason = Action.CACHED, "in the cache" + (f"; made with {changed}" if changed else "")
        else:
            node.outs = None
            node.reason = changed or reasons.why(node.step, node.description, node.jobs[0], waiting, history)
    _predict(made, history)


def environment_change(node: Node, outs: Iterable[Entry], store: Store, history: History) -> str:
    """Return how the environment that a result was made in differs from the present one; empty if it does not."""
    execution = history.of(node.fingerprint)
    before = execution.environment if execution else _from_provenance(_json(store, outs, _PROVENANCE))
    now = node.environment
    changes = [f"{key} {before[key]}, now {now[key]}" for key in now if key in before and before[key] != now[key]]
    return ", ".join(changes)


def _predict(made: Plan, history: History) -> None:
    """Fill in how long each stage takes: as logged, else as the stage itself noted in a cached result."""
    noted: dict[str, float] = {}
    predictor = Predictor(history)
    workloads: dict[str, Workload] = {}
    for node in made.nodes:
        above = [workloads[one.fingerprint] for one in node.upstream.values()]
        workloads[node.fingerprint] = workload(node.description, above)
        node.seconds = predictor.seconds(node.stage, node.fingerprint, workloads[node.fingerprint])
        if node.seconds is None and node.outs:
            seconds = _json(made.store, node.outs, _PROVENANCE).get("seconds")
            if isinstance(seconds, int | float):
                node.seconds = noted[node.stage] = float(seconds)
    for node in made.nodes:
        if node.seconds is None:
            node.seconds = noted.get(node.stage)


def _json(store: Store, outs: Iterable[Entry], name: str) -> dict[str, Any]:
    """Return what a JSON file among a stage's outputs holds; empty if it is not there or no mapping."""
    for out in outs:
        for path, md5 in store.files(out):
            if path == f"{out['path']}/{name}":
                try:
                    content = json.loads(store.object_path(md5).read_text(encoding="utf-8"))
                except (OSError, ValueError):
                    return {}
                return content if isinstance(content, dict) else {}
    return {}


def _from_provenance(content: Mapping[str, Any]) -> dict[str, str]:
    """Return what a stage's own record says about its environment; the names of its packages are the log's too."""
    found = {name: str(version) for name, version in (content.get("versions") or {}).items()}
    if "python" in content:
        found["python"] = str(content["python"])
    if "device" in content:
        found["device"] = "cpu" if str(content["device"]).startswith("cpu") else "cuda"
    return found
