"""The section on the recipe's claims: what each says, what was measured, and what follows."""

from __future__ import annotations

from ups.evaluation.claims.evidence import Evidence
from ups.evaluation.claims.recipe import Answer, answer_all
from ups.evaluation.claims.rules import MARGIN, ClaimVerdict
from ups.evaluation.seed_tests import MIN_PAIRS, POWER
from ups.report import outcome
from ups.report.elements import Content, Html, paragraph, section, table, tag
from ups.report.material import Material
from ups.report.numbers import NOTHING, detectable, effect, interval

_SIGNS = {
    ClaimVerdict.HOLDS: "✓",
    ClaimVerdict.DOES_NOT_HOLD: "✗",
    ClaimVerdict.CANNOT_TELL: "?",
    ClaimVerdict.NOT_MEASURED: "–",
}


def claim_section(material: Material) -> Html:
    """Return the section."""
    runs: dict[str, dict[int, object]] = {}
    for run in outcome.evaluated(material):
        runs.setdefault(run.variant, {})[run.seed] = run.artifacts
    answers = answer_all(Evidence(runs))  # type: ignore[arg-type]
    for answer in answers:
        for path in answer.sources:
            material.note(path)
    counts = ", ".join(
        f"{sum(answer.finding.verdict is verdict for answer in answers)} {verdict}" for verdict in ClaimVerdict
    )
    rules = (
        f"Every verdict follows from the interval, and none is given below {MIN_PAIRS} seeds. A claim holds if the "
        "interval lies on its side of no effect; it does not hold if the interval lies on the other side, or leaves "
        "out the claimed size; claims that nothing changes hold if the interval lies within a margin of "
        f"{MARGIN:.0%}. All else cannot be told. “Detectable” is the smallest true effect that would have been found "
        f"with probability {POWER:g}; smaller ones may exist. Each claim is tested on its own: with this many, one "
        "false verdict is no surprise."
    )
    header = ["claim", "claimed", "found", "detectable", "verdict"]
    return section(
        "claims",
        "The claims of the recipe",
        paragraph(f"{len(answers)} claims: {counts}."),
        table(header, [_row(answer) for answer in answers], frozenset({0, 1, 4}), stacked=True),
        paragraph(rules),
        paragraph(
            "Source: the files under each claim's number, in the folders of its runs; definitions in "
            "ups/evaluation/claims/recipe.py.",
            "source",
        ),
    )


def _row(answer: Answer) -> list[Content]:
    claim, finding = answer.claim, answer.finding
    estimate = finding.estimate
    found: Content = NOTHING
    if estimate is not None:
        exact = estimate.low == estimate.high == estimate.value and estimate.confidence == 1.0
        within = "" if exact else interval(estimate.low, estimate.high, finding.unit)
        note = f"{estimate.confidence:.0%}: {within}" if within not in ("", NOTHING) else ""
        found = [effect(estimate.value, finding.unit), tag("div", note, class_="note") if note else ""]
    said = tag("span", f"{_SIGNS[finding.verdict]} {finding.verdict}", class_="verdict")
    files = sorted({"/".join(path.parts[-2:]) for path in answer.sources})
    measured = [finding.measured, tag("span", f" ({', '.join(files)})" if files else "", class_="source")]
    return [
        [claim.statement, tag("div", measured, class_="note") if finding.measured else ""],
        claim.claimed,
        found,
        detectable(estimate, finding.unit),
        [said, tag("div", finding.reason, class_="note")],
    ]
