"""The claims of the reference recipe, and the functions that answer them from results. No verdict is written here.

`claimed` numbers are the recipe's. "Error" is the nRMSE of free-running forecasts; with `corrected` the corrector is
forced, so that the gate does not make two variants the same surrogate. Variants of one claim share its level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ups.errors import ArtifactError
from ups.evaluation.claims import rules
from ups.evaluation.claims.evidence import Evidence, Missing
from ups.evaluation.claims.rules import MARGIN, ClaimVerdict, Estimate
from ups.evaluation.comparison import Comparison
from ups.evaluation.costs import read_train_loss
from ups.evaluation.overfitting_alarm import loss_correlation
from ups.evaluation.seed_tests import LEVEL

GOLDEN = "golden"
# Golden's models with golden's search: the same results under the name that the sweep `ttc` has for them.
GOLDENS_SEARCH = (GOLDEN, "ttc-golden")
CORRECTOR = "train_diffusion"
# A monitor skips updates above this norm (`ups.training.monitors.SKIP_NORM`, which needs torch; a test compares them).
EXPLODED = 1000.0
# For fields of order 1. Fronts narrower than a cell are sampled unevenly, which moves the mean of 64 points by 3e-3.
CONSERVED = 1e-2
# True counts of the token-wise corrector at 16 numbers per token and 96 hidden units, by depth.
PARAMETERS = {2: 3_280, 3: 12_592, 4: 21_904, 5: 31_216}


@dataclass(frozen=True)
class Finding:
    """What a claim's function found out.

    Attributes:
        verdict, reason: of the claim.
        estimate: the measured effect; None for what is not estimated.
        unit: how the estimate is written: "share" (+12 %), "factor" (1.3 x), "number", or a word that follows it.
        measured: what was measured, in words.
    """

    verdict: ClaimVerdict
    reason: str
    estimate: Estimate | None = None
    unit: str = "number"
    measured: str = ""


@dataclass(frozen=True)
class Claim:
    """One claim of the recipe.

    Attributes:
        name: short, unique.
        statement: what is claimed.
        claimed: the claimed number, in words.
        answer: finds out.
    """

    name: str
    statement: str
    claimed: str
    answer: Callable[[Evidence], Finding]


@dataclass(frozen=True)
class Answer:
    """A claim with what was found, and the files that were read for it."""

    claim: Claim
    finding: Finding
    sources: tuple[Path, ...]


def answer_all(evidence: Evidence, claims: Iterable[Claim] | None = None) -> list[Answer]:
    """Answer every claim from the runs at hand; what they cannot answer says what would be needed."""
    found = []
    for claim in CLAIMS if claims is None else claims:
        evidence.begin()
        try:
            finding = claim.answer(evidence)
        except Missing as missing:
            finding = Finding(ClaimVerdict.NOT_MEASURED, str(missing))
        except ArtifactError as error:
            finding = Finding(ClaimVerdict.NOT_MEASURED, f"the runs cannot be compared: {error}")
        found.append(Answer(claim, finding, tuple(evidence.used)))
    return found


def _compared(comparison: Comparison, verdict: rules.Decision, estimate: Estimate) -> Finding:
    asked = comparison.question
    measured = f"{comparison.method} against {comparison.reference}: {asked.metric}, {asked.protocol}, {asked.model}"
    return Finding(*verdict, estimate, "share", measured)


def _difference(
    method: str, reference: str, claimed: float, model: str, parts: int = 1
) -> Callable[[Evidence], Finding]:
    """Answer "the method's error differs from the reference's in this direction"."""

    def answer(evidence: Evidence) -> Finding:
        comparison = evidence.compare(method, reference, model, LEVEL / parts)
        estimate = rules.of_comparison(comparison)
        return _compared(comparison, rules.direction(estimate, claimed), estimate)

    return answer


def _range(method: str, reference: str, lowest: float, highest: float, model: str) -> Callable[[Evidence], Finding]:
    def answer(evidence: Evidence) -> Finding:
        comparison = evidence.compare(method, reference, model, LEVEL)
        estimate = rules.of_comparison(comparison)
        return _compared(comparison, rules.quantity(estimate, lowest, highest), estimate)

    return answer


def _deeper_is_no_better(depth: int) -> Callable[[Evidence], Finding]:
    def answer(evidence: Evidence) -> Finding:
        comparison = evidence.compare(f"corrector-depth-{depth}", GOLDEN, "corrected", LEVEL / 2)
        estimate = rules.of_comparison(comparison)
        return _compared(comparison, rules.equivalence(estimate, side="below"), estimate)

    return answer


def _loss_correlation(evidence: Evidence) -> Finding:
    points = []
    for variant, known in evidence.runs.items():
        for seed, artifacts in known.items():
            loss = read_train_loss(artifacts, CORRECTOR)
            if loss is None:
                continue
            evidence.used[artifacts / CORRECTOR / "metrics.json"] = None
            error = evidence.error(variant, seed, "corrected", evidence.protocol(variant))
            if error == error:  # a diverged run has no error and cannot be placed
                points.append((loss, error, variant))
    if not points:
        raise Missing("needs runs with a corrector")
    losses, errors, groups = zip(*points, strict=True)
    estimate = rules.of_correlation(loss_correlation(losses, errors, groups))
    measured = f"correlation across {len(points)} runs, differences between variants taken out"
    return Finding(*rules.direction(estimate, -0.394), estimate, "number", measured)


def _healthy_loss(evidence: Evidence) -> Finding:
    """Look at the runs whose corrector ends above the zero-correction baseline: do their forecasts suffer?"""
    loss: dict[str, dict[int, float]] = {}
    for variant, known in evidence.runs.items():
        for seed in known:
            metrics = evidence.metrics(variant, seed, CORRECTOR)
            baseline = metrics.get("zero_correction_loss")
            if baseline:
                loss.setdefault(variant, {})[seed] = metrics["val_loss"] / baseline
    if not loss:
        raise Missing("needs runs with a corrector")
    worst = max(loss, key=lambda variant: min(loss[variant].values()))
    highest = max(value for by_seed in loss.values() for value in by_seed.values())
    if min(loss[worst].values()) <= 1.0:
        raise Missing(
            "needs a variant whose corrector ends above the zero-correction baseline in every seed, such as one with "
            f"train_diffusion.zero_init: false; here the largest loss is {highest:.5g} times the baseline"
        )
    comparison, question = evidence.compare_models(worst, "evaluate", "corrected", "operator", LEVEL)
    estimate = rules.of_comparison(comparison)
    measured = (
        f"{worst}: its corrector's validation loss is {min(loss[worst].values()):.3g} to "
        f"{max(loss[worst].values()):.3g} times the zero-correction baseline; "
        f"{question.metric}, {question.protocol}, corrected against operator"
    )
    # Healthy means that the error does not rise.
    return Finding(*rules.equivalence(estimate, side="above"), estimate, "share", measured)


def _with_goldens_search(evidence: Evidence) -> str:
    """Return the variant at hand that searches as golden does."""
    present = [name for name in GOLDENS_SEARCH if name in evidence.runs]
    if not present:
        evidence.need(GOLDEN)
    return present[0]


def _search_gains_nothing(evidence: Evidence) -> Finding:
    variant = _with_goldens_search(evidence)
    comparison, question = evidence.compare_models(variant, "evaluate_ttc", "search", "base", LEVEL)
    estimate = rules.of_comparison(comparison)
    measured = f"{variant}: search against base, {question.metric}, {question.protocol}"
    return Finding(*rules.equivalence(estimate), estimate, "share", measured)


def _search_costs(evidence: Evidence) -> Finding:
    variant = _with_goldens_search(evidence)

    def ratio(seed: int, cost: str) -> float | None:
        metrics = evidence.metrics(variant, seed, "evaluate_ttc")
        protocol = evidence.protocol(variant, "evaluate_ttc")
        found = [metrics.get(mode, {}).get(protocol, {}).get(cost) for mode in ("search", "base")]
        return found[0] / found[1] if all(found) else None

    seeds = evidence.seeds(variant)
    seconds = ((seed, ratio(seed, "seconds_per_trajectory")) for seed in seeds)
    found = evidence.by_seed(variant, seconds, "the search's timings")
    estimate = rules.of_seeds(found, null=1.0, ratio=True)
    measured = f"{variant}: seconds of search over seconds of base"
    evaluations = [value for seed in seeds if (value := ratio(seed, "evaluations_per_trajectory")) is not None]
    if evaluations:
        measured += f"; {sum(evaluations) / len(evaluations):.3g} times its network evaluations"
    return Finding(*rules.quantity(estimate, 16.0, 24.0), estimate, "factor", measured)


def _generalisation_gap(evidence: Evidence) -> Finding:
    def gap(seed: int) -> float | None:
        rows = [row for row in evidence.history(GOLDEN, seed, CORRECTOR) if row.get("epoch") == 8]
        return rows[0]["val_loss"] / rows[0]["train_loss"] if rows else None

    seeds = evidence.seeds(GOLDEN)
    found = evidence.by_seed(GOLDEN, ((seed, gap(seed)) for seed in seeds), "8 epochs of the corrector")
    estimate = rules.of_seeds(found, null=1.0, ratio=True)
    measured = f"{GOLDEN}: the corrector's validation loss over its training loss after epoch 8"
    return Finding(*rules.quantity(estimate, 1.7, 1.7), estimate, "factor", measured)


def _integral_drifts(evidence: Evidence) -> Finding:
    audits = evidence.audit()
    splits = [split for audit in audits for split in audit.get("splits", {}).values()]
    drifts = [split["largest_change_of_mean"] for split in splits if "largest_change_of_mean" in split]
    if not drifts or any(audit.get("metadata", {}).get("equation") != "burgers" for audit in audits):
        raise Missing("needs Burgers data with its audit")
    count = sum(split["samples"][1] - split["samples"][0] for split in splits)
    worst = max(drifts)
    estimate = Estimate(worst, worst, worst, CONSERVED, count, confidence=1.0)
    measured = f"largest change of the mean field in time, over {count} trajectories of the data (all of them)"
    if worst > CONSERVED:
        return Finding(
            ClaimVerdict.HOLDS, f"the integral changes by more than {CONSERVED:g}", estimate, "field units", measured
        )
    reason = f"the integral of the true fields stays within {CONSERVED:g}, so the reward scores something true"
    return Finding(ClaimVerdict.DOES_NOT_HOLD, reason, estimate, "field units", measured)


def _gradients_explode(evidence: Evidence) -> Finding:
    name = "inverse-strong"

    def largest(seed: int) -> float | None:
        rows = evidence.history(name, seed, "train_codec")
        return max((row.get("grad_norm_max", 0.0) for row in rows), default=None)

    seeds = evidence.seeds(name)
    found = evidence.by_seed(name, ((seed, largest(seed)) for seed in seeds), "the codec's gradient norms")
    estimate = rules.of_share(sum(value > EXPLODED for value in found.values()), len(found))
    measured = f"share of seeds whose codec meets a gradient norm above {EXPLODED:g}; largest {max(found.values()):.3g}"
    return Finding(*rules.direction(estimate, 1.0, sized=False), estimate, "number", measured)


def _parameter_count(evidence: Evidence) -> Finding:
    """Count what was trained; exact, so there is nothing to estimate."""
    counted: dict[int, set[int]] = {}
    for variant, known in evidence.runs.items():
        for seed in known:
            metrics = evidence.metrics(variant, seed, CORRECTOR)
            model = evidence.config(variant, seed, CORRECTOR)
            if metrics.get("parameters") and (model.get("dim"), model.get("hidden")) == (16, 96):
                counted.setdefault(int(model["depth"]), set()).add(int(metrics["parameters"]))
    known_depths = {depth: counts for depth, counts in counted.items() if depth in PARAMETERS}
    if not known_depths:
        raise Missing("needs a corrector of 16 numbers per token and 96 hidden units")
    shown = "; ".join(f"depth {depth}: {', '.join(map(str, sorted(n)))}" for depth, n in sorted(known_depths.items()))
    right = all(counts == {PARAMETERS[depth]} for depth, counts in known_depths.items())
    verdict = ClaimVerdict.HOLDS if right else ClaimVerdict.DOES_NOT_HOLD
    return Finding(verdict, "counted, not estimated", None, "number", shown)


def _by_benchmark(claim: str, needs: str) -> Callable[[Evidence], Finding]:
    """A claim on something that no file of a run records: a benchmark answers it."""

    def answer(evidence: Evidence) -> Finding:
        kept = evidence.benchmark(claim)
        if kept is None:
            raise Missing(needs)
        reason = f"{kept['measured']}; `{kept['command']}` at commit {kept['commit']}, {kept['machine']}"
        return Finding(ClaimVerdict(kept["verdict"]), reason)

    return answer


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "light-beats-golden",
        "light-diffusion forecasts better than golden",
        ".0651 against .0776, 16 % lower",
        _difference("light-diffusion", GOLDEN, 0.0651 / 0.0776 - 1.0, "corrected"),
    ),
    Claim(
        "loss-anticorrelated",
        "The lower the corrector's training loss, the larger the forecast's error",
        "r = -.394",
        _loss_correlation,
    ),
    Claim(
        "large-loss-is-healthy",
        "A corrector whose loss is far above what correcting nothing scores is healthy",
        "a loss of .01 beside a baseline of .0002; an error that does not rise",
        _healthy_loss,
    ),
    *(
        Claim(
            f"three-layers-suffice-{depth}",
            f"Three layers are enough for the corrector: {depth} are no better",
            f"no gain of {MARGIN:.0%} or more",
            _deeper_is_no_better(depth),
        )
        for depth in (4, 5)
    ),
    Claim(
        "corrector-size",
        "Correctors of 2, 3, 4, 5 layers have this many parameters",
        ", ".join(f"{count:,}" for count in PARAMETERS.values()),
        _parameter_count,
    ),
    Claim(
        "search-gains-nothing", "The test-time search gains nothing", f"0 %, within {MARGIN:.0%}", _search_gains_nothing
    ),
    Claim("search-costs", "The test-time search costs 16 to 24 times a forecast", "16 to 24 times", _search_costs),
    Claim(
        "inverse-losses-cost",
        "The inverse losses raise the error (golden against the same without them)",
        "+66 % to +85 %",
        _range(GOLDEN, "inverse-off", 0.66, 0.85, "assembled"),
    ),
    *(
        Claim(
            f"more-tokens-{tokens}",
            f"More tokens are worse: {tokens} against 32, tokens alone varied",
            f".{round(1e3 * error)} against .072, {error / 0.072 - 1.0:+.0%}",
            _difference(f"tokens-{tokens}", GOLDEN, error / 0.072 - 1.0, "assembled", parts=2),
        )
        for tokens, error in ((64, 0.120), (128, 0.124))
    ),
    Claim(
        "drop-mass-reward",
        "Physics rewards must leave out mass for Burgers, as it is not conserved",
        f"the integral of u changes (by more than {CONSERVED:g})",
        _integral_drifts,
    ),
    Claim(
        "strong-inverse-explodes",
        "An inverse loss of weight .5 makes gradients explode",
        "norms of 6e10; in most seeds",
        _gradients_explode,
    ),
    Claim(
        "compile-speeds-up",
        "torch.compile makes training faster",
        "1.3 to 1.5 times",
        _by_benchmark(
            "compile-speeds-up",
            "needs `python benchmarks/model/compiling.py --write`: `compute` is in no stage's key, so the stages of a "
            "sweep cannot be timed against each other",
        ),
    ),
    Claim(
        "gap-at-8-epochs",
        "The corrector overfits at 8 epochs: validation over training loss",
        "1.7",
        _generalisation_gap,
    ),
    *(
        Claim(
            f"beta-beats-{other}",
            f"tau drawn from Beta(1.2, 1.2) beats {other} tau",
            "no number; a gain is looked for",
            _difference(GOLDEN, f"tau-{other}", -MARGIN, "corrected", parts=2),
        )
        for other in ("uniform", "stratified")
    ),
    Claim(
        "query-sampling-memory",
        "Sampling 2048 of 4096 queries halves the memory of the inverse loss; bf16 halves it again",
        "-50 %, -75 % with both",
        _by_benchmark(
            "query-sampling-memory",
            "needs `python benchmarks/model/inverse_losses.py --write`: no stage records its peak memory",
        ),
    ),
)
