"""Settings of all tests."""

from pathlib import Path

import pytest
from hypothesis import settings
from standin import copy_repository

import flows  # noqa: F401 - makes the settings that Prefect reads when it is imported

# How long an example takes says something about the machine and its load, not about the code.
settings.register_profile("no_timing", deadline=None)
settings.load_profile("no_timing")


@pytest.fixture(scope="session")
def variants_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which `swept_variants.run` runs variants."""
    return copy_repository(tmp_path_factory.mktemp("variants"))
