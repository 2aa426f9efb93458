"""The champion: the registered surrogate that a task's users load. It changes only by a verdict over seeds."""

from __future__ import annotations

from pathlib import Path

from ups import tracking
from ups.errors import ArtifactError
from ups.evaluation.comparison import Question, Verdict
from ups.evaluation.comparison_text import describe
from ups.parameters.selection import DEFAULT_PRESET
from ups.pipeline import publish
from ups.pipeline.run_record import find_runs, read_record
from ups.report import kept_comparison


def promote(variant: str, preset: str = DEFAULT_PRESET, task: str | None = None) -> tuple[tracking.Registered, str]:
    """Make a variant the champion of its task if there is none yet, or if it is better than the champion's variant.

    Its surrogate is that of the lowest seed: picking the seed with the best test error would make the test part of the
    training.

    Returns: the new champion, and why.

    Raises:
        ArtifactError: if the variant has no results, is not better, or cannot be compared with the champion.
        TrackingError: if the store cannot be reached.
    """
    runs = find_runs([variant], preset=preset, task=task)[variant]
    if not runs:
        raise ArtifactError(f"There are no results of '{variant}' with preset '{preset}'. Run `ups sweep {variant}`.")
    folder = runs[min(runs)]
    name = read_record(folder).params["task"]["name"]
    current = tracking.champion(name)
    reason = f"there was none for {name} before, so nothing was compared."
    if current:
        holder = tracking.read_run(current.run_id).tags
        if (holder.get("variant"), holder.get("preset")) == (variant, preset):
            raise ArtifactError(f"'{variant}' is the champion of {name} already: version {current.version}.")
        if holder.get("preset") != preset:
            raise ArtifactError(
                f"The champion of {name} is '{holder.get('variant')}' with preset '{holder.get('preset')}'. Runs of "
                f"preset '{preset}' are no fair comparison; run both with one preset."
            )
        found, _ = kept_comparison.compare([str(holder["variant"]), variant], None, Question(), preset, task)
        verdict = found.comparisons[0]
        reason = " ".join(" ".join(describe(verdict)).split())
        if verdict.verdict is not Verdict.BETTER:
            raise ArtifactError(f"The champion of {name} stays version {current.version}. {reason}")
    # The base without a sweep is what the working tree holds.
    run = publish.publish() if folder.resolve() == Path.cwd() else publish.publish_results(folder)
    chosen = tracking.register(run.run_id, folder / publish.SURROGATE, name)
    tracking.set_champion(chosen, reason)
    return chosen, reason
