"""Which of two methods is better: a paired comparison over training seeds, with a verdict in words.

Per seed the metric is averaged over the test trajectories, the two methods are subtracted, and the differences of the
seeds are tested (`ups.evaluation.seed_tests`). Intervals over trajectories within a seed are kept beside that; they
hold for the two models of that seed and never decide. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ups.errors import ArtifactError
from ups.evaluation.seed_tests import LEVEL, MIN_PAIRS, POWER, detectable_effect, holm, paired_t, sign_flip

# Equal to `ups.evaluation.records.PER_TRAJECTORY`, which cannot be imported without torch; a test compares them.
PER_TRAJECTORY = "per_trajectory.parquet"
HIGHER_IS_BETTER = frozenset({"correlation_time"})
# Two runs of the same arithmetic may differ in the last float32 digits of a forecast; that is no difference of methods.
_ROUNDING = 1e-9


class Verdict(StrEnum):
    """What the seeds say about a method against its reference."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference shown"
    TOO_FEW = "too few seeds to tell"
    DIVERGED = "cannot be compared"


@dataclass(frozen=True)
class Question:
    """What is compared: one column of `per_trajectory.parquet`.

    Attributes:
        metric: a metric of `ups.evaluation.metrics`.
        protocol: `one_step`, `rollout_ic` or `pdebench`.
        model: a name of `ups.evaluation.names`; `assembled` is what a user gets, `corrected` forces the corrector.
        horizon: "full", or a number of predicted frames that was evaluated.
    """

    metric: str = "nrmse"
    protocol: str = "pdebench"
    model: str = "assembled"
    horizon: str = "full"

    def __str__(self) -> str:
        at = "" if self.horizon == "full" else f" over {self.horizon} frames"
        return f"{self.metric}{at}, {self.protocol}, {self.model}"


@dataclass(frozen=True)
class SeedPair:
    """One seed: means over its trajectories, and the interval of their paired difference over those trajectories.

    Attributes:
        seed: the seed of both runs.
        trajectories: their number.
        method, reference: the means; None where a forecast diverged.
        difference: method - reference.
        low, high: interval of the difference over trajectories, for these two trained models alone.
    """

    seed: int
    trajectories: int
    method: float | None
    reference: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """A method against a reference over seeds.

    Differences are method - reference in the metric's unit; relative ones are divided by the reference's mean over
    seeds. Numbers are None where there is no such number: no interval from one seed, no p-value below six pairs, and
    nothing at all where forecasts diverged.

    Attributes:
        method, reference, question: what is compared.
        pairs: one entry per seed.
        reference_mean: mean over seeds.
        difference, low, high: mean over seeds and its interval, for this comparison alone.
        p_value: of the paired t test; `p_holm` is it after Holm's correction, and decides; `p_sign_flip` is that of
            the sign-flip test, shown beside it.
        detectable: the smallest true difference that would have been found with probability `power`.
        level, comparisons, power: of the test; how many comparisons were made together.
        verdict: in words.
    """

    method: str
    reference: str
    question: Question
    pairs: tuple[SeedPair, ...]
    reference_mean: float | None
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_holm: float | None
    p_sign_flip: float | None
    detectable: float | None
    level: float
    comparisons: int
    power: float
    verdict: Verdict

    def relative(self, value: float | None) -> float | None:
        """Return a difference as a share of the reference's mean."""
        return value / self.reference_mean if value is not None and self.reference_mean else None

    @property
    def identical(self) -> bool:
        """Whether both methods gave the same number in every seed."""
        return bool(self.pairs) and all(pair.difference == 0.0 for pair in self.pairs)


def read_values(artifacts: Path, question: Question, stage: str = "evaluate") -> pd.Series:
    """Return the values of one run, one per trajectory, indexed by the trajectory's number in the source file.

    Args:
        artifacts: the run's folder of results.
        question: which values.
        stage: `evaluate`, or `evaluate_ttc`, whose models are the modes of the search.

    Raises:
        ArtifactError: if the run was not evaluated, or not on this question.
    """
    path = artifacts / stage / PER_TRAJECTORY
    if not path.is_file():
        raise ArtifactError(
            f"{path} does not exist. It is made by the stage `{stage}`: run the variant with this seed first."
        )
    return select_values(pd.read_parquet(path), question, path)


def select_values(table: pd.DataFrame, question: Question, path: Path) -> pd.Series:
    """Return the values that answer a question from a table read from `path`, as `read_values` does."""
    for column, wanted in vars(question).items():
        chosen = table[table[column] == wanted]
        if chosen.empty:
            there = ", ".join(sorted(table[column].unique()))
            raise ArtifactError(f"{path} has no {column} '{wanted}' here. It has: {there}.")
        table = chosen
    values = table.set_index("trajectory")["value"].sort_index()
    if not values.index.is_unique:
        raise ArtifactError(f"{path} lists trajectories twice for {question}. Run `evaluate` again.")
    return values


