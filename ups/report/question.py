"""The question: what the sweep is for, what each variant is expected to show, and what it changes."""

from __future__ import annotations

from typing import Any

from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import flatten
from ups.pipeline.jobs import BASE_NAME
from ups.report.elements import Html, absent, items, paragraph, section, table, tag
from ups.report.material import Material
from ups.report.runs import Run, hypothesis

_MOST_CHANGES = 12


def question_section(material: Material) -> Html:
    """Return the section."""
    chosen = material.chosen
    asked = paragraph(chosen.comment, "question") if chosen.comment else absent("No sweep file says what was asked.")
    rows = []
    for position, variant in enumerate(chosen.variants):
        runs = chosen.of(variant)
        declared_in_a_file = runs and variant != BASE_NAME
        known = material.attempt(f"The variant {variant}", hypothesis, runs[0]) if declared_in_a_file else None
        seeds = ", ".join(str(run.seed) for run in runs) or "no results"
        role = " (reference)" if position == 0 and len(chosen.variants) > 1 else ""
        if known is None:
            said = "the original parameters" if variant == BASE_NAME else "its file is in no commit at hand"
            rows.append([tag("b", variant + role), said, "–", seeds])
            continue
        why, varies, parent = known
        against = f"against {parent}" if parent else "against the base"
        declared = Html(paragraph(f"{against}: {', '.join(varies)}") + _changes(runs[0]))
        rows.append([tag("b", variant + role), why, declared, seeds])
    return section(
        "question",
        "The question",
        asked,
        table(["variant", "hypothesis", "what it varies", "seeds"], rows, frozenset(range(4)), stacked=True),
    )


def _changes(run: Run) -> Html:
    """List the values that the variant sets."""
    if not run.changes:
        return Html("")
    ran = flatten(read_yaml(run.folder / BASE))
    listed = []
    for key, value in run.changes.items():
        cut = key in ran and ran[key] != value
        listed.append(f"{key} = {_value(value)}" + (f", cut to {_value(ran[key])} by the preset" if cut else ""))
    more = [f"and {len(listed) - _MOST_CHANGES} more"] if len(listed) > _MOST_CHANGES else []
    return items([*(tag("code", entry) for entry in listed[:_MOST_CHANGES]), *more])


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
