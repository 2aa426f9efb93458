"""Descriptions as MLflow's pages show them: Markdown in a tag, with links between pages."""

from __future__ import annotations

from collections.abc import Mapping

DESCRIPTION = "mlflow.note.content"
_TRAINING = "workflowType=machine_learning"  # without it the pages are those of language models


def run_page(experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page, behind that of the server."""
    return f"#/experiments/{experiment_id}/runs/{run_id}"


def evaluation_page(experiment_id: str) -> str:
    """Return the address of the page that shows the runs' evaluation tables beside each other."""
    return f"#/experiments/{experiment_id}/runs?compareRunsMode=ARTIFACT&{_TRAINING}"


def chart_page(experiment_id: str) -> str:
    """Return the address of the page that shows the runs' curves in common charts."""
    return f"#/experiments/{experiment_id}/runs?compareRunsMode=CHART&{_TRAINING}"


def of_experiment(summary: str, experiment_id: str) -> str:
    """Return a summary with links to the pages on which runs are compared."""
    return (
        f"{summary}\n\n"
        f"* [Errors per trajectory, run beside run]({evaluation_page(experiment_id)}): one table for each protocol, "
        "the model under *Compare*\n"
        f"* [Curves]({chart_page(experiment_id)})\n"
        "* Figures side by side: tick runs, *Compare*, *Artifacts*\n"
    )


def of_run(summary: str, experiment_id: str, makers: Mapping[str, tuple[str, str]], tables: bool) -> str:
    """Return a summary with links to the page of evaluations, and to the runs that made what came from the cache.

    Args:
        summary: Markdown.
        experiment_id: of the run.
        makers: stage -> id and name of the run that was the first to hold its output.
        tables: whether the run has any that can be compared.
    """
    stages: dict[tuple[str, str], list[str]] = {}
    for stage, maker in makers.items():
        stages.setdefault(maker, []).append(stage)
    links = [f"* [Errors per trajectory, beside other runs]({evaluation_page(experiment_id)})"] if tables else []
    links += [
        f"* {', '.join(names)}: from the cache, first in [{name}]({run_page(experiment_id, run_id)})"
        for (run_id, name), names in stages.items()
    ]
    return "\n\n".join(part for part in (summary, "\n".join(links)) if part)
