"""The sections made of figures: errors against time and cost, training, spectra, rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pandas as pd

from ups.evaluation.comparison import Question
from ups.evaluation.figures.style import with_unit
from ups.evaluation.names import finite_volume_cells
from ups.evaluation.protocols import Protocol
from ups.report import figures, outcome
from ups.report.animation import animated, film
from ups.report.elements import Html, absent, details, grid, paragraph, picture, section, tag
from ups.report.figures import Line, Point
from ups.report.material import Material
from ups.report.runs import Run
from ups.report.trainings import trainings

# The baselines a reader asks for; the full set is in the table of all models.
_BASELINES = ("operator", "fno", "persistence_last")
_TITLES = {
    "one_step": "one step from the true frame",
    "rollout_ic": "free-running from the first frame",
    "pdebench": "free-running, PDEBench's protocol",
}
_MOST_PANELS = 6  # variants whose rollouts and spectra are shown as pictures; each is some 300 kB
_BANDS = ("low", "mid", "high")


def time_section(material: Material) -> Html:
    """Return the section on error against time."""
    tables = {
        run: table
        for run in outcome.evaluated(material)
        if (table := material.csv(run, "evaluate", "error_vs_time.csv")) is not None
    }
    if not tables:
        return section("time", "Error against time", absent("No run holds error_vs_time.csv."))
    unit = _time_unit(material)
    shown = []
    for protocol in outcome.protocols(material):
        lines = _time_lines(material, tables, protocol)
        if lines:
            data = figures.drawn(
                figures.draw_lines,
                _TITLES[protocol],
                with_unit("time t", unit),
                with_unit("nRMSE, mean over trajectories", "1"),
                lines,
            )
            alt = f"Error against time, {protocol}: {', '.join(line.label for line in lines)}"
            shown.append(picture(data, alt, f"Protocol {protocol}."))
    said = (
        "Variants: the assembled surrogate, mean and range over seeds (of a single seed: one standard error over "
        "trajectories). Baselines: from the runs of the reference variant. A line ends where a forecast diverged."
    )
    return section(
        "time",
        "Error against time",
        grid(shown),
        paragraph(said),
        paragraph("Source: artifacts/evaluate/error_vs_time.csv of each run.", "source"),
    )


def cost_section(material: Material) -> Html:
    """Return the section on error against cost, the classical solver in the same plot."""
    shown = []
    for protocol in outcome.protocols(material):
        if protocol != "one_step":
            points = _cost_points(material, protocol)
            if points:
                curves = _classical(material, protocol)
                data = figures.drawn(figures.draw_cost, f"error against cost, {protocol}", points, curves)
                solver = (
                    "numbers beside the solver's line are its cells"
                    if curves
                    else "the solver's line was not measured under this protocol"
                )
                caption = f"Protocol {protocol}; {solver}."
                names = ", ".join([*(point.label for point in points), *curves])
                alt = f"Error against time per trajectory, {protocol}: {names}"
                shown.append(picture(data, alt, caption))
    if not shown:
        return section(
            "cost", "Error against cost", absent("No run holds errors and costs of a free-running protocol.")
        )
    said = (
        "Down and to the left is better. The classical solver's line was measured on validation (that is where its "
        "resolution is chosen), everything else on test. Times are those of the machine that evaluated, see provenance."
    )
    return section(
        "cost",
        "Error against cost",
        grid(shown),
        paragraph(said),
        paragraph("Source: artifacts/evaluate/metrics.json of each run.", "source"),
    )


def training_section(material: Material) -> Html:
    """Return the section with the losses of every stage that trained."""
    shown = []
    for stage in material.stages():
        groups = _histories(material, stage)
        if groups:
            data = figures.drawn(figures.draw_training, stage, groups)
            alt = f"Losses of {stage} against updates: {'; '.join(label for label, _, _ in groups)}"
            shown.append(picture(data, alt, _training_caption(stage, groups)))
    if not shown:
        return section("training", "Training", absent("No stage left a history of its training."))
    said = (
        "One line per seed; variants that share a stage share its lines. The dotted grey line is what correcting "
        "nothing scores: a corrector above it does harm."
    )
    return section(
        "training",
        "Training",
        grid(shown),
        paragraph(said),
        paragraph("Source: artifacts/<stage>/history.csv of each run.", "source"),
    )


def spectra_section(material: Material) -> Html:
    """Return the section on errors by wavenumber, and the spectra of each variant's first run."""
    there = outcome.protocols(material)
    parts: list[Html] = []
    if there:
        entries = _bands(material, there[0])
        if entries:
            unit = _metadata(material, "units", ["1"])[0]
            data = figures.drawn(figures.draw_bands, f"error by wavenumber, {there[0]}", unit, entries)
            alt = f"Error in low, middle and high wavenumbers: {', '.join(label for label, _, _ in entries)}"
            parts.append(grid([picture(data, alt, "Mean over trajectories and frames; bars: range over seeds.")]))
        parts += _embedded(
            material, f"spectra_{there[0]}.png", "Spectra of the field and of the error at the last frame"
        )
    if not parts:
        parts = [absent("No run holds spectra.")]
    source = paragraph("Source: artifacts/evaluate/per_trajectory.parquet and figures/ of each run.", "source")
    return section("spectra", "Spectra", *parts, source)


