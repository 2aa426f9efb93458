"""`ups params use` writes what DVC reads, keeps the comments, and never loses an edit."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ups.errors import ParameterError
from ups.parameters import selection
from ups.parameters.files import BASE, read_yaml
from ups.parameters.flat import differences
from ups.parameters.overlay import complete
from ups.parameters.selection import ORIGINAL, Selection

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def comments(text: str) -> list[str]:
    return [line.split("#", 1)[1] for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize(
    "chosen",
    [
        Selection("light-diffusion"),
        Selection("no-diffusion", preset="tiny", seed=3),
        Selection(None, preset="full"),
        Selection("golden", task="advection1d"),
    ],
)
def test_what_is_written_is_what_was_resolved(chosen):
    before = BASE.read_text()
    selection.use(chosen)
    assert differences(complete(read_yaml(BASE)), chosen.resolve()) == {}
    assert selection.current() == chosen
    assert ORIGINAL.read_text() == before
    assert comments(BASE.read_text())[1:] == comments(before)
    assert selection.restore()
    assert BASE.read_text() == before
    assert selection.current() is None
    assert not selection.restore()


def test_an_unchanged_selection_leaves_the_text_as_it_was():
    """Same text, so DVC's cached results of either serve both."""
    before = BASE.read_text()
    assert selection.use(Selection()) == {}
    assert BASE.read_text().split("\n", 1)[1] == before


def test_one_selection_after_another_starts_from_the_original():
    selection.use(Selection("light-diffusion", seed=5))
    selection.use(Selection("no-diffusion"))
    assert differences(complete(read_yaml(BASE)), Selection("no-diffusion").resolve()) == {}
    assert selection.original_base()["seed"] == 42


def test_edits_after_a_selection_are_not_lost():
    selection.use(Selection("light-diffusion"))
    edited = BASE.read_text().replace("seed: 42", "seed: 43")
    BASE.write_text(edited)
    for step in (selection.restore, lambda: selection.use(Selection("golden"))):
        with pytest.raises(ParameterError, match=r"seed: 42 -> 43"):
            step()
    assert BASE.read_text() == edited


def test_a_lost_original_is_explained():
    selection.use(Selection("light-diffusion"))
    ORIGINAL.unlink()
    with pytest.raises(ParameterError, match=r"neither in .*base\.yaml nor in a commit"):
        selection.use(Selection("golden"))


def test_a_clone_of_a_committed_selection_finds_the_original_in_git(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)

    original = BASE.read_text()
    (tmp_path / ".gitignore").write_text(".ups/\nclone/\n")
    git("init")
    for chosen in (None, Selection("golden", preset="tiny"), Selection("light-diffusion")):
        if chosen:
            selection.use(chosen)
        git("add", "-A")
        git("commit", "-m", "x")
    git("clone", ".", "clone")
    monkeypatch.chdir(tmp_path / "clone")
    assert selection.current() == Selection("light-diffusion")
    assert selection.original_text() == original
    assert selection.restore()
    assert BASE.read_text() == original


def test_a_bad_selection_changes_nothing():
    before = BASE.read_text()
    with pytest.raises(ParameterError, match="Unknown variant"):
        selection.use(Selection("gulden"))
    assert BASE.read_text() == before
    assert not ORIGINAL.exists()
