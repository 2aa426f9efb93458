"""Progress of long reads, writes and downloads: a bar on a terminal, a few lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

_LINE_EVERY = 0.25  # share of the total between two lines where there is no terminal
_QUIET_SECONDS = 2.0  # nothing is printed for work that ends sooner


class Progress:
    """Count work done and show it on stderr; use it as a context manager.

    Args:
        label: what is being done.
        total: amount of work, or None if unknown.
        unit: what is counted; "B" is shown with prefixes (MB, GB).
        initial: amount already done.
    """

    def __init__(self, label: str, total: int | None, unit: str, initial: int = 0) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, initial
        self.started = time.monotonic()
        self._next_line = _LINE_EVERY * (total or 0)
        self._next_time = self.started + 10.0  # without a total: a line every 10 s
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm  # only where a bar is drawn: running a surrogate does not need tqdm

            scale = unit == "B"
            self._bar = tqdm(total=total, desc=label, unit=unit, unit_scale=scale, initial=initial, file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, amount: int) -> None:
        """Record `amount` more units of work."""
        self.done += amount
        if self._bar is not None:
            self._bar.update(amount)
        elif time.monotonic() - self.started > _QUIET_SECONDS and self._line_is_due():
            print(f"{self.label}: {self._text()}", file=sys.stderr, flush=True)

    def _line_is_due(self) -> bool:
        if self.total:
            due = self.done >= self._next_line
            while self._next_line <= self.done:
                self._next_line += _LINE_EVERY * self.total
            return due
        due = time.monotonic() >= self._next_time
        if due:
            self._next_time = time.monotonic() + 10.0
        return due

    def _text(self) -> str:
        seconds = f"after {time.monotonic() - self.started:.0f} s"
        if self.unit == "B":
            of = f" of {self.total / 1e6:,.1f}" if self.total else ""
            return f"{self.done / 1e6:,.1f}{of} MB, {seconds}"
        of = f"/{self.total}" if self.total else ""
        return f"{self.done}{of} {self.unit}, {seconds}"