def rollout_section(material: Material) -> Html:
    """Return the section with rollouts: an animation of one test trajectory, and the panels of each variant."""
    rolling = [name for name in outcome.protocols(material) if name != "one_step"]
    runs = outcome.evaluated(material)
    if not rolling or not runs:
        return section("rollouts", "Rollouts", absent("No run holds a free-running forecast."))
    return section(
        "rollouts",
        "Rollouts",
        _animation(material, runs[0], rolling[0]),
        *_embedded(material, f"rollout_{rolling[0]}.png", "Truth, prediction and error of test trajectories"),
    )


def _animation(material: Material, run: Run, protocol: str) -> Html:
    shown = material.attempt(f"The animation of {run.name}", film, run, cast(Protocol, protocol))
    if shown is None:
        return absent(f"There is no animation of {run.name}; the reason is listed under failures.")
    for path in (run.artifacts / "evaluate" / "surrogate").rglob("*"):
        material.note(path)
    material.note(run.artifacts / "prepare_data" / "dataset.h5")
    held = (
        f"Its nRMSE, {shown.error:.3e}, is the recorded one ({shown.recorded:.3e})."
        if shown.agrees
        else f"WARNING: its nRMSE is {shown.error:.3e}, but the evaluation recorded {shown.recorded:.3e}."
    )
    caption = (
        f"{run.name}, {protocol}: test trajectory {shown.trajectory}, the one of median error, forecast again for this "
        f"page with the surrogate in {run.artifacts / 'evaluate' / 'surrogate'}. {held}"
    )
    return tag("figure", [animated(shown), tag("figcaption", caption)], class_="full")


def _embedded(material: Material, name: str, what: str) -> list[Html]:
    """Return the pictures with this name of each variant's first run; all but the first are folded away."""
    parts: list[Html] = []
    first = {run.variant: run for run in reversed(outcome.evaluated(material))}
    for number, variant in enumerate(one for one in material.chosen.variants if one in first):
        run = first[variant]
        if number == _MOST_PANELS:
            parts.append(absent(f"Pictures of further variants are in their artifacts/evaluate/figures/{name}."))
            break
        data = material.bytes(run, "evaluate", f"figures/{name}")
        if data is None:
            parts.append(absent(f"{run.name} holds no figures/{name}."))
            continue
        place = run.artifacts / "evaluate" / "figures" / name
        shown = picture(data, f"{what}: {run.name}", f"{what}: {run.name}. Source: {place}.", wide=1080)
        parts.append(details(f"{what}: {run.name}", shown) if parts else shown)
    return parts


def _time_lines(material: Material, tables: Mapping[Run, pd.DataFrame], protocol: str) -> list[Line]:
    lines = []

    def add(label: str, style: Mapping[str, Any], runs: Sequence[Run], model: str) -> None:
        parts = []
        for run in runs:
            table = tables[run]
            rows = table[(table["model"] == model) & (table["protocol"] == protocol) & (table["metric"] == "nrmse")]
            if not rows.empty:
                parts.append(rows)
        if parts and len({len(part) for part in parts}) == 1:
            lines.append(Line(label, *figures.over_seeds(parts), style))

    for position, variant in enumerate(material.chosen.variants):
        add(variant, figures.variant_style(position), [run for run in tables if run.variant == variant], "assembled")
    reference = next(iter(tables)).variant
    theirs = [run for run in tables if run.variant == reference]
    for model in (*_BASELINES, *_solvers(material, reference)):
        label, style = figures.model_look(model)
        if model == "operator":
            label = f"{reference}: operator alone"
        add(label, style, theirs, model)
    return lines


def _solvers(material: Material, variant: str) -> list[str]:
    """Return the classical solvers that every run of a variant was evaluated against."""
    known = [set(material.json(run, "evaluate") or {}) for run in outcome.evaluated(material) if run.variant == variant]
    shared = set.intersection(*known) if known else set()
    return sorted(
        (name for name in shared if finite_volume_cells(name)), key=lambda name: finite_volume_cells(name) or 0
    )


