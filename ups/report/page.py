"""`ups report`: one page of HTML with everything in it, which works offline and on a phone and prints."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path

from ups.report.claims import claim_section
from ups.report.elements import Html, absent, paragraph, section, tag
from ups.report.failures import failure_section, problem_section
from ups.report.material import Material
from ups.report.monitors import monitor_section
from ups.report.outcome import result_section
from ups.report.pictures import cost_section, rollout_section, spectra_section, time_section, training_section
from ups.report.plan import plan_section
from ups.report.provenance import provenance_section
from ups.report.question import question_section
from ups.report.runs import Chosen
from ups.report.style import STYLE

# anchor, word in the table of contents, section
_SECTIONS: tuple[tuple[str, str, Callable[[Material], Html]], ...] = (
    ("question", "Question", question_section),
    ("plan", "What ran", plan_section),
    ("results", "Results", result_section),
    ("time", "Time", time_section),
    ("cost", "Cost", cost_section),
    ("training", "Training", training_section),
    ("monitors", "Monitors", monitor_section),
    ("spectra", "Spectra", spectra_section),
    ("rollouts", "Rollouts", rollout_section),
    ("claims", "Claims", claim_section),
    ("failures", "Failures", failure_section),
)
_ORDER = (
    "question",
    "plan",
    "results",
    "time",
    "cost",
    "training",
    "monitors",
    "spectra",
    "rollouts",
    "failures",
    "claims",
    "provenance",
)
# What is folded on the screen has to be on paper too.
_UNFOLD = "addEventListener('beforeprint',()=>document.querySelectorAll('details:not(.long)').forEach(d=>d.open=true))"


def page(chosen: Chosen, command: str) -> Html:
    """Return the page.

    Args:
        chosen: the runs it is about.
        command: what made it, for its provenance.
    """
    material = Material(chosen)
    made: dict[str, Html] = {}
    for anchor, word, make in _SECTIONS:
        found = material.attempt(f"The section {word}", make, material)
        made[anchor] = (
            found
            if found is not None
            else section(anchor, word, absent("This section could not be made; the reason is listed under failures."))
        )
    made["provenance"] = provenance_section(material, command)
    made["failures"] = Html(made["failures"] + problem_section(material))
    words = {anchor: word for anchor, word, _ in _SECTIONS} | {"provenance": "Provenance"}
    title = f"Report: {chosen.title}"
    now = datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d %H:%M")
    task = f", task {chosen.task}" if chosen.task else ""
    lead = f"{len(chosen.runs)} runs, {len(chosen.variants)} variants, preset {chosen.preset}{task}. Made on {now} UTC."
    body = [
        tag("header", [tag("h1", title), paragraph(lead)]),
        tag("nav", [tag("a", words[anchor], href=f"#{anchor}") for anchor in _ORDER]),
        tag("main", [made[anchor] for anchor in _ORDER]),
        tag("script", Html(_UNFOLD)),
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(STYLE)),
    ]
    return Html("<!doctype html>\n" + tag("html", [tag("head", head), tag("body", body)], lang="en"))


def write(path: Path, content: Html) -> None:
    """Write the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fresh.write_text(content, encoding="utf-8")
    os.replace(fresh, path)
