"""Settings of all tests."""

from hypothesis import settings

import flows  # noqa: F401 - makes the settings that Prefect reads when it is imported

# How long an example takes says something about the machine and its load, not about the code.
settings.register_profile("no_timing", deadline=None)
settings.load_profile("no_timing")