def compare(
    values: Mapping[str, Mapping[int, pd.Series]],
    reference: str,
    question: Question | None = None,
    level: float = LEVEL,
    power: float = POWER,
) -> list[Comparison]:
    """Compare every other method with the reference, and correct for their number.

    Args:
        values: method -> seed -> values per trajectory, as `read_values` returns them.
        reference: the method that the others are compared with.
        question: what the values are.
        level: probability of any false "better" or "worse" among the comparisons, if none differs.
        power: of the smallest detectable difference.

    Raises:
        ArtifactError: naming the seeds that a method lacks, or the seed whose trajectories do not match.
    """
    methods = [name for name in values if name != reference]
    check_seeds({name: list(runs) for name, runs in values.items()})
    together = len(methods)
    asked = question or Question()
    found = [
        _compare(name, values[name], reference, values[reference], asked, level, together, power) for name in methods
    ]
    tested = [at for at, comparison in enumerate(found) if comparison.p_value is not None]
    for at, p_holm in zip(tested, holm([found[at].p_value or 0.0 for at in tested]), strict=True):
        found[at] = _decided(found[at], p_holm)
    return found


def check_seeds(seeds: Mapping[str, Sequence[int]]) -> None:
    """Refuse methods that were not run with the same seeds.

    Raises:
        ArtifactError: naming the method and the seeds it lacks.
    """
    everywhere = sorted({seed for known in seeds.values() for seed in known})
    lacking = {name: [seed for seed in everywhere if seed not in known] for name, known in seeds.items()}
    missing = [f"{name} lacks {_listed(absent)}" for name, absent in lacking.items() if absent]
    if missing:
        shared = [seed for seed in everywhere if all(seed in known for known in seeds.values())]
        instead = f"or compare the seeds they share: `--seeds {','.join(map(str, shared))}`" if shared else ""
        raise ArtifactError(
            f"Only runs with the same seeds can be paired, but {', '.join(missing)}. Run them {instead}".rstrip() + "."
        )


def _compare(
    method: str,
    runs: Mapping[int, pd.Series],
    reference: str,
    reference_runs: Mapping[int, pd.Series],
    question: Question,
    level: float,
    together: int,
    power: float,
) -> Comparison:
    pairs = tuple(
        _pair(seed, method, runs[seed], reference, reference_runs[seed], level) for seed in sorted(reference_runs)
    )
    differences = [pair.difference for pair in pairs if pair.difference is not None]
    diverged = len(differences) < len(pairs)
    enough = len(pairs) >= MIN_PAIRS
    blank = Comparison(
        method,
        reference,
        question,
        pairs,
        reference_mean=None,
        difference=None,
        low=None,
        high=None,
        p_value=None,
        p_holm=None,
        p_sign_flip=None,
        detectable=None,
        level=level,
        comparisons=together,
        power=power,
        verdict=Verdict.DIVERGED if diverged else Verdict.TOO_FEW,
    )
    if diverged or not pairs:
        return blank
    described = replace(
        blank,
        reference_mean=float(np.mean([pair.reference for pair in pairs if pair.reference is not None])),
        difference=float(np.mean(differences)),
    )
    if len(pairs) < 2:
        return described
    test = paired_t(differences, level)
    described = replace(described, low=test.low, high=test.high)
    if not enough:
        return described
    spread = test.stderr * math.sqrt(len(pairs))
    return replace(
        described,
        p_value=test.p_value,
        p_sign_flip=sign_flip(differences),
        # Holm's first step, the strictest.
        detectable=detectable_effect(len(pairs), level / together, power) * spread,
    )


def _pair(
    seed: int, method: str, values: pd.Series, reference: str, reference_values: pd.Series, level: float
) -> SeedPair:
    if not values.index.equals(reference_values.index):
        only = sorted(set(values.index) ^ set(reference_values.index))
        raise ArtifactError(
            f"Seed {seed}: {method} and {reference} were not evaluated on the same trajectories ({len(only)} are in "
            f"one alone: {_listed(only[:8])}{', ...' if len(only) > 8 else ''}). Evaluate both on the same test split."
        )
    both = np.stack([values.to_numpy(float), reference_values.to_numpy(float)])
    if not np.isfinite(both).all() or not len(values):
        first, second = (float(row.mean()) if len(row) and np.isfinite(row).all() else None for row in both)
        return SeedPair(seed, len(values), first, second, difference=None, low=None, high=None)
    return _finite_pair(seed, both, level)


def _finite_pair(seed: int, both: npt.NDArray[np.float64], level: float) -> SeedPair:
    first, second = float(both[0].mean()), float(both[1].mean())
    difference = 0.0 if abs(first - second) <= _ROUNDING * abs(second) else first - second
    low, high = None, None
    if both.shape[1] > 1:
        test = paired_t(both[0] - both[1], level)
        low, high = test.low, test.high
    return SeedPair(seed, both.shape[1], first, second, difference, low, high)


def _decided(comparison: Comparison, p_holm: float) -> Comparison:
    difference = comparison.difference or 0.0
    verdict = Verdict.NO_DIFFERENCE
    if p_holm < comparison.level and difference != 0.0:
        higher = comparison.question.metric in HIGHER_IS_BETTER
        verdict = Verdict.BETTER if (difference > 0) == higher else Verdict.WORSE
    return replace(comparison, p_holm=p_holm, verdict=verdict)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)
