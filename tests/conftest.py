"""Settings of all tests."""

from pathlib import Path

import pytest
from hypothesis import settings
from tiny_variants import make_golden

import flows  # noqa: F401 - makes the settings that Prefect reads when it is imported

# How long an example takes says something about the machine and its load, not about the code.
settings.register_profile("no_timing", deadline=None)
settings.load_profile("no_timing")


@pytest.fixture(scope="session")
def tiny_golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which golden was run at the preset `tiny`."""
    return make_golden(tmp_path_factory.mktemp("tiny") / "golden")
