"""Every command has an example that parses and says what exit code 1 means; docs/cli.md shows the same."""

import re
import shlex

import pytest
import typer
from standin import ROOT

from ups.cli import reference
from ups.cli.app import app

NAMES = dict(reference.commands(app))
COMMAND = typer.main.get_command(app)
EXAMPLES = [(name, example) for name, entry in reference.COMMANDS.items() for example in entry.examples]


def test_every_command_is_described_and_nothing_else_is():
    assert set(reference.COMMANDS) == set(NAMES)
    assert all(entry.examples for entry in reference.COMMANDS.values())


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=lambda text: text.replace(" ", "_"))
def test_examples_parse(name, example):
    words = shlex.split(example)
    assert words[0] == "ups"
    command, rest = COMMAND, words[1:]
    for part in name.split():
        assert rest[0] == part
        command, rest = command.commands[part], rest[1:]
    command.make_context(name, rest)  # refuses unknown options and arguments of the wrong kind


def test_a_wrong_example_would_not_parse():
    with pytest.raises(Exception, match="No such option: --seed"):
        COMMAND.commands["plan"].make_context("plan", ["--seed", "1"])


def test_the_page_holds_the_table_of_the_app():
    text = (ROOT / reference.PAGE).read_text()
    shown = re.search(f"{reference.START}\n(.*?)\n{reference.END}", text, re.DOTALL)
    assert shown
    assert shown.group(1) == reference.table(app), "run `python -m ups.cli.reference`"


def test_help_shows_examples_and_the_exit_code():
    for name, info in NAMES.items():
        assert reference.COMMANDS[name].examples[0] in info.epilog
        assert f"Exit code 1: {reference.COMMANDS[name].fails}" in info.epilog


def test_what_ends_with_another_code_says_so():
    """A command that raises `typer.Exit` judges or fails in parts: "never" would be untrue."""
    sources = {path.stem: path.read_text() for path in (ROOT / "ups/cli").glob("*.py")}
    for name, info in NAMES.items():
        module = sources[info.callback.__module__.rpartition(".")[2]]
        body = module.split(f"def {info.callback.__name__}(")[1].split("\ndef ")[0]
        assert "typer.Exit" not in body or reference.COMMANDS[name].fails != "never", name
