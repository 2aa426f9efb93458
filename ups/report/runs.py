"""Which runs a report is about: the results of a sweep or of variants, or what the working tree holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ups.errors import ArtifactError, ParameterError, UpsError
from ups.parameters import selection
from ups.parameters.files import BASE, nearest, read_yaml
from ups.parameters.overlay import DEFAULT_PRESET, names, read_variant
from ups.parameters.sweeps import FOLDER as SWEEPS
from ups.parameters.sweeps import Sweep, read_sweep
from ups.pipeline import results, snapshot
from ups.pipeline.jobs import BASE_NAME
from ups.pipeline.run_record import ARTIFACTS

WORKING_TREE = Path(".")


@dataclass(frozen=True, eq=False)
class Run:
    """One variant with one seed; each is itself alone, so that it can be the key of what was read of it.

    Attributes:
        variant, seed: what was run.
        folder: holds `artifacts/`, `dvc.lock` and `params/base.yaml`.
        snapshot: the commit of code and parameters, "" where it is not known.
        fingerprints: stage -> fingerprint; empty for the working tree, whose stages DVC ran.
        changes: what the variant changes against its parent, by dotted key; None where it is not recorded.
    """

    variant: str
    seed: int
    folder: Path
    snapshot: str = ""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Any] | None = None

    @property
    def artifacts(self) -> Path:
        return self.folder / ARTIFACTS

    @property
    def name(self) -> str:
        """Return what the run is called in tables."""
        return f"{self.variant}, seed {self.seed}"


@dataclass(frozen=True)
class Chosen:
    """What a report is about.

    Attributes:
        title: names of the sweep or of the variants.
        comment: what the sweep's file says it is for; "" without one.
        variants: in the order asked for; the first is the reference of the others.
        runs: those that have results, in that order.
        missing: variants and seeds without results.
        preset, task: shared by all runs.
        command: repeats the sweep.
    """

    title: str
    comment: str
    variants: tuple[str, ...]
    runs: tuple[Run, ...]
    missing: tuple[tuple[str, int], ...]
    preset: str
    task: str | None
    command: str

    def of(self, variant: str) -> list[Run]:
        return [run for run in self.runs if run.variant == variant]


def choose(
    wanted: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    preset: str | None = None,
    task: str | None = None,
) -> Chosen:
    """Find the runs of sweeps and variants by name; without names, what the working tree holds.

    Raises:
        UpsError: naming what does not exist, or what else has to be said to choose.
    """
    if not wanted:
        return _working_tree(seeds)
    found = [(folder, results.read(folder)) for folder in (results.find(name) for name in results.names())]
    with_results = {result.variant for _, result in found}
    comments: list[str] = []
    variants: list[str] = []
    for name in wanted:
        if (SWEEPS / f"{name}.yaml").is_file():
            comments.append(_comment(SWEEPS / f"{name}.yaml"))
            variants += _members(read_sweep(name), preset, task, with_results)
        else:
            variants.append(name)
    variants = list(dict.fromkeys(variants))
    _check_known(variants, with_results)
    own = selection.original_base()["task"]["name"]  # results of the base's own task do not name it
    found = [
        (folder, result)
        for folder, result in found
        if result.variant in variants and preset in (None, result.preset) and task in (None, result.task or own)
    ]
    if not found:
        asked = "".join(f", {what} {value}" for what, value in (("preset", preset), ("task", task)) if value)
        raise ArtifactError(f"There are no results of {', '.join(variants)}{asked}. Run them: `ups sweep`.")
    kinds = sorted({(result.preset, result.task or "") for _, result in found})
    if len(kinds) > 1:
        listed = "; ".join(f"--preset {one}" + (f" --task {two}" if two else "") for one, two in kinds)
        raise UpsError(f"There are results of different presets or tasks. Choose one of them: {listed}.")
    every = sorted({result.seed for _, result in found}) if seeds is None else list(seeds)
    by_name = {(result.variant, result.seed): (folder, result) for folder, result in found}
    runs, missing = [], []
    for variant in variants:
        for seed in every:
            if (variant, seed) in by_name:
                folder, result = by_name[variant, seed]
                runs.append(Run(variant, seed, folder, result.snapshot, result.fingerprints, result.varies))
            else:
                missing.append((variant, seed))
    if not runs:
        raise ArtifactError(f"None of these have results with the seeds {', '.join(map(str, every))}. Run `ups sweep`.")
    chosen_preset, chosen_task = kinds[0]
    command = " ".join(
        [
            *("ups sweep", *variants, "--seeds", ",".join(map(str, every))),
            *(("--preset", chosen_preset) if chosen_preset != DEFAULT_PRESET else ()),
            *(("--task", chosen_task) if chosen_task else ()),
        ]
    )
    return Chosen(
        ", ".join(wanted),
        "\n".join(comments),
        tuple(variants),
        tuple(runs),
        tuple(missing),
        chosen_preset,
        chosen_task or None,
        command,
    )


def hypothesis(run: Run) -> tuple[str, tuple[str, ...], str | None]:
    """Return the hypothesis of the run's variant, the keys it declares to vary, and its parent.

    They are read from the commit that was run; where that is not known, from the working tree.

    Raises:
        UpsError: if the variant's file is in neither.
    """
    path = f"{BASE.parent}/variants/{run.variant}.yaml"
    if run.snapshot:
        import yaml

        try:
            content = yaml.safe_load(snapshot.git(WORKING_TREE, "show", f"{run.snapshot}:{path}"))
            return " ".join(content["hypothesis"].split()), tuple(content["varies"]), content.get("extends")
        except (UpsError, yaml.YAMLError, AttributeError, KeyError, TypeError):
            pass  # the snapshot was removed from git, or made elsewhere
    variant = read_variant(run.variant)
    return variant.hypothesis, variant.varies, variant.extends


def _members(sweep: Sweep, preset: str | None, task: str | None, with_results: set[str]) -> list[str]:
    """Return the variants of a sweep; of a search, its base and the trials that were run."""
    search = sweep.search
    numbers = range(search.trials) if search else ()
    drawn = [search.trial_name(number, preset or DEFAULT_PRESET, task) for number in numbers] if search else []
    return [*sweep.variants, *(name for name in drawn if name in with_results)]


def _working_tree(seeds: Sequence[int] | None) -> Chosen:
    if not ARTIFACTS.is_dir():
        raise ArtifactError("There are no results in the working tree. Run `make repro`, or name a sweep or variants.")
    in_use = selection.current()
    variant = (in_use.variant if in_use else None) or BASE_NAME
    run = Run(variant, int(read_yaml(BASE)["seed"]), WORKING_TREE)
    if seeds is not None and run.seed not in seeds:
        raise ArtifactError(
            f"The working tree holds the seed {run.seed} alone, not {', '.join(map(str, seeds))}. To report on other "
            "seeds, run a sweep and name its variants."
        )
    preset = in_use.preset if in_use else DEFAULT_PRESET
    task = in_use.task if in_use else None
    return Chosen("working tree", "", (variant,), (run,), (), preset, task, "make repro")


def _comment(path: Path) -> str:
    """Return the comment at the top of a sweep's file."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").strip())
    return " ".join(lines)


def _check_known(variants: Sequence[str], with_results: set[str]) -> None:
    exist = {BASE_NAME, *names("variants"), *with_results}
    for name in variants:
        if name not in exist:
            sweeps = sorted(path.stem for path in SWEEPS.glob("*.yaml"))
            raise ParameterError(
                f"'{name}' is no sweep in {SWEEPS} and no variant. {nearest(name, sorted(exist | set(sweeps)))}"
            )
