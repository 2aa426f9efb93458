"""MLflow, and the only place that imports it, when it is used.

A run is identified by the fingerprint of its pipeline: if a finished run with that fingerprint is there, it is linked
instead of repeated; one that a crash left RUNNING is closed as KILLED and made anew. A run may be written at once
(`log`) or while its stages still run (`LiveRun`).
"""

from ups.tracking.abandoned import close_abandoned, left_behind, live_runs
from ups.tracking.descriptions import run_page
from ups.tracking.models import Registered, champion, download_bundle, register, set_champion
from ups.tracking.reading import finished_runs, read_run
from ups.tracking.records import Link, Point, Published, Run, Weights
from ups.tracking.store import TrackingError, is_finished, metric_key, store
from ups.tracking.writing import FINGERPRINT_TAG, LiveRun, log, rename

__all__ = [
    "FINGERPRINT_TAG",
    "Link",
    "LiveRun",
    "Point",
    "Published",
    "Registered",
    "Run",
    "TrackingError",
    "Weights",
    "champion",
    "close_abandoned",
    "download_bundle",
    "finished_runs",
    "is_finished",
    "left_behind",
    "live_runs",
    "log",
    "metric_key",
    "read_run",
    "register",
    "rename",
    "run_page",
    "set_champion",
    "store",
]
