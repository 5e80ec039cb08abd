"""Log lines of a package, under its plugins' names; and its last error, for pages and ``co2 ps``."""

import logging
import time
from collections import deque
from typing import Any

from co2.log_repeats import Repeats
from co2.logs import QUIET, LineBudget
from co2.plugin.child.decoding import preview
from co2.plugin.parent.process_output import BURST, RATE
from co2.protocol.wire.plugin_frames.frames import Record

__all__ = ["MAX_BYTES", "MAX_ERROR", "MAX_LINES", "LogTail", "PackageLog", "preview"]

MAX_ERROR = 500
"""Characters of the last error that are kept."""

MAX_LINES = 500
MAX_BYTES = 256 * 1024
"""Records that are kept of one package, and the characters of their texts."""

DEBUG_RATE = 100.0
DEBUG_BURST = 2000
"""Debug lines per second and at once; they go to a separate file."""

QUIET_RATE = 10.0
QUIET_BURST = 100
"""Lines per second and at once about repeated errors with their own details, in the file."""

_OVERHEAD = 100
"""Bytes that a kept record takes besides its text, roughly."""

_GAP_INTERVAL = 5.0
"""Seconds between two lines about dropped messages, dead letters, or suppressed lines."""


class LogTail(logging.Handler):
    """Keeps the records of one logger, from INFO up."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._rows: deque[dict[str, Any]] = deque()
        self._size = 0
        self._number = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record; drop the oldest beyond the limits."""
        try:
            text = record.getMessage()
        except Exception:
            text = str(record.msg)  # a wrong placeholder, which the logging module reports
        self._number += 1
        row = {
            "number": self._number,
            "at": record.created,
            "level": record.levelname,
            "source": record.name.removeprefix("co2.plugins."),
            "text": text,
        }
        self._rows.append(row)
        self._size += len(text) + _OVERHEAD
        while len(self._rows) > MAX_LINES or self._size > MAX_BYTES:
            self._size -= len(self._rows.popleft()["text"]) + _OVERHEAD

    def rows(self, after: int, max_rows: int) -> list[dict[str, Any]]:
        """Return the last records with a number above ``after``, oldest first."""
        rows = [row for row in self._rows if row["number"] > after]
        return rows[-max_rows:]


class PackageLog:
    """The log of one package.

    Args:
        package: its name; lines go to ``co2.plugins.<package>`` and, from plugins, to
            ``co2.plugins.<package>.<module>.<class>``.

    Attributes:
        tail: its last lines.
    """

    def __init__(self, package: str) -> None:
        self.logger = logging.getLogger(f"co2.plugins.{package}")
        self.tail = LogTail()
        self.logger.addHandler(self.tail)
        self.last_error = ""
        self._last_error_at = 0.0
        self._budget = LineBudget(RATE, BURST)
        self._debug_budget = LineBudget(DEBUG_RATE, DEBUG_BURST)
        self._quiet_budget = LineBudget(QUIET_RATE, QUIET_BURST)
        self._repeats = Repeats()
        self._told_dropped = self._told_unkept = 0
        self._told_at = self._left_out_at = 0.0

    @property
    def last_error_age(self) -> float | None:
        """Seconds since the last error, None for never."""
        return round(time.monotonic() - self._last_error_at, 3) if self.last_error else None

    def forget_error(self) -> None:
        """Forget the last error, because its cause is gone."""
        self.last_error = ""

    def close(self) -> None:
        """Detach the tail from the logger."""
        self.logger.removeHandler(self.tail)

    def take(self, record: Record) -> None:
        """Write a child's record, within its budget; a repeated error ever more rarely."""
        text, extra = record.text, None
        budget = self._debug_budget if record.level < logging.INFO else self._budget
        if record.level >= logging.ERROR:
            self._remember(f"{record.source}: {_summary(record.text)}")
            told = self._repeats.take(record.source, record.text)
            if not told.aloud:
                text, extra, budget = told.text, QUIET, self._quiet_budget
            text = told.text
        if text and budget.take(len(text)):
            self._logger_of(record.source).log(record.level, "%s", text, extra=extra)

    def _logger_of(self, source: str) -> logging.Logger:
        # Sources are names of plugins: at most MAX_PLUGINS.
        return logging.getLogger(f"co2.plugins.{source}") if source else self.logger

    def error(self, text: str) -> None:
        """Write an error of the parent; it becomes the last error."""
        self._remember(text)
        self.logger.error("%s", text)

    def warn(self, text: str) -> None:
        """Write a warning of the parent; it becomes the last error."""
        self._remember(text)
        self.logger.warning("%s", text)

    def tell(self, now: float, dropped: int, unkept: int = 0) -> None:
        """Report repeated errors, suppressed lines and dropped messages, at a limited rate.

        Args:
            now: monotonic seconds.
            dropped: messages dropped so far.
            unkept: dead letters that could not be kept so far.
        """
        for source, text in self._repeats.due():
            self._logger_of(source).error("%s", text)
        self._tell_left_out(now)
        if now - self._told_at < _GAP_INTERVAL or (dropped, unkept) == (self._told_dropped, self._told_unkept):
            return
        if dropped != self._told_dropped:
            self.logger.warning(
                "gap: %d messages were dropped, because they came faster than the package processes them",
                dropped - self._told_dropped,
            )
        if unkept != self._told_unkept:
            self.logger.warning(
                "%d dead letters were not kept: too many in a short time, or the plugin host died with them",
                unkept - self._told_unkept,
            )
        self._told_dropped, self._told_unkept, self._told_at = dropped, unkept, now

    def _tell_left_out(self, now: float) -> None:
        """Report how many lines were suppressed; for lines that the terminal does not get, in the file only."""
        if now - self._left_out_at < _GAP_INTERVAL:
            return
        for budget, level in (
            (self._budget, logging.WARNING),
            (self._debug_budget, logging.WARNING),
            (self._quiet_budget, logging.INFO),
        ):
            if (budget.lines or budget.bytes) and not budget.spent:
                self._left_out_at = now
                budget.tell(self.logger, level)

    def _remember(self, text: str) -> None:
        self.last_error = text[:MAX_ERROR]
        self._last_error_at = time.monotonic()


def _summary(text: str) -> str:
    """Return the first line, and the last line of a traceback."""
    first, *more = text.strip().splitlines() or [""]
    last = next((line.strip() for line in reversed(more) if line.strip()), "")
    return f"{first[:300]} - {last}" if last else first
