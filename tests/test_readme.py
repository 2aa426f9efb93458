"""Every command in the README exists, and those that are quick run."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from standin import ROOT, ups

from ups.cli import readme
from ups.errors import UpsError

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.split("#")[0].strip()]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def deployments() -> set[str]:
    """FLOW/DEPLOYMENT of every deployment; a flow's name is its function's with dashes."""
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return {f"{entry['entrypoint'].partition(':')[2].replace('_', '-')}/{entry['name']}" for entry in declared}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists(command):
    words = shlex.split(command)
    match words[0]:
        case "make":
            assert words[1] in TARGETS
        case "ups":
            names = [word for word in words[1:3] if not word.startswith("-")]
            while names and ups(ROOT, *names, "--help").returncode:
                names = names[:-1]
            shown = ups(ROOT, *names, "--help").stdout
            assert names, command
            assert all(word in shown for word in words if word.startswith("--"))
        case "dvc":
            subprocess.run([sys.executable, "-m", "dvc", *words[1:-1], "--help"], check=True, capture_output=True)
        case "prefect":
            assert words[1:3] == ["deployment", "run"]
            assert words[3] in deployments()
        case "python":
            assert ROOT.joinpath(*words[2].split(".")).with_suffix(".py").is_file()
        case _:
            assert words[0] in {"git", "source"}


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c.startswith(("ups params show", "ups params diff", "ups params use"))]
)
def test_quick_commands_run(command, tmp_path):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    result = ups(tmp_path, *shlex.split(command)[1:])
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


def test_paths_in_the_readme_exist():
    tree = TEXT.split("## What is where")[1].split("```")[1]
    listed = [line.split()[0] for line in tree.splitlines() if line.strip()]
    named = [*re.findall(r"`((?:ups|params|docs|tests)/[\w./-]+)`", TEXT), "dvc.yaml", "docs/data.md"]
    for path in [*listed, *named]:
        if not path.startswith("artifacts/"):
            assert (ROOT / path).exists(), path


def test_the_example_of_a_file_of_ones_own_is_valid():
    from ups.parameters.shared import Data

    Data.model_validate(yaml.safe_load(re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[0])["data"])


def test_results_are_written_between_the_markers(tmp_path):
    made = tmp_path / "artifacts" / "evaluate"
    made.mkdir(parents=True)
    record = '{"started": 0.0, "git_commit": "0123456789abcdef", "git_dirty": false, "device": "a machine"}'
    (made / "provenance.json").write_text(record)
    shutil.copy(ROOT / "README.md", tmp_path)
    for table in ("| first |", "| second \\1 |"):
        readme.write_results(table, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "| first |" not in text
    assert f"{readme.START}\n| second \\1 |\n" in text
    assert "1970-01-01 by commit 0123456789ab on a machine" in text
    assert text.split(readme.START)[0] == TEXT.split(readme.START)[0]
    assert text.split(readme.END)[1] == TEXT.split(readme.END)[1]
    (tmp_path / "README.md").write_text("no markers")
    with pytest.raises(UpsError, match="no place for the results"):
        readme.write_results("x", tmp_path)


def test_help_lists_every_make_target():
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(target in shown for target in ("repro", "test", "test-all", "check", "lock", "help"))


def test_the_citation_is_yaml_and_names_the_version():
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert yaml.safe_load(Path(ROOT / "CITATION.cff").read_text())["version"] == version.group(1)