def _cost_points(material: Material, protocol: str) -> list[Point]:
    points = []
    reference = material.chosen.variants[0]
    wanted = [
        (variant, "assembled", "evaluate", variant, figures.variant_style(at))
        for at, variant in enumerate(material.chosen.variants)
    ]
    for model in ("operator", "corrected", "student", "fno", *_solvers(material, reference)):
        label, style = figures.model_look(model)
        own = model in ("operator", "corrected", "student")
        wanted.append((reference, model, "evaluate", f"{reference}: {label}" if own else label, style))
    search = {"color": figures.GREY, "marker": "p", "markerfacecolor": "white"}
    wanted.append((reference, "search", "evaluate_ttc", f"{reference}: test-time search", search))
    for variant, model, stage, label, style in wanted:
        found = []
        for run in material.chosen.of(variant):
            scores = (material.json(run, stage) or {}).get(model, {}).get(protocol, {})
            error, cost = scores.get("nrmse", {}), scores.get("seconds_per_trajectory")
            if cost and error.get("mean") is not None:
                found.append((1e3 * cost, error["mean"], error.get("stderr") or 0.0))
        if found and len(found) == len(material.chosen.of(variant)):
            costs, errors, spread = zip(*found, strict=True)
            mean = sum(errors) / len(errors)
            low, high = _range(errors) if len(errors) > 1 else (mean - spread[0], mean + spread[0])
            points.append(Point(label, sum(costs) / len(costs), mean, max(low, 0.1 * mean), high, style))
    return points


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return the smallest and the largest value, or the mean where rounding puts that outside: bars have no minus."""
    mean = sum(values) / len(values)
    return min(mean, *values), max(mean, *values)


def _classical(material: Material, protocol: str) -> dict[str, list[tuple[int, float, float]]]:
    """Return the line of the classical solver: cells, milliseconds, nRMSE, averaged over the runs that measured it."""
    by_cells: dict[int, list[tuple[float, float]]] = {}
    for run in outcome.evaluated(material):
        choice = (material.json(run, "evaluate") or {}).get("finite_volume_choice", {})
        if choice.get("protocol") == protocol:
            for entry in choice.get("candidates", []):
                if entry["nrmse"] is not None:
                    by_cells.setdefault(entry["cells"], []).append(
                        (1e3 * entry["seconds_per_trajectory"], entry["nrmse"])
                    )
    line = [
        (cells, sum(cost for cost, _ in found) / len(found), sum(error for _, error in found) / len(found))
        for cells, found in by_cells.items()
    ]
    return {"finite volumes, by cells (validation)": line} if line else {}


def _histories(material: Material, stage: str) -> list[tuple[str, dict[str, Any], list[pd.DataFrame]]]:
    """Return label, look and histories by seed of each group of variants whose histories are the same."""
    positions = {variant: at for at, variant in enumerate(material.chosen.variants)}
    return [
        (found.label, figures.variant_style(positions[found.variants[0]]), list(found.histories))
        for found in trainings(material, stage)
    ]


def _training_caption(stage: str, groups: Sequence[tuple[str, Any, Sequence[pd.DataFrame]]]) -> str:
    seeds = max(len(tables) for _, _, tables in groups)
    return f"{stage}, {seeds} seed{'s' if seeds > 1 else ''}."


def _bands(
    material: Material, protocol: str
) -> list[tuple[str, dict[str, Any], dict[str, tuple[float, float, float]]]]:
    entries = []
    reference = material.chosen.variants[0]
    wanted = [
        (variant, "assembled", variant, figures.variant_style(at))
        for at, variant in enumerate(material.chosen.variants)
    ]
    for model in ("fno", *_solvers(material, reference)):
        label, style = figures.model_look(model)
        wanted.append((reference, model, label, style))
    for variant, model, label, style in wanted:
        bands: dict[str, tuple[float, float, float]] = {}
        for band in _BANDS:
            values = outcome.read(material, Question(f"spectral_error_{band}", protocol, model)).get(variant, {})
            errors = [float(one.mean(skipna=False)) for one in values.values()]
            if errors and all(value == value for value in errors):
                bands[band] = (sum(errors) / len(errors), *_range(errors))
        if bands:
            entries.append((label, style, bands))
    return entries


def _metadata(material: Material, key: str, otherwise: Any) -> Any:
    for run in material.chosen.runs:
        audit = material.json(run, "prepare_data", "audit.json")
        if audit and key in audit.get("metadata", {}):
            return audit["metadata"][key]
    return otherwise


def _time_unit(material: Material) -> str:
    return str(_metadata(material, "time_unit", "1"))
