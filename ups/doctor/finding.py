"""One line of the report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How bad it is: a `problem` stops something from working, a `warn` may surprise."""

    OK = "ok"
    WARN = "warn"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What was looked at and how it is.

    Attributes:
        name: what was looked at.
        state: how bad it is.
        found: what is there.
        mend: what to do about it; empty where nothing needs to be done.
    """

    name: str
    state: State
    found: str
    mend: str = ""


def ok(name: str, found: str) -> Finding:
    return Finding(name, State.OK, found)


def warn(name: str, found: str, mend: str) -> Finding:
    return Finding(name, State.WARN, found, mend)


def problem(name: str, found: str, mend: str) -> Finding:
    return Finding(name, State.PROBLEM, found, mend)
