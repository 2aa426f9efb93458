"""Where the stages of one variant and seed run: a git worktree under `.ups/workspaces/`, cut from a snapshot.

It holds code and parameters as they were when the sweep began, so the working tree may be edited meanwhile. It shares
the project's DVC cache. Outputs of other stages are put there only when a stage reads them. Its epoch checkpoints stay.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ups.errors import ArtifactError, UpsError
from ups.parameters import selection
from ups.parameters.files import BASE
from ups.pipeline import atomic, snapshot
from ups.pipeline.dvc_store import Entry, Store, dump_yaml
from ups.pipeline.fingerprint import Sources
from ups.pipeline.graph import Step
from ups.pipeline.jobs import Job
from ups.pipeline.lock import DVC_LOCK
from ups.pipeline.locks import Lock

FOLDER = Path(".ups/workspaces")
_JSON = ("metrics.json", "provenance.json")  # what publishing and the results table read of every stage


class Workspace:
    """The workspace of a job.

    Args:
        root: the project's folder, absolute.
        job: variant and seed.
        base: the snapshot that the sweep runs on.
        store: the shared cache.
    """

    def __init__(self, root: Path, job: Job, base: str, store: Store) -> None:
        self.root, self.job, self.store = root, job, store
        self.path = root / FOLDER / job.name
        self._base = base
        self._commit: str | None = None
        self._stamp = _stamp(job.name, root)
        self._locks = root / ".ups" / "locks"

    @property
    def commit(self) -> str:
        """Return the commit of code and parameters; made when it is first asked for."""
        if self._commit is None:
            text = parameter_text(self.job)
            message = f"Parameters of {self.job.name}"
            with Lock(f"commit-{self.job.name}", self._locks).held():
                self._commit = snapshot.with_file(
                    self.root, self._base, BASE.as_posix(), text, str(DVC_LOCK), self.job.name, message
                )
        return self._commit

    @contextlib.contextmanager
    def in_use(self, stopping: Callable[[], bool]) -> Iterator[int]:
        """Hold the workspace at this sweep's commit; yields the descriptor of the lock.

        Sweeps on the same commit use it together; one on another commit waits for the stages that run in it.
        """
        lock = Lock(lock_name(self.job.name), self._locks)
        while True:
            lock.acquire(shared=True, stopping=stopping)
            if self._is_there():
                break
            lock.release()
            lock.acquire(stopping=stopping)
            if not self._is_there():
                self._cut()
            lock.release()
        try:
            yield lock.file
        finally:
            lock.release()

    def check_sources(self, step: Step, sources: Sources) -> None:
        """Check that code and data are what the plan was made from; data that git ignores is linked to.

        Raises:
            UpsError: if a file was changed since.
        """
        for path in step.sources:
            place = self.path / path
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):  # another stage was faster
                    place.symlink_to((self.root / path).resolve())
        here = Sources(self.path)
        for path in step.sources:
            if here.entry(path)["md5"] != sources.entry(path)["md5"]:
                raise UpsError(f"{path} was changed while the sweep was being planned. Start the sweep again.")

    def bring(self, out: Entry) -> int:
        """Put an output of another stage here; returns the bytes copied, 0 if it is here already.

        Raises:
            CorruptObject: if the cache does not hold what it should.
        """
        with Lock(f"outputs-{self.job.name}", self._locks).held():
            known = self._outputs()
            if known.get(out["path"]) == out["md5"] and (self.path / out["path"]).exists():
                return 0
            size = self.store.check_out(out, self.path)
            self._write_outputs({**known, out["path"]: out["md5"]})
            return size

    def clear(self, step: Step) -> None:
        """Remove a stage's outputs, as DVC does before it runs a stage."""
        with Lock(f"outputs-{self.job.name}", self._locks).held():
            self._write_outputs({path: md5 for path, md5 in self._outputs().items() if path not in step.outs})
        for out in step.outs:
            place = self.path / out
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)

    def check_outputs(self, step: Step, wanted: Mapping[str, str]) -> None:
        """Check what a stage wrote before anybody relies on it.

        Args:
            step: the stage; it has ended without an error.
            wanted: the files in its outputs that other stages read, with a stage that reads each.

        Raises:
            ArtifactError: if one is missing, or a file that every reader takes for JSON is something else.
        """
        for path, reader in sorted(wanted.items()):
            if not (self.path / path).exists():
                raise ArtifactError(
                    f"{path} does not exist: {step.stage} did not write it, although it ended without an error, and "
                    f"{reader} reads it."
                )
        for place in (self.path / out / name for out in step.outs for name in _JSON):
            if place.is_file():
                try:
                    json.loads(place.read_bytes())
                except ValueError as error:
                    raise ArtifactError(
                        f"{place.relative_to(self.path)} is not JSON ({error}), although {step.stage} ended without an "
                        "error. Nothing of its outputs is kept; mend the stage."
                    ) from None

    def keep(self, outs: list[Entry]) -> None:
        """Note that a stage's outputs are here."""
        with Lock(f"outputs-{self.job.name}", self._locks).held():
            self._write_outputs({**self._outputs(), **{out["path"]: out["md5"] for out in outs}})

    def _is_there(self) -> bool:
        if not (self.path / ".git").exists():
            return False
        content = _read_mapping(self._stamp)
        return content.get("commit") == self.commit and content.get("cache") == str(self.store.folder)

    def _cut(self) -> None:
        """Make the worktree, or bring it to this sweep's commit; checkpoints and outputs in it stay."""
        self._stamp.unlink(missing_ok=True)
        # Git's own list of worktrees has one writer at a time.
        with Lock("git", self._locks).held():
            if (self.path / ".git").exists():
                try:
                    snapshot.git(self.path, "checkout", "--quiet", "--force", "--detach", self.commit)
                except UpsError:
                    self._remake()  # git does not know it any more, or was killed while it wrote here
            else:
                self._remake()
        configure_cache(self.path, self.store.folder)
        original = self.path / selection.ORIGINAL
        original.parent.mkdir(exist_ok=True)
        original.write_text(selection.original_text(), encoding="utf-8")
        atomic.write_text(self._stamp, json.dumps({"commit": self.commit, "cache": str(self.store.folder)}))

    def _remake(self) -> None:
        kept = self.path.with_name(f".{self.job.name}.kept")
        if (self.path / ".ups").is_dir():
            shutil.rmtree(kept, ignore_errors=True)
            (self.path / ".ups").rename(kept)
        if self.path.exists():
            shutil.rmtree(self.path)
        snapshot.git(self.root, "worktree", "prune")
        snapshot.git(self.root, "worktree", "add", "--quiet", "--force", "--detach", str(self.path), self.commit)
        if kept.is_dir():
            kept.rename(self.path / ".ups")

    def _outputs(self) -> dict[str, str]:
        return _read_mapping(self.path / ".ups" / "outputs.json")

    def _write_outputs(self, content: Mapping[str, str]) -> None:
        atomic.write_text(self.path / ".ups" / "outputs.json", json.dumps(content))


def lock_name(name: str) -> str:
    """Return the name of the lock that is held while stages run in a workspace."""
    return f"workspace-{name}"


def stamped_commit(name: str) -> str:
    """Return the commit that a workspace of this project was cut from; empty if it is not there as a whole."""
    return str(_read_mapping(_stamp(name, Path())).get("commit", ""))


def configure_cache(workspace: Path, cache: Path) -> None:
    """Let DVC keep its cache elsewhere and copy out of it: a hard link would let a stray write reach the cache."""
    config = workspace / ".dvc" / "config.local"
    config.parent.mkdir(exist_ok=True)
    config.write_text(f"[cache]\n    dir = {cache}\n    type = reflink,copy\n", encoding="utf-8")


def parameter_text(job: Job) -> str:
    """Return the text of a job's `params/base.yaml`."""
    return selection.header(job.selection) + dump_yaml(job.raw)


def _stamp(name: str, root: Path) -> Path:
    return root / FOLDER / f"{name}.json"


def _read_mapping(path: Path) -> dict[str, str]:
    """Return the content of a JSON file of our own; empty if it is not there or was spoilt."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
