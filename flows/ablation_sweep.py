"""The flow `ablation-sweep`: every distinct stage of some variants and seeds once, then MLflow and the comparison.

    python -m flows.ablation_sweep --sweep golden-vs-light --seeds 0-5     # without a Prefect server
    prefect deployment run ablation-sweep/local -p 'sweep="golden-vs-light"' --watch

Runs exactly what `ups sweep` runs, by the same functions. Every stage is a task run named by the stage and by who
shares it, in the state `Cached` where its result was there; Prefect's own result cache stays off, because two caches
disagree.
"""

from __future__ import annotations

import argparse
import contextvars
import re
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from prefect import State, flow, get_run_logger, runtime, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled, Completed, Failed

from flows import services
from ups import tracking
from ups.errors import UpsError
from ups.pipeline import jobs, publish, results
from ups.pipeline import sweep as sweeping
from ups.pipeline.live import LivePublisher
from ups.pipeline.locks import Interrupted
from ups.pipeline.plan import Action, Node, Plan, plan
from ups.pipeline.progress import Progress, sharers


class TaskRuns(sweeping.Observer):
    """Shows the stages of a sweep as task runs of the flow that it is made in.

    Args:
        made: the plan.
        log: takes a line.
    """

    def __init__(self, made: Plan, log: Callable[[str], None]) -> None:
        self._plan, self._log = made, log
        self._context = contextvars.copy_context()
        self._one_at_a_time = threading.Lock()

    def name(self, node: Node) -> str:
        return f"{node.stage} ({sharers(self._plan, node.jobs)})"

    def show_cached(self) -> None:
        """Make a task run for each stage whose result is there."""
        for node in self._plan.nodes:
            if node.action is Action.CACHED:
                self._task(node)(partial(Completed, name="Cached", message=node.reason))

    def stage(self, node: Node, state: sweeping.State, message: str) -> None:
        if state is sweeping.State.SHARED:
            found = partial(Completed, name="Cached", message="executed by another sweep meanwhile")
            self._in_context(lambda: self._task(node)(found))

    def around(self, node: Node, execute: Callable[[], None]) -> None:
        """Execute a stage as a task run; a failing training is not retried, it would fail again."""
        raised: list[BaseException] = []

        def perform() -> State[Any]:
            try:
                execute()
            except Interrupted as error:
                raised.append(error)
                return Cancelled(message=str(error))
            except BaseException as error:  # noqa: BLE001 - raised again below, in the sweep's own thread
                raised.append(error)
                return Failed(message=str(error))
            return Completed(message=node.reason)

        self._in_context(lambda: self._task(node)(perform))
        if raised:
            raise raised[0]

    def _task(self, node: Node) -> Callable[[Callable[[], State[Any]]], Any]:
        @task(name=node.stage, task_run_name=self.name(node), cache_policy=NO_CACHE, retries=0, tags=node.variants)
        def run_stage(perform: Callable[[], State[Any]]) -> State[Any]:
            return perform()

        return lambda perform: run_stage(perform, return_state=True)

    def _in_context(self, action: Callable[[], Any]) -> None:
        # The flow run is known to the thread that it began in; a context can be entered by one thread at a time.
        with self._one_at_a_time:
            mine = self._context.copy()
        mine.run(action)


@task(task_run_name="publish", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=10)
def publish_rest(names: list[str]) -> dict[str, str]:
    """Publish what could not be published while it ran; a server that was away may be back. Returns run ids by name."""
    return {name: publish.publish_results(results.FOLDER / name).run_id for name in names}


def _compared() -> str:
    """Return the name of a task run of `compare`; a template would show the list as Python writes it."""
    return f"compare {', '.join(runtime.task_run.parameters['variants'])}"


@task(task_run_name=_compared, cache_policy=NO_CACHE, retries=0)
def compare(variants: list[str], seeds: list[int], preset: str, task_name: str | None) -> str:
    """Compare the variants with the first one, and keep the report here and in MLflow."""
    from ups.report import kept_comparison
    from ups.report.comparison import text

    found, figure = kept_comparison.compare(variants, seeds, preset=preset, task=task_name)
    said = "\n".join(text(found))
    create_markdown_artifact(f"```\n{said}\n```", key="comparison", description=", ".join(variants))
    kept_comparison.publish(found, figure)
    return said


