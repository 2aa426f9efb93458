"""Settings of all tests."""

import os
from pathlib import Path

# Before torch is imported, and for the processes that tests start. Tensors are small here, so a second thread gains
# nothing, and where the cores have other work too, threads that wait for each other made tests sixty times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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
