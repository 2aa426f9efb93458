"""How often `ups compare` is wrong about methods that do not differ, and how often it sees a difference that is there.

    python benchmarks/statistics/calibration.py                              # prints the tables, two minutes
    python benchmarks/statistics/calibration.py --write docs/comparison.md   # writes them between the file's markers
    python benchmarks/statistics/calibration.py --like golden light-diffusion  # with the spread of these runs

A null is a made-up sweep of two methods of equal expected error (`ups.evaluation.simulated_runs`). It is judged by the
same function as `ups compare` uses for its verdict.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from document import table, write

from ups.evaluation.comparison import Question, read_values
from ups.evaluation.seed_tests import LEVEL, POWER, Array, detectable_effect, holm, paired_t, sign_flip
from ups.evaluation.simulated_runs import Spread, measured_spread, simulate
from ups.pipeline.run_record import ARTIFACTS, find_runs

SEEDS = (6, 10, 20)
MARKER = "calibration"

Judge = Callable[[Array], bool]


def main() -> None:
    arguments = _parse()
    spread = _spread(arguments)
    started = time.perf_counter()
    sections = [
        _introduction(spread, arguments),
        false_positives(spread, arguments.nulls, arguments.seed),
        family(spread, arguments.nulls, arguments.seed),
        power_table(spread, arguments.nulls, arguments.seed, arguments.effect),
    ]
    if not arguments.skip_others:
        sections.append(other_tests(spread, arguments.nulls, arguments.seed))
    text = "\n\n".join(sections)
    print(text)
    if arguments.write:
        write(arguments.write, MARKER, text)
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


def false_positives(spread: Spread, nulls: int, seed: int) -> str:
    """Table: share of nulls that get "better" or "worse", by shape of the scatter between seeds."""
    wide = replace(spread, seed_sd=0.3, method_seed_sd=0.05)
    cases = {
        "as above (lognormal)": spread,
        "normal": replace(spread, shape="normal"),
        "one seed in ten is 1.5 times worse": replace(spread, shape="outliers"),
        "seeds share most of their scatter (correlation .8)": replace(spread, seed_correlation=0.8),
        "spread .15": replace(spread, seed_sd=0.15),
        "unequal and skewed: spread .05 against .30": wide,
        "unequal and skewed, 1.5 times worse in one of ten": replace(wide, shape="outliers"),
    }
    rows = [["scatter between seeds", *(f"{count} seeds" for count in SEEDS)]]
    for name, case in cases.items():
        rows.append([name, *(_share(_rate(case, count, nulls, seed, _verdict), nulls) for count in SEEDS)])
    return f"Verdicts on {nulls} nulls per cell (promised: at most 5 %; ± is one standard error):\n\n{table(rows)}"


def family(spread: Spread, nulls: int, seed: int) -> str:
    """Table: share of sweeps in which any of several comparisons with one reference gets a verdict."""
    rows = [["comparisons with one reference", *(f"{count} seeds" for count in SEEDS)]]
    for together in (3, 7):
        cells = []
        for count in SEEDS:
            generator = np.random.default_rng((seed, together, count))
            wrong = 0
            for _ in range(nulls):
                reference, *methods = _means(spread, count, together + 1, generator)
                wrong += min(holm([paired_t(method - reference).p_value for method in methods])) < LEVEL
            cells.append(_share(wrong / nulls, nulls))
        rows.append([str(together), *cells])
    return f"Any verdict at all among several nulls of one reference, after Holm's correction:\n\n{table(rows)}"


def power_table(spread: Spread, nulls: int, seed: int, effect: float) -> str:
    """Table: share of sweeps with a true effect that get the right verdict, and the smallest detectable effect."""
    header = ["seed-to-seed spread", "correlation of the seeds"]
    rows = [[*header, *(f"{count} seeds" for count in SEEDS), f"detectable with power {POWER:g}"]]
    for deviation in sorted({0.10, 0.15, round(spread.seed_sd, 3)}):
        for correlation in sorted({0.0, 0.5, 0.9, round(spread.seed_correlation, 2)}):
            case = replace(spread, seed_sd=deviation, seed_correlation=correlation, method_seed_sd=None)
            powers = [_rate(case, count, nulls, seed, _better, effect) for count in SEEDS]
            sizes = [detectable_effect(count) * _difference_sd(case, seed) for count in SEEDS]
            rows.append(
                [
                    f"{deviation:.3g}",
                    f"{correlation:.2g}",
                    *(_share(power, nulls) for power in powers),
                    " / ".join(f"{size:.1%}" for size in sizes),
                ]
            )
    return (
        f'"Better" for a method whose error is truly {-effect:.0%} lower, of {nulls} sweeps per cell. The correlation '
        f"is that of two variants with the same seed; variants that differ late in the pipeline share most stages:\n\n"
        f"{table(rows)}"
    )


def other_tests(spread: Spread, nulls: int, seed: int) -> str:
    """Table: what tests that `ups compare` does not use say about the same nulls."""
    tests: dict[str, Judge] = {
        f"paired t over seeds at {LEVEL:g} (used)": _verdict,
        "paired t over seeds at .05": lambda errors: paired_t(_differences(errors)).p_value < 0.05,
        "sign flips over seeds at .05": lambda errors: sign_flip(_differences(errors)) < 0.05,
        "hierarchical bootstrap at .05": lambda errors: _bootstrap(errors, seed),
        "paired t over all trajectories at .05": lambda errors: bool(
            stats.ttest_rel(errors[0].ravel(), errors[1].ravel()).pvalue < 0.05
        ),
    }
    rows = [["test", *(f"{count} seeds" for count in SEEDS)]]
    for name, judge in tests.items():
        few = nulls // 4 if "bootstrap" in name else nulls  # it draws 400 times as much
        rows.append([name, *(_share(_rate(spread, count, few, seed, judge), few) for count in SEEDS)])
    return f"The same nulls judged by other tests:\n\n{table(rows)}"


def _rate(spread: Spread, seeds: int, draws: int, seed: int, judge: Judge, effect: float = 0.0) -> float:
    # The same nulls for every test of one spread, others for another.
    generator = np.random.default_rng((seed, seeds, zlib.crc32(repr((spread, effect)).encode())))
    return sum(judge(simulate(spread, seeds, generator, effect)) for _ in range(draws)) / draws


def _differences(errors: Array) -> Array:
    method, reference = errors.mean(2)
    return np.asarray(method - reference)


def _verdict(errors: Array) -> bool:
    return paired_t(_differences(errors)).p_value < LEVEL


def _better(errors: Array) -> bool:
    test = paired_t(_differences(errors))
    return test.p_value < LEVEL and test.mean < 0


def _bootstrap(errors: Array, seed: int, resamples: int = 400) -> bool:
    """Resample seeds, then trajectories within each, and ask whether 95 % of the means lie on one side of zero."""
    generator = np.random.default_rng(seed)
    difference = errors[0] - errors[1]
    seeds, trajectories = difference.shape
    chosen = generator.integers(0, seeds, (resamples, seeds))
    inside = generator.integers(0, trajectories, (resamples, seeds, trajectories))
    means = difference[chosen[:, :, None], inside].mean((1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return bool(low > 0 or high < 0)


def _means(spread: Spread, seeds: int, methods: int, generator: np.random.Generator) -> Array:
    """Return means over trajectories (methods, seeds) of methods with independent seeds on the same trajectories."""
    scale = np.sqrt(np.log1p(spread.seed_sd**2))
    noise = spread.trajectory_sd * np.sqrt((1 - spread.trajectory_correlation) / spread.trajectories)
    draws = generator.standard_normal((2, methods, seeds))
    return np.asarray(np.exp(scale * draws[0]) * (1 + noise * draws[1]))


def _difference_sd(spread: Spread, seed: int) -> float:
    """Return the standard deviation of a seed's difference as a share of the mean, from many made-up seeds."""
    return float(_differences(simulate(spread, 4_000, np.random.default_rng(seed))).std(ddof=1))


