"""MLflow and Prefect: where they are looked for, and whether they answer."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tomllib
import urllib.error
import urllib.request
from collections.abc import Sequence

from ups import tracking
from ups.doctor.finding import Finding, ok, problem, warn
from ups.pipeline import services
from ups.tracking.store import database_file, without_password

_PATIENCE_S = 1.0


def mlflow_store() -> list[Finding]:
    """Check the tracking store."""
    address = tracking.store()
    shown, path = without_password(address), database_file(address)
    if path is not None:
        found = [_database(shown)] if not path.exists() else [_read_database(shown, str(path))]
    elif address.startswith(("http://", "https://")):
        reason = unreachable(f"{address.rstrip('/')}/health")
        mend = "Start it, or unset MLFLOW_TRACKING_URI to use the local file; afterwards `ups publish --all`."
        found = [
            warn("mlflow", f"{shown} does not answer: {reason}", mend) if reason else ok("mlflow", f"{shown} answers")
        ]
    else:
        found = [ok("mlflow", f"{shown}, not a server and not a SQLite file: not looked into")]
    if tracking.left_behind():
        mend = "`python -m ups.pipeline.repair` closes them; the next sweep does, too."
        found.append(warn("mlflow runs", "a killed driver left runs open", mend))
    return found


def _database(shown: str) -> Finding:
    return ok("mlflow", f"{shown}, not there yet: the first `ups publish` makes it")


def _read_database(shown: str, path: str) -> Finding:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)) as database:
            (runs,) = database.execute("SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'").fetchone()
    except sqlite3.Error as error:
        mend = "Move the file away and run `ups publish --all`, or set MLFLOW_TRACKING_URI to another store."
        return problem("mlflow", f"{shown} cannot be read: {error}", mend)
    if not os.access(path, os.W_OK):
        return problem("mlflow", f"{shown} is read-only", "Make it writable, or set MLFLOW_TRACKING_URI.")
    return ok("mlflow", f"{shown}, {runs} runs")


def prefect_server() -> Finding:
    """Check the Prefect server, if one is set; without one a flow starts a temporary server of its own."""
    address, origin = _prefect_address()
    if not address:
        return ok("prefect", "no server is set: flows start a temporary one; `make up` starts a lasting one")
    shown = f"{without_password(address)} ({origin})"
    reason = unreachable(f"{address.rstrip('/')}/health")
    if reason:
        mend = (
            "`make up` starts it anew." if origin == services.SETTINGS.name else "Start it, or unset PREFECT_API_URL."
        )
        return problem("prefect", f"{shown} does not answer: {reason}", mend)
    return ok("prefect", f"{shown} answers")


def _prefect_address() -> tuple[str, str]:
    """Return the address that `prefect` would take here, and where it comes from; its profiles are not looked into."""
    outside = os.environ.get("PREFECT_API_URL", "")
    if outside:
        return outside, "PREFECT_API_URL"
    with contextlib.suppress(OSError, tomllib.TOMLDecodeError):
        settings = tomllib.loads(services.SETTINGS.read_text(encoding="utf-8"))
        return str(settings.get("api", {}).get("url", "")), services.SETTINGS.name
    return "", ""


def started(recorded: Sequence[services.Service]) -> list[Finding]:
    """Check what `make up` noted."""
    if not recorded:
        return []
    dead = [service.name for service in recorded if service.process() is None]
    if dead:
        return [
            warn("make up", f"ended since: {', '.join(dead)}", "`make up` starts them anew, `make down` forgets them.")
        ]
    shown = (f"{service.name} {service.address or f'process {service.pid}'}" for service in recorded)
    return [ok("make up", ", ".join(shown))]


def unreachable(address: str) -> str:
    """Return why nothing answers at an address; empty if something does."""
    try:
        with urllib.request.urlopen(address, timeout=_PATIENCE_S) as answer:
            return "" if answer.status < 400 else f"it says {answer.status}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
