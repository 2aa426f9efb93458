"""The sweep engine beside its peers: the same stages through `ups sweep`, DVC's queue and Snakemake, in the same run.

    python benchmarks/pipeline/peers.py                              # prints the tables; half an hour
    python benchmarks/pipeline/peers.py --write docs/benchmarks.md   # writes each part between its markers
    python benchmarks/pipeline/peers.py --parts overheads,kills --write docs/benchmarks.md   # renews only these parts

Executions are counted by what the stage commands themselves append to a log, not by what a tool says about them.
Snakemake is installed by pip into an environment of its own from `snakemake-requirements.txt`, beside the project's.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from document import table, write
from measure import counts, spread
from parts import PAIR, Bench, Cell, Measured, described_priority
from shape import Shape
from tools import REQUIREMENTS, ROOT, Dvc, Snakemake, Ups, shapes

PARTS = ("sweeps", "overheads", "kills", "second", "prefect")
_CHANGED = ["train_codec"] * 3 + ["train_diffusion"] * 2 + ["distill"] * 3
SHAPES = [
    Shape("eight values of one downstream parameter", tuple(shapes.SIX), {f"v{i}": "train_operator" for i in range(8)}),
    Shape("changes at three depths", tuple(shapes.SIX), {f"v{i}": stage for i, stage in enumerate(_CHANGED)}),
]


def main() -> None:
    arguments = _parse()
    started = time.perf_counter()
    commit = _git("rev-parse", "--short=12", "HEAD") + (" with changes" if _git("status", "--porcelain") else "")
    arguments.environment.parent.mkdir(parents=True, exist_ok=True)
    tools = (Ups(), Dvc(), Snakemake(arguments.environment))
    with tempfile.TemporaryDirectory(prefix="peers-", dir=arguments.folder) as folder:
        bench = Bench(Path(folder), SHAPES, tools, arguments.seconds)
        for part in arguments.parts:
            section = _measure(part, bench, arguments)
            text = f"{section}\n\n{_source(bench, arguments, commit)}"
            print(f"{text}\n", flush=True)
            if arguments.write:
                write(arguments.write, f"peers-{part}", text)
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


def _measure(part: str, bench: Bench, arguments: argparse.Namespace) -> str:
    repetitions = arguments.repetitions
    if part == "sweeps":
        return sweeps_section(bench.sweeps(arguments.workers, repetitions), arguments.workers, arguments.seconds)
    if part == "overheads":
        return overheads_section(bench.overheads(repetitions), bench.late_change())
    if part == "kills":
        return kills_section(bench.kills(repetitions))
    if part == "second":
        return second_section(bench.second_process())
    return prefect_section(bench.prefect(repetitions))


def sweeps_section(found: dict[Cell, list[Measured]], workers: list[int], seconds: float) -> str:
    """Tables: executions and seconds by shape, workers and tool; and what failed."""
    names = ["ups sweep", PAIR, "Snakemake", "DVC queue"]
    counted, timed = [["", *names, "least possible"]], [["", *names, "least possible", "ups / Snakemake"]]
    for shape in SHAPES:
        for count in workers:
            label = f"{shape.name}, {count} workers"
            cells = [found[shape.name, count, name] for name in names]
            executions = [counts([run.executions for run in cell]) for cell in cells]
            counted.append([label, *executions, f"{len(shape.parents)} of {shape.naive}"])
            walls = [[run.seconds for run in cell] for cell in cells]
            ratio = statistics.median(walls[0]) / statistics.median(walls[2])
            least = shape.least_rounds(count) * seconds
            timed.append([label, *map(spread, walls), f"{least:.0f}", f"{ratio:.2f}"])
    return (
        f"Executions, counted by the stages themselves ({len(SHAPES[0].stages)} stages in a chain, "
        f"{len(SHAPES[0].variants)} variants; two sweeps are started at once in one project, each with that many "
        f"workers; a range where repetitions differ):\n\n{table(counted)}\n\n"
        f"Seconds from the first command to the last result, stages of {seconds:g} s, median (smallest–largest); least "
        f"possible is the shortest schedule, with nothing but the stages' own {seconds:g} s:\n\n{table(timed)}\n\n"
        f"{_failures(found)}"
    )


def _failures(found: dict[Cell, list[Measured]]) -> str:
    """Return which variants of how many have no result, and what the tool said about it."""
    lines = []
    for (shape, workers, tool), runs in found.items():
        for run in runs:
            for variant, said in run.failed.items():
                lines.append(f"* {tool}, {shape}, {workers} workers: variant {variant} failed: {said}")
    if not lines:
        return "Every variant had its result in every repetition."
    return "\n".join(["Variants that ended without a result, through no fault of their stages:", "", *lines])


def overheads_section(found: dict[str, list[float]], late: dict[str, int]) -> str:
    """Table: no-op, cost of an executed and of a cached stage, bytes."""
    milli = {key: [1000 * value for value in values] for key, values in found.items()}
    rows = [
        ["", "ups sweep", "Snakemake", "`dvc repro`"],
        [
            "nothing to do, all eight variants (s)",
            spread(found["ups sweep no-op"], 2),
            spread(found["Snakemake no-op"], 2),
            "–",
        ],
        [
            "nothing to do, one variant (s)",
            spread(found["ups sweep v0 no-op"], 2),
            "–",
            spread(found["DVC queue no-op"], 2),
        ],
        [
            "per executed stage, beyond the bare command (ms)",
            *(spread(milli[f"{name} per executed stage"], 0) for name in ("ups sweep", "Snakemake", "DVC queue")),
        ],
        [
            "per stage restored from the cache, start included (ms)",
            spread(milli["ups sweep per cached stage"], 0),
            "has no cache",
            spread(milli["DVC queue per cached stage"], 0),
        ],
        [
            "bytes copied out of the cache for it",
            counts([int(value) for value in found["ups sweep bytes restored"]]),
            "–",
            counts([int(value) for value in found["DVC queue bytes restored"]]),
        ],
    ]
    return (
        f"Overheads, with one worker and stages of no length (the bare command takes "
        f"{spread(milli['bare'], 0)} ms):\n\n{table(rows)}\n\n"
        f"A new variant that changes the last but one stage: {late['executed']} stages executed, {late['read']} bytes "
        f"copied that the first of them reads, {late['unread']} bytes of the cached outputs that nobody reads."
    )


def kills_section(found: dict[str, list[dict[str, object]]]) -> str:
    """Table: what is left of a driver that was killed with -9, and how the next one goes on."""
    rows = [
        ["driver killed with -9, started again at once", "seconds to the next stage's start", "orphan", "second copy"]
    ]
    for name, label in (("ups sweep", "ups sweep"), ("Snakemake", "Snakemake"), ("DVC queue", "`dvc repro`")):
        runs = found[name]
        resumed = [float(str(run["resumed_s"])) for run in runs if run["resumed_s"] is not None]
        refused = [str(run["refused"]) for run in runs if run["refused"]]
        progress = [spread(resumed, 2)] if resumed else []
        if refused:
            progress.append(f"{len(refused)} of {len(runs)} refused: {refused[0]}")
        rows.append(
            [
                label,
                ", ".join(progress) or "nothing in 30 s",
                *(f"{sum(bool(run[key]) for run in runs)} of {len(runs)}" for key in ("orphan", "second_copy")),
            ]
        )
    return (
        "One variant, killed half a second into its second stage. Orphan: the stage was alive a second after its "
        f"driver's death. Second copy: it was started again while the first was alive:\n\n{table(rows)}"
    )


def second_section(found: dict[str, str]) -> str:
    """List: what a second process says that is started while the first one runs."""
    lines = [f"* {'dvc repro' if name == 'DVC queue' else name}: {said}" for name, said in found.items()]
    return "\n".join(
        ["A second process of the same command, started while the first one's first stage runs:", "", *lines]
    )


def prefect_section(found: dict[str, list[float]]) -> str:
    """List: what Prefect itself costs."""
    words = {
        "import prefect": "`import prefect`",
        "trivial flow": "a flow that does nothing, with the temporary server that it starts",
        "flows.ablation_sweep": "`python -m flows.ablation_sweep v0`, everything cached and published",
        "ups sweep": "`ups sweep v0`, the same without Prefect",
    }
    lines = [f"* {words[name]}: {spread(values)} s" for name, values in found.items()]
    return "\n".join(["Prefect's own start, which `ups sweep` does without:", "", *lines])


def _source(bench: Bench, arguments: argparse.Namespace, commit: str) -> str:
    command = " ".join(["python benchmarks/pipeline/peers.py", *sys.argv[1:]])
    pinned = dict(line.split("==") for line in REQUIREMENTS.read_text(encoding="utf-8").split() if "==" in line)
    cores = len(os.sched_getaffinity(0))
    return (
        f"Written by `{command}` on {time.strftime('%Y-%m-%d')} from commit {commit}: {cores} cores, Linux "
        f"{platform.release().split('-')[0]}, Python {platform.python_version()}, DVC {metadata.version('dvc')}, "
        f"Snakemake {pinned['snakemake']}, {arguments.repetitions} repetitions, the tools taking turns; "
        f"{described_priority()}. The machine was not idle: its load before the measurements was "
        f"{min(bench.loads):.1f} to {max(bench.loads):.1f} (other work and the previous measurement). Compare within "
        f"this run only."
    )


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
    return names


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--workers", type=lambda text: [int(one) for one in text.split(",")], default=[2, 8])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each stage")
    parser.add_argument("--parts", type=_names, default=list(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--folder", type=Path, help="where the temporary projects go")
    default = ROOT / ".ups/benchmarks/snakemake"
    parser.add_argument("--environment", type=Path, default=default, help="where Snakemake is installed")
    parser.add_argument("--write", type=Path, help="file to write the tables into, between its markers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