@flow(name="ablation-sweep", retries=0)
def ablation_sweep(
    sweep: str | None = None,
    variants: list[str] | None = None,
    seeds: str | list[int] | None = None,
    preset: str = "default",
    task_name: str | None = None,
    workers: int = 1,
    strict_env: bool = False,
    publish_results: bool = True,
    compare_variants: bool = True,
) -> dict[str, Any]:
    """Execute each distinct stage of some variants and seeds once, publish every variant and seed, compare them.

    Args:
        sweep: a file in params/sweeps.
        variants: files in params/variants, beside or instead of it.
        seeds: such as "0-5" or [0, 1, 2]; the sweep's or each variant's own by default.
        preset: sizes and lengths, a file in params/presets.
        task_name: the equation, a file in params/tasks.
        workers: how many stages may run at a time.
        strict_env: run again what other versions, another device or precision made.
        publish_results: write to MLflow, while the stages run.
        compare_variants: compare the others with the first one when all are done.

    Returns: counts of stages, and MLflow run ids by result.
    """
    log = get_run_logger()
    made = plan(jobs.choose(variants, sweep, seeds, preset, task_name), strict_env)
    create_table_artifact(_plan_table(made), key="plan", description=made.summary())
    log.info(made.summary())
    shown = TaskRuns(made, log.info)
    shown.show_cached()
    publisher = LivePublisher(sweep, log.info) if publish_results else None
    observers = [Progress(made, log.info), shown, *([publisher] if publisher else [])]
    report = sweeping.sweep(made.jobs, workers, sweep, strict_env, observers, made)
    links: dict[str, str] = {}
    if publisher:
        publisher.close(bool(report.interrupted))
        links = {name: link.run_id for name, link in publisher.links.items()}
        if publisher.unpublished and not report.interrupted:
            links |= publish_rest(publisher.unpublished)
    _show_results(report.finished, publisher.links if publisher else {})
    for what, message in report.failures.items():
        log.error(f"{what} failed: {message}")
    names = list(dict.fromkeys(job.variant for job in made.jobs))
    if compare_variants and len(names) > 1 and not report.unfinished:
        compare(names, sorted({job.seed for job in made.jobs}), preset, task_name)
    if report.interrupted:
        raise Interrupted("The sweep was stopped; the same parameters go on from here.")
    if report.failures or report.unfinished:
        failed = "; ".join(report.failures) or "see above"
        raise UpsError(f"Unfinished: {', '.join(report.unfinished)} ({failed}). The same parameters go on from here.")
    counts = {"executed": len(report.executed), "shared": len(report.shared), "cached": report.cached}
    return {**counts, "mlflow_runs": links}


def _plan_table(made: Plan) -> list[dict[str, Any]]:
    return [
        {
            "action": str(node.action),
            "stage": node.stage,
            "for": sharers(made, node.jobs),
            "predicted s": node.predicted_s,
            "why": node.reason,
        }
        for node in made.nodes
    ]


def _show_results(names: list[str], links: dict[str, tracking.Link]) -> None:
    """Make the table of results, with links to MLflow where a server shows it."""
    server = services.address("mlflow-ui")
    pages = {
        name: publish.page(link, link.store if link.store.startswith("http") else server)
        for name, link in links.items()
        if link.store.startswith("http") or server
    }
    table = [
        {"result": name, **results.headline(results.FOLDER / name), "mlflow": pages.get(name, "")} for name in names
    ]
    if table:
        create_table_artifact(table, key="results", description="nRMSE of free-running forecasts from ten given frames")
    for name, page in pages.items():
        key = "mlflow-" + re.sub(r"[^a-z0-9]+", "-", name.lower())
        create_link_artifact(page, link_text=f"MLflow run of {name}", key=key)


def main() -> None:
    """Run the flow in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*")
    parser.add_argument("--sweep")
    parser.add_argument("--seeds")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--task", dest="task_name")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--strict-env", action="store_true")
    try:
        ablation_sweep(**vars(parser.parse_args()))
    except UpsError as error:
        print(f"ablation-sweep: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
