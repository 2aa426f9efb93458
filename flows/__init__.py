"""Prefect flows: when and where stages run, and what one sees of it. The only place that imports prefect.

Prefect reads its settings when it is imported, so they are made here, which every flow imports before. Without a server
a flow starts a temporary one of its own, which on a busy machine takes longer than Prefect's default of 20 s.
"""

import os

os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
# An empty string would switch authentication on.
if not os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
    os.environ.pop("PREFECT_SERVER_API_AUTH_STRING", None)
