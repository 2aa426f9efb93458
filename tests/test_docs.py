"""The documentation is true where a program can tell: links lead somewhere, commands exist, quotes are real."""

import re

import pytest
import yaml
from prose import (
    ROOT,
    code_of,
    commands,
    heading_anchors,
    message_patterns,
    pages_of,
    problems_of_command,
    problems_of_links,
    quotes,
)

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
SITE = (ROOT / "mkdocs.yml").read_text()


def test_every_entry_of_the_navigation_is_a_page_and_every_page_is_named_there():
    listed = pages_of(yaml.safe_load(SITE)["nav"])
    assert len(listed) == len(set(listed)) > 10
    assert [name for name in listed if not (ROOT / "docs" / name).is_file()] == []
    assert [page.name for page in PAGES if page.name not in SITE and page.name != "README.md"] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    assert problems_of_links(page, page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_their_options_exist(page):
    assert [found for command in commands(page.read_text()) for found in problems_of_command(command)] == []


def test_quoted_messages_are_those_of_the_code():
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    patterns = message_patterns()
    found = quotes(text)
    assert len(found) > 15
    assert [quote for quote in found if not any(pattern.search(quote) for pattern in patterns)] == []


def test_what_is_checked_is_found():
    """The checks above say nothing if they see nothing."""
    index = ROOT / "docs" / "index.md"
    bad = {
        "[a](nowhere.md)": "nowhere.md",
        "[a](caching.md#no-such-heading)": "no-such-heading",
        "[a](#no-such-heading)": "no-such-heading",
        "[a](../ups/evaluation/metrics.py#nrmse_)": "nrmse_",
        "![a](figures/none.png)": "none.png",
        "text [a\nb](../ups/none.py) text": "none.py",
    }
    for text, named in bad.items():
        assert [named in problem for problem in problems_of_links(index, text)] == [True], text
    good = "[a](caching.md#why-did-this-rerun) [b](../ups/evaluation/metrics.py#nrmse) `[c](none)` <https://x.invalid>"
    assert problems_of_links(index, good) == []
    for wrong in (
        "ups plann",
        "ups plan --no-such-option",
        "ups params",
        "ups params sho",
        "make nothing",
        "dvc reproduce",
        "dvc repro --no-such-option",
        "dvc metrics dif",
        "python -m flows.none",
    ):
        assert len(problems_of_command(wrong)) == 1, wrong
    for right in ("ups plan golden --seeds 0-5 --json", "ups predict a.h5 -o b.h5", "dvc metrics diff", "make repro"):
        assert problems_of_command(right) == [], right
    text = "```bash\nups plan \\\n  --json # why\nmake a && ups b | less\n```\n\n    ups c\n\nand `ups d`, `other e`.\n"
    assert commands(text) == ["ups plan     --json", "make a", "ups b", "less", "ups c", "ups d"]
    assert not any(pattern.search("the gradient norm was somewhat large") for pattern in message_patterns())
    assert heading_anchors("# A `b`, c?\n## A b c\n```\n# no\n```\n## x_y") == {"a-b-c", "a-b-c_1", "x_y"}


def test_the_tables_and_files_that_pages_show_are_valid(tmp_path, monkeypatch):
    """Own data: the file that is written can be read, with the section that is shown. Own ablation: it resolves."""
    import shutil

    from ups.data.readers import open_source
    from ups.parameters import overlay
    from ups.parameters.selection import Selection
    from ups.parameters.shared import Data
    from ups.parameters.sweeps import read_sweep

    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "params", "params")
    (tmp_path / "data").mkdir()
    own = (ROOT / "docs" / "own-data.md").read_text()
    names: dict[str, object] = {}
    for _, example in code_of(own, "python"):
        exec(example, names)
    with open_source(tmp_path / "data/string.h5") as source:
        assert (source.units, source.time_unit, source.num_samples) == (("m", "m/s"), "s", 16)
    with open_source(tmp_path / "data/moving.h5") as source:
        assert (source.equation, source.coefficients, source.num_samples) == ("advection", {"velocity": 3.0}, 16)
    data = Data.model_validate(yaml.safe_load(code_of(own, "yaml")[0][1])["data"])
    with open_source(tmp_path / data.path, data.space_stride, data.time_stride) as source:
        assert (source.equation, source.coefficients) == ("burgers", {"viscosity": 0.01})
        assert source.num_samples == 16
    for title, content in code_of((ROOT / "docs" / "own-ablation.md").read_text(), "yaml"):
        (tmp_path / title).write_text(content)
    assert Selection("single-steps").resolve()["train_operator"]["rollout"]["max_steps"] == 1
    assert overlay.read_variant("single-steps").extends == "golden"
    assert read_sweep("rollouts").variants == ("golden", "single-steps")


def test_the_documentation_s_packages_are_pinned_and_not_among_the_project_s():
    pinned = [line for line in (ROOT / "docs" / "requirements.txt").read_text().splitlines() if line[:1] != "#"]
    assert pinned
    assert all(line.count("==") == 1 and not set(line) & set(" @+/") for line in pinned)
    names = {line.split("==")[0].lower() for line in pinned}
    import tomllib

    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["docs"]
    assert set(extra) <= names
    locked = (ROOT / "requirements.lock").read_text().lower()
    assert not re.search(rf"^({'|'.join(map(re.escape, extra))})==", locked, re.MULTILINE)
