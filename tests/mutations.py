"""One drawn change of a project, and which stages it concerns by what the interpreter says they read."""

import contextlib
import copy
import random
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import stage_truth
import standin
import yaml
from stage_truth import downstream

from ups.errors import ParameterError
from ups.parameters import selection
from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import flatten
from ups.parameters.overlay import complete
from ups.parameters.selection import Selection
from ups.pipeline import jobs
from ups.pipeline.dvc_store import run_key
from ups.pipeline.plan import Action, Plan, plan

# What was changed, the stages that read it themselves, and all that are to run.
Change = contextlib.AbstractContextManager[tuple[str, set[str], set[str]]]
KINDS = ["parameter", "direct module", "indirect module", "data", "unrelated file"]
# Files that say what the stages are: a change of these is a change of the pipeline, not of a file beside it.
DEFINITION = {"dvc.yaml", BASE.as_posix()}


class Project:
    """A copy of the repository, in which one thing at a time can be changed.

    Args:
        folder: an empty folder.
        stages: the stages that its `dvc.yaml` is cut down to; all by default.
        preset: the sizes in its parameters.
    """

    def __init__(self, folder: Path, stages: Collection[str] = (), preset: str | None = None) -> None:
        self.folder = standin.copy_repository(folder)
        pipeline = yaml.safe_load((self.folder / "dvc.yaml").read_text())
        self.stages = [name for name in pipeline["stages"] if not stages or name in stages]
        if stages:
            kept = {"vars": pipeline["vars"], "stages": {name: pipeline["stages"][name] for name in self.stages}}
            (self.folder / "dvc.yaml").write_text(yaml.safe_dump(kept, sort_keys=False))
        if preset:
            with contextlib.chdir(self.folder):
                BASE.write_text(yaml.safe_dump(selection.content(Selection(preset=preset))))
        self.truth = stage_truth.ask(self.folder, self.stages)
        self.base = (self.folder / BASE).read_text()
        self.raw: dict[str, Any] = read_yaml(self.folder / BASE)
        listed = subprocess.run(["git", "ls-files"], cwd=self.folder, capture_output=True, text=True, check=True)
        self.files = listed.stdout.splitlines()

    def fill_cache(self) -> None:
        """Let the run-cache hold every stage, although none ever ran."""
        made = plan(jobs.resolve([]))
        for node in made.nodes:
            if node.outs is None:
                node.outs = self.remember(made, node.stage)
        self.outs = {node.stage: node.outs for node in made.nodes}
        self.keys = self.keys_of(made)
        assert plan(jobs.resolve([])).executions == 0

    def remember(self, made: Plan, stage: str, change: Callable[[Path], None] = lambda _: None) -> list[dict]:
        """Put a run of a stage into the cache: an invented content for every file that any stage reads of it."""
        node = next(node for node in made.nodes if node.stage == stage)
        place = self.folder / f"artifacts/{stage}"
        place.mkdir(parents=True)
        for name in {f"artifacts/{stage}/metrics.json"} | set().union(
            *(t.files(self.raw) for t in self.truth.values())
        ):
            if Path(f"artifacts/{stage}") in Path(name).parents:
                (self.folder / name).parent.mkdir(exist_ok=True)
                (self.folder / name).write_text(f"{name} as written by {node.fingerprint}")
        change(place)
        outs = [made.store.add(f"artifacts/{stage}", self.folder)]
        made.store.save({**made.record(node), "outs": outs})
        shutil.rmtree(place)
        return outs

    def keys_of(self, made: Plan) -> dict[str, str]:
        """Return DVC's key of each stage, every other stage having written what it wrote before."""
        for node in made.nodes:
            node.outs = node.outs or self.outs[node.stage]
        return {node.stage: run_key(made.record(node)) for node in made.nodes}

    def planned(self) -> tuple[set[str], set[str]]:
        """Return the stages that now read something else than before, and those to run."""
        made = plan(jobs.resolve([]))
        to_run = {node.stage for node in made.nodes if node.action is Action.RUN}
        now = self.keys_of(made)
        return {name for name in now if now[name] != self.keys[name]}, to_run

    # -- drawing and making one change -----------------------------------------------------------------------------

    def mutate(self, kind: str, stage: str, draw: random.Random) -> Change:
        """Change one thing while the context lasts."""
        truth = self.truth[stage]
        own = f"ups/stages/{stage}.py"
        match kind:
            case "parameter":
                found = self.parameters(stage)
                # Some parameters allow no other value beside the rest as it is.
                changeable = (pair for pair in draw.sample(found, len(found)) if self.changed(*pair, draw))
                return self.parameter(*next(changeable), draw)
            case "direct module":
                return self.module(draw.choice(sorted(truth.direct)))
            case "indirect module":
                return self.module(draw.choice(sorted(truth.code - truth.direct - {own})))
            case "data":
                return self.data(draw.choice(sorted(truth.files(self.raw))), draw)
            case "unrelated file":
                read = set().union(*(t.code for t in self.truth.values())) | DEFINITION
                return self.file(draw.choice([path for path in self.files if path not in read]), set())
        raise ValueError(kind)

    def parameters(self, stage: str) -> list[tuple[str, Any]]:
        """Return key and value of the parameters that a stage reads; of those of the machine if it reads none."""
        flat = flatten(self.raw)
        seen = [key for key in flat if key.split(".")[0] in stage_truth.reads(stage, self.raw)]
        keys = seen or [key for key in flat if key.startswith("compute.")]
        return [(key, flat[key]) for key in keys if _others(flat[key])]

    def changed(self, key: str, value: Any, draw: random.Random) -> tuple[dict[str, Any], Any] | None:
        """Return valid parameters with another value of a key, and that value; None if it has no other."""
        for other in draw.sample(_others(value), len(_others(value))):
            raw = copy.deepcopy(self.raw)
            section = raw
            *parents, name = key.split(".")
            for parent in parents:
                section = section[parent]
            section[name] = other
            with contextlib.suppress(ParameterError):
                complete(raw)
                return raw, other
        return None

    @contextlib.contextmanager
    def parameter(self, key: str, value: Any, draw: random.Random) -> Iterator[tuple[str, set[str], set[str]]]:
        found = self.changed(key, value, draw)
        assert found, f"no other value of {key} is valid"
        raw, other = found
        touched = {name for name in self.stages if stage_truth.reads(name, raw) != stage_truth.reads(name, self.raw)}
        # As somebody's editor might save it: without comments and in another order.
        text = yaml.safe_dump(raw, sort_keys=True)
        with content(self.folder / BASE, text.encode()):
            yield f"{key}: {value} -> {other}", touched, downstream(touched, self.truth, raw)

    def module(self, path: str) -> Change:
        touched = {name for name, truth in self.truth.items() if path in truth.code}
        return self.file(path, touched, b"\nMUTATION = True\n")

    @contextlib.contextmanager
    def file(self, path: str, touched: set[str], added: bytes = b"\n") -> Iterator[tuple[str, set[str], set[str]]]:
        with content(self.folder / path, (self.folder / path).read_bytes() + added):
            yield path, touched, downstream(touched, self.truth, self.raw)

    @contextlib.contextmanager
    def data(self, path: str, draw: random.Random) -> Iterator[tuple[str, set[str], set[str]]]:
        """Flip a bit of a file that a stage wrote, as if that stage had now written this."""
        writer = path.split("/")[1]

        def flip(folder: Path) -> None:
            content = bytearray((self.folder / path).read_bytes())
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            (self.folder / path).write_bytes(content)

        made = plan(jobs.resolve([]))
        self.remember(made, writer, flip)
        readers = {name for name, truth in self.truth.items() if path in truth.files(self.raw)}
        yield f"a bit of {path}", readers, downstream(readers, self.truth, self.raw)
        self.remember(made, writer)  # the newest run of a key counts

    @contextlib.contextmanager
    def source(self, path: Path, place: int, touched: set[str]) -> Iterator[tuple[str, set[str], set[str]]]:
        """Flip the lowest bit of a byte of a file that no stage writes."""
        changed = bytearray(path.read_bytes())
        changed[place] ^= 1
        with content(path, bytes(changed)):
            yield f"byte {place} of {path}", touched, downstream(touched, self.truth, self.raw)

    def wrong(self, mutation: Change) -> list[str]:
        """Make a change, plan, undo it; returns what the plan got wrong."""
        with mutation as (what, *expected):
            found = self.planned()
        errors = []
        for verb, wanted, got in zip(("take notice", "run"), expected, found, strict=True):
            missing, needless = sorted(wanted - got), sorted(got - wanted)
            errors += [f"{what}: {', '.join(missing)} should {verb}"] * bool(missing)
            errors += [f"{what}: {', '.join(needless)} should not {verb}"] * bool(needless)
        return errors


@contextlib.contextmanager
def content(path: Path, content: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def _others(value: Any) -> list[Any]:
    """Return other values of the same kind, of which one may be valid."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value * 2, value + 1, value / 2 if isinstance(value, float) else value // 2]
    if isinstance(value, list) and value:
        return [[*value[:-1], other] for other in _others(value[-1])]
    return []
