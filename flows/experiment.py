"""The flow `experiment`: the stages of the working tree one by one, then MLflow.

    python -m flows.experiment

Works without a Prefect server: it then starts a temporary one of its own. A stage that DVC restores from its cache, or
finds unchanged, is shown in the state `Cached`; Prefect's own result cache stays off, because two caches disagree.
"""

from __future__ import annotations

import sys

from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from ups.errors import UpsError
from ups.pipeline import execute, publish, stages
from ups.pipeline.check import check
from ups.pipeline.execute import Outcome


@task(task_run_name="{stage}", cache_policy=NO_CACHE, retries=0)
def run_stage(stage: str) -> State[str]:
    """Run one stage; a failing training is not retried, it would fail again."""
    outcome = execute.run_stage(stage, echo=get_run_logger().info)
    return Completed(name="Completed" if outcome is Outcome.RAN else "Cached", message=f"{stage}: {outcome}")


@task(task_run_name="publish", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=10)
def publish_run() -> str:
    """Publish to MLflow; a server that is away may be back in a moment."""
    link = publish.publish()
    get_run_logger().info(publish.describe(link))
    return link.run_id


@flow(name="experiment", retries=0)
def experiment(publish_results: bool = True) -> str | None:
    """Bring every stage up to date and publish the result.

    Args:
        publish_results: write the run to MLflow when all stages are done.

    Returns: the id of the MLflow run.
    """
    for stage in stages.stage_names():
        run_stage(stage)
    return publish_run() if publish_results else None


def main() -> None:
    """Check the working tree and run the flow in this process."""
    try:
        check()
        experiment()
    except UpsError as error:
        print(f"experiment: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
