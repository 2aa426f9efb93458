"""The command line: what it prints, how it fails, and that it starts without the heavy libraries."""

import shutil
from importlib.metadata import version

import pytest
from standin import ROOT, ups


@pytest.fixture
def project(tmp_path):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    return tmp_path


def test_help_names_the_commands():
    shown = ups(ROOT, "--help").stdout
    assert all(command in shown for command in ("params", "deps", "repro", "publish", "results", "data"))


def test_show_and_diff(project):
    shown = ups(project, "params", "show", "light-diffusion").stdout
    assert "learning_rate: 2.0e-05" in shown
    changes = ups(project, "params", "diff", "golden", "no-diffusion").stdout
    assert changes == "train_diffusion.optimization.epochs: 8 -> 0\n"
    assert ups(project, "params", "diff", "base").stdout == "No difference.\n"


def test_use_and_back(project):
    before = (project / "params/base.yaml").read_text()
    assert "train_diffusion.optimization.epochs: 8 -> 3" in ups(project, "params", "use", "light-diffusion").stdout
    assert (project / "params/base.yaml").read_text().startswith("# Selected by `ups params use light-diffusion`; undo")
    assert "original again" in ups(project, "params", "use", "base").stdout
    assert (project / "params/base.yaml").read_text() == before


def test_the_repository_itself_is_in_order():
    result = ups(ROOT, "params", "check", "all")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("params", "show", "gold"), "Did you mean 'golden'?"),
        (("params", "use", "golden", "--preset", "small"), "Unknown preset 'small'"),
        (("params", "diff", "golden", "golden.tny"), "Unknown preset 'tny'"),
        (("params", "diff", "golden", "golde.tiny"), "Unknown variant 'golde'"),
        (("experiments",), "`git init`"),
        (("publish",), "Run `make repro`"),
        (("results",), "dvc repro evaluate"),
    ],
)
def test_errors_are_one_paragraph_and_exit_code_one(project, arguments, message):
    (project / "dvc.yaml").write_text("stages: {}\n")
    result = ups(project, *arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_outside_a_project_it_says_so(tmp_path):
    result = ups(tmp_path, "params", "show")
    assert result.returncode == 1
    assert "project's folder" in result.stderr


def test_the_version():
    assert ups(ROOT, "--version").stdout == f"{version('ups-pipeline')}\n"


def test_a_command_that_does_not_exist_is_a_usage_error():
    assert ups(ROOT, "parms").returncode == 2
