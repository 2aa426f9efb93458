"""What watched the trainings: gradients, the gap of train and validation, the corrector's loss against rollouts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ups.evaluation.comparison import Question
from ups.evaluation.overfitting_alarm import LEVEL, MAX_GAP, gap_in_words
from ups.evaluation.seed_tests import paired_t
from ups.report import comparison as comparing
from ups.report import outcome
from ups.report.elements import Content, Html, absent, items, paragraph, section, table, tag, text
from ups.report.material import Material
from ups.report.numbers import NOTHING
from ups.report.trainings import Trainings, trainings

_HEADER = (
    "stage",
    "variants",
    "gradient norm, median",
    "updates above 100",
    "validation / training loss at the end",
    "its slope per epoch",
    "zero-correction line",
    "alarms",
)
_WORDS = frozenset({0, 1, 6, 7})


def monitor_section(material: Material) -> Html:
    """Return the section: a row for each stage that trained, and what the corrector's loss has to do with rollouts."""
    rows = [_row(material, stage, found) for stage in material.stages() for found in trainings(material, stage)]
    if not rows:
        return section("monitors", "Monitors", absent("No stage left a history of its training."))
    said = (
        "Norms before clipping: the median of the epochs' medians, and the largest. A gap raises an alarm in a "
        f"training where it is above {MAX_GAP} and rises, with an interval above zero. The interval of one training "
        "counts epochs that resemble each other for less; that of several is over the trainings."
    )
    return section(
        "monitors",
        "Monitors",
        table(_HEADER, rows, _WORDS, stacked=True),
        paragraph(said),
        tag("h3", "The corrector's training loss against rollouts"),
        *_across_epochs(material),
        paragraph(_across_runs(material)),
        paragraph("Source: artifacts/<stage>/history.csv and metrics.json of each run.", "source"),
    )


def alarms_of(metrics: Mapping[str, Any]) -> list[str]:
    """Return the alarms of a stage's training in words; of results older than these words, what their numbers say."""
    if "alarms" in metrics:
        return [str(alarm) for alarm in metrics["alarms"]]
    state, skipped = metrics.get("overfitting"), metrics.get("skipped_updates")
    gap = gap_in_words(state) if isinstance(state, dict) else None
    return [*([gap] if gap else []), *([f"{skipped} updates were skipped for exploding gradients."] if skipped else [])]


def _row(material: Material, stage: str, found: Trainings) -> list[Content]:
    metrics = [material.json(run, stage) or {} for run in found.runs]
    states = [state for one in metrics if isinstance(state := one.get("overfitting"), dict)]
    gaps = [float(state["gap"]) for state in states if state.get("gap") is not None]
    return [
        stage,
        _noted(found.label, f"{len(found.runs)} training{'s' if len(found.runs) > 1 else ''}"),
        *_gradients(found),
        _spread(gaps),
        _slope(states),
        _zero_line(found),
        _alarms(found, metrics),
    ]


def _noted(value: str, note: str) -> Html:
    return Html(text(value) + tag("div", note, class_="note"))


def _gradients(found: Trainings) -> list[Content]:
    def column(name: str) -> list[float]:
        return [float(value) for history in found.histories if name in history for value in history[name]]

    # Histories from before there were medians have means.
    typical = column("grad_norm_median") or column("grad_norm_mean")
    largest, large, skipped = column("grad_norm_max"), column("large_gradients"), column("skipped_updates")
    updates = sum(float(history["updates"].iloc[-1]) for history in found.histories)
    middle = f"{statistics.median(typical):.3g}" if typical else NOTHING
    above = f"{sum(large):g} of {updates:g}" if large else NOTHING
    return [
        _noted(middle, f"largest {max(largest):.3g}") if largest else middle,
        _noted(above, f"{sum(skipped):g} skipped, above 1000") if skipped else above,
    ]


def _spread(values: Sequence[float]) -> Html | str:
    if not values:
        return NOTHING
    mean = f"{statistics.fmean(values):.3f}"
    return _noted(mean, f"{min(values):.3f} to {max(values):.3f}") if len(values) > 1 else mean


def _slope(states: Sequence[Mapping[str, Any]]) -> Html | str:
    """Return the mean slope with its interval: over trainings where there are several, else over epochs."""
    slopes = [float(state["gap_slope"]) for state in states if state.get("gap_slope") is not None]
    if not slopes:
        return NOTHING
    low, high = states[0].get("gap_slope_low"), states[0].get("gap_slope_high")
    if len(slopes) > 1:
        test = paired_t(slopes, LEVEL)
        low, high = test.low, test.high
    interval = "too few epochs for an interval" if low is None or high is None else f"{low:+.2g} to {high:+.2g}"
    return _noted(f"{statistics.fmean(slopes):+.2g}", interval)


def _zero_line(found: Trainings) -> str:
    """Say whether and when the validation loss came below what correcting nothing scores."""
    reached, epochs = [], 0
    for history in found.histories:
        if "val_zero_correction" not in history:
            return NOTHING
        below = (history["val_loss"] < history["val_zero_correction"]).tolist()
        epochs = len(below)
        reached.append(below.index(True) + 1 if below[-1] else None)
    known = [epoch for epoch in reached if epoch is not None]
    if not known:
        return "NOT reached" if len(reached) == 1 else f"NOT reached in any of {len(reached)}"
    if len(reached) == 1:
        return f"reached in epoch {known[0]} of {epochs}"
    return f"reached in {len(known)} of {len(reached)}, first in epoch {min(known)} of {epochs}"


def _alarms(found: Trainings, metrics: Sequence[Mapping[str, Any]]) -> Html | str:
    rung = [
        f"seed {run.seed}: {alarm}" for run, one in zip(found.runs, metrics, strict=True) for alarm in alarms_of(one)
    ]
    return items(rung) if rung else "none"


def _across_epochs(material: Material) -> list[Html]:
    rows: list[list[Content]] = []
    for found in trainings(material, comparing.CORRECTOR):
        for run in found.runs:
            measured = (material.json(run, comparing.CORRECTOR) or {}).get("loss_against_rollouts")
            if isinstance(measured, dict):
                rows.append([found.label, str(run.seed), *_correlation(measured)])
    if not rows:
        return [absent("No corrector was rolled out while it trained: there are no epochs to correlate.")]
    header = ["variants", "seed", "epochs", "correlation", "95 % interval", "alarm"]
    return [table(header, rows, frozenset({0, 5}), stacked=True)]


def _correlation(measured: Mapping[str, Any]) -> list[str]:
    r, low, high = (measured.get(name) for name in ("r", "low", "high"))
    verdict = "silent"
    if low is None or high is None:
        verdict = "too few epochs to tell"
    elif measured.get("alarm"):
        verdict = "RINGS: rollouts become worse as the training loss falls"
    return [
        str(measured.get("epochs")),
        NOTHING if r is None else f"{r:+.2f}",
        NOTHING if low is None or high is None else f"{low:+.2f} to {high:+.2f}",
        verdict,
    ]


def _across_runs(material: Material) -> str:
    there = outcome.protocols(material)
    if not there:
        return "Overfitting alarm across runs: there are no errors to correlate."
    values = outcome.read(material, Question(protocol=there[0]))
    runs = {
        variant: {run.seed: run.folder for run in material.chosen.of(variant) if run.seed in known}
        for variant, known in values.items()
    }
    found = material.attempt("The overfitting alarm", comparing.corrector_correlation, runs, values)
    if found is None:
        return "Overfitting alarm across runs: it could not be computed, see below."
    return f"Across runs. {comparing.alarm_line(found)}"