def _spread(arguments: argparse.Namespace) -> Spread:
    if arguments.like:
        method, reference = arguments.like
        runs = find_runs((method, reference), preset=arguments.preset)
        question = Question(arguments.metric, arguments.protocol, arguments.model)
        values = [
            {seed: read_values(folder / ARTIFACTS, question) for seed, folder in runs[name].items()}
            for name in (method, reference)
        ]
        return measured_spread(*values)
    return Spread(
        seed_sd=arguments.seed_sd,
        seed_correlation=arguments.seed_correlation,
        trajectory_sd=arguments.trajectory_sd,
        trajectory_correlation=arguments.trajectory_correlation,
        trajectories=arguments.trajectories,
    )


def _introduction(spread: Spread, arguments: argparse.Namespace) -> str:
    source = f"measured from the runs of {' and '.join(arguments.like)}" if arguments.like else "assumed"
    command = " ".join(["python benchmarks/statistics/calibration.py", *sys.argv[1:]])
    method = "" if spread.method_seed_sd is None else f" ({spread.method_seed_sd:.3g} for the method)"
    return (
        f"Written by `{command}`. Spread, {source}: between seeds {spread.seed_sd:.3g} of the mean{method}, "
        f"correlation of two methods' seeds {spread.seed_correlation:.2g}; between {spread.trajectories} trajectories "
        f"{spread.trajectory_sd:.3g} of the mean, correlation of two methods' trajectories "
        f"{spread.trajectory_correlation:.3g}. Verdicts at level {LEVEL:g}; chance from seed {arguments.seed}."
    )


def _share(rate: float, draws: int) -> str:
    return f"{100 * rate:.1f} ± {100 * (rate * (1 - rate) / draws) ** 0.5:.1f} %"


def _parse() -> argparse.Namespace:
    default = Spread()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nulls", type=int, default=2_000, help="made-up sweeps per cell")
    parser.add_argument("--seed", type=int, default=0, help="of the chance in the simulation")
    parser.add_argument("--effect", type=float, default=-0.1, help="true relative difference of the power table")
    for name in ("seed_sd", "seed_correlation", "trajectory_sd", "trajectory_correlation"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(default, name))
    parser.add_argument("--trajectories", type=int, default=default.trajectories)
    parser.add_argument("--like", nargs=2, metavar=("METHOD", "REFERENCE"), help="measure the spread from their runs")
    parser.add_argument("--preset", default="default", help="of their runs")
    parser.add_argument("--metric", default=Question.metric)
    parser.add_argument("--protocol", default=Question.protocol)
    parser.add_argument("--model", default=Question.model)
    parser.add_argument("--skip-others", action="store_true", help="leave out the tests that are not used")
    parser.add_argument("--write", type=Path, help="file to write the tables into, between its markers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
