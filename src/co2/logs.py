"""Log files, and lines that no outsider can forge.

``co2.log`` holds events, ``debug.log`` details for debugging, ``access.log`` one line per request. Warnings and
above, and events that people wait for, also go to stderr; a plugin's traceback that repeats goes there as one
line. Text from outside cannot forge a line: control characters are escaped, and further lines of plugins' output
and of tracebacks are indented.
"""

import logging
import logging.handlers
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

from co2.unseen import escape_unseen

__all__ = [
    "BACKUPS",
    "FILE_SIZE",
    "MAX_VALUE",
    "QUIET",
    "TOLD",
    "EscapingFormatter",
    "LineBudget",
    "LineBudgets",
    "LogFiles",
    "escaped",
    "open_private",
    "setup_logs",
]

FILE_SIZE = 10 * 2**20
"""Bytes of a log file, after which the next one begins."""

BACKUPS = 3
"""Older files that are kept of each log."""

TOLD = {"told": True}
"""``extra`` of a record below a warning that is still shown at the terminal: people wait for it."""

QUIET = {"told": False}
"""``extra`` of a warning or error that is not shown at the terminal: people have seen it."""

MAX_VALUE = 512
"""Characters of a value in a line; a longer value is cut, and the line gives its length."""

PLACE_RATE = 50.0
PLACE_BURST = 2000
"""Lines per second from one place in the code, in the long run and at once; with a traceback 1 and 20."""

MAX_FORGOTTEN = 100
"""Forgotten sources with suppressed lines to report; the lines of any further one count as those of others."""

FLUSH_INTERVAL = 0.5
"""Seconds after which the lines of the access log are in its file."""

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def escaped(text: str) -> str:
    """Escape invisible characters, so that they have no effect; tabs and line ends stay."""
    return escape_unseen(text, "\t\n")


class EscapingFormatter(logging.Formatter):
    """One line per record; in plugins' texts and tracebacks, further lines are indented behind ``|``."""

    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; values longer than :data:`MAX_VALUE` are cut."""
        # A plugin's output arrives as one value, may have many lines and has its own limit.
        if not record.name.startswith("co2.plugins."):
            record = logging.makeLogRecord(record.__dict__)
            if isinstance(record.args, tuple):
                record.args = tuple(_cut(value) for value in record.args)
            record.msg, record.args = record.getMessage().replace("\n", "\\n"), None
        text = super().format(record)
        if left_out := getattr(record, "left_out", 0):
            text += f" (and {left_out} similar lines before it were suppressed: too many in a short time)"
        return escaped(text).replace("\n", "\n  | ")


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > MAX_VALUE:
        return f"{value[:MAX_VALUE]}… ({len(value)} characters)"
    return value


class LineBudget:
    """Decides whether a source may log one more line; counts suppressed lines for a later report.

    Args:
        rate: lines per second in the long run.
        burst: lines at once.
        clock: seconds, monotonic.

    Attributes:
        lines: suppressed and not reported yet.
        bytes: of these lines, and those cut from lines that were too long.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.lines = 0
        self.bytes = 0
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._at = clock()

    def take(self, size: int) -> bool:
        """Use up one line of ``size`` bytes, or count it as suppressed; return whether it may be logged."""
        if self.spent:
            self.suppress(1, size)
            return False
        self._left -= 1
        return True

    @property
    def spent(self) -> bool:
        """Whether the next line would be suppressed."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left < 1

    def suppress(self, lines: int, size: int) -> None:
        """Count lines and bytes as suppressed."""
        self.lines += lines
        self.bytes += size

    def tell(self, logger: logging.Logger, level: int = logging.WARNING, source: str = "") -> None:
        """Log how much was suppressed since the last report, if anything was.

        Args:
            logger: of the source.
            level: of the line.
            source: prefix of the line, where the logger's name does not name the source.
        """
        if self.lines or self.bytes:
            lines, size = self.lines, self.bytes
            self.lines = self.bytes = 0
            before = f"{source} " if source else ""
            logger.log(
                level,
                "%ssuppressed %d lines, %d bytes (too long, or too many in a short time)",
                before,
                lines,
                size,
            )


class LineBudgets:
    """A :class:`LineBudget` for each source, and one for all of them together.

    Args:
        rate: lines of one source per second in the long run.
        burst: the same at once.
        total_rate: lines of all sources per second in the long run.
        total_burst: the same at once.
        max_sources: sources that are remembered; for one more, the oldest is forgotten, and reported later.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        rate: float = 10.0,
        burst: int = 20,
        total_rate: float = 50.0,
        total_burst: int = 1000,
        *,
        max_sources: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._max_sources = max_sources
        self._clock = clock
        self._total = LineBudget(total_rate, total_burst, clock)
        self._sources: dict[str, LineBudget] = {}
        self._forgotten: list[tuple[str, LineBudget]] = []

    def take(self, source: str, size: int) -> bool:
        """Use up one line of ``size`` bytes, or count it as suppressed; return whether it may be logged."""
        budget = self._sources.get(source)
        if budget is None:
            if len(self._sources) >= self._max_sources:
                self._forget(next(iter(self._sources)))
            budget = self._sources[source] = LineBudget(self._rate, self._burst, self._clock)
        if budget.spent or self._total.spent:
            budget.suppress(1, size)
            return False
        return self._total.take(size) and budget.take(size)

    def _forget(self, source: str) -> None:
        budget = self._sources.pop(source)
        if budget.lines and len(self._forgotten) < MAX_FORGOTTEN:
            self._forgotten.append((source, budget))
        else:
            self._total.suppress(budget.lines, budget.bytes)

    def log(self, logger: logging.Logger, level: int, source: str, text: str, *values: object) -> None:
        """Log a line caused from outside, or count it as suppressed.

        Args:
            logger: to log to.
            level: of the line.
            source: that caused the line.
            text: with places for the values.
            values: as for :meth:`logging.Logger.log`.
        """
        if self.take(source, len(text) + sum(len(one) for one in values if isinstance(one, str))):
            self._sources[source].tell(logger, level, source)
            logger.log(level, text, *values, stacklevel=2)

    def tell(self, logger: logging.Logger, level: int = logging.WARNING, *, ending: bool = False) -> None:
        """Report the suppressed lines of each source that may log again. To be called about once a second.

        Args:
            logger: of the line.
            level: of the line.
            ending: this is the last report.
        """
        forgotten, self._forgotten = self._forgotten, []
        for source, budget in (*forgotten, *self._sources.items()):
            if not budget.lines:
                continue
            is_forgotten = self._sources.get(source) is not budget
            if ending or ((is_forgotten or not budget.spent) and not self._total.spent and self._total.take(0)):
                budget.tell(logger, level, source)
            elif is_forgotten:
                self._total.suppress(budget.lines, budget.bytes)
        if self._total.lines and (ending or not self._total.spent):
            self._total.tell(logger, level, "others")


class _Places(logging.Filter):
    """Limits the lines of each place in the code, so that no outsider can fill a log through any of them.

    Plugins' output passes: it has its own limits.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._budgets: dict[tuple[str, int], LineBudget] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide once for all handlers; the first line after suppressed ones gets their number."""
        decided: bool | None = getattr(record, "is_let_through", None)
        if decided is None:
            decided = record.is_let_through = self._decide(record)
        return decided

    def _decide(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("co2.plugins."):
            return True
        place = (record.pathname, record.lineno)
        with self._lock:
            budget = self._budgets.get(place)
            if budget is None:
                rate, burst = (1.0, 20) if record.exc_info else (PLACE_RATE, PLACE_BURST)
                budget = self._budgets[place] = LineBudget(rate, burst, self._clock)
            if not budget.take(0):
                return False
            if budget.lines:
                record.left_out, budget.lines = budget.lines, 0
        return True

    def untold(self) -> int:
        """Return how many suppressed lines no later line has reported."""
        with self._lock:
            return sum(budget.lines for budget in self._budgets.values())


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """A rotating file that only its owner may read."""

    def _open(self) -> IO[str]:  # type: ignore[override]  # the stub promises a TextIOWrapper
        return open(  # the handler closes the file; the opener sets its mode from the start
            self.baseFilename, self.mode, encoding="utf-8", errors="backslashreplace", opener=open_private
        )


def open_private(path: str, flags: int) -> int:
    """Open a file that only its owner may read: an opener for :func:`open`."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


class _BufferedFile(logging.Handler):
    """Buffers lines for a moment and writes many at once: a line per request must cost almost nothing."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target
        self._records: list[logging.LogRecord] = []
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="access-log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Buffer a record; it is written within :data:`FLUSH_INTERVAL`."""
        self._records.append(record)

    def flush(self) -> None:
        """Write the buffered records."""
        self.acquire()  # emit() is called with this lock: it must not append to a list that is written already
        try:
            records, self._records = self._records, []
        finally:
            self.release()
        for record in records:
            self._target.handle(record)

    def close(self) -> None:
        """Write the rest and close the file."""
        self._closing.set()
        self._writer.join()
        self.flush()
        self._target.close()
        super().close()

    def _write_on(self) -> None:
        while not self._closing.wait(FLUSH_INTERVAL):
            self.flush()


class LogFiles:
    """The log handlers of a host, active from :func:`setup_logs` until :meth:`close`."""

    def __init__(self, folder: Path) -> None:
        self._undo: list[tuple[logging.Logger, logging.Handler]] = []
        co2, access = logging.getLogger("co2"), logging.getLogger("co2.access")
        self._places = _Places()
        self._before = [(logger, logger.level, logger.propagate) for logger in (co2, access)]
        co2.setLevel(logging.DEBUG)
        co2.propagate = access.propagate = False
        try:
            self._add(co2, _file(folder, "co2.log"), logging.INFO)
            debug = _file(folder, "debug.log")
            debug.addFilter(lambda record: record.levelno < logging.INFO)
            self._add(co2, debug, logging.DEBUG)
            self._add(co2, _stderr(), logging.INFO)
            self._add(access, _BufferedFile(_file(folder, "access.log", "%(asctime)s %(message)s")), logging.INFO)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Write the rest and restore the loggers."""
        if untold := self._places.untold():
            logging.getLogger("co2.logs").warning(
                "%d more lines were suppressed: too many in a short time", untold
            )
        while self._undo:
            logger, handler = self._undo.pop()
            logger.removeHandler(handler)
            handler.close()
        for logger, level, propagate in self._before:
            logger.setLevel(level)
            logger.propagate = propagate
        self._before = []

    def __enter__(self) -> "LogFiles":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, logger: logging.Logger, handler: logging.Handler, level: int) -> None:
        handler.setLevel(level)
        if logger.name == "co2":
            handler.addFilter(self._places)
        logger.addHandler(handler)
        self._undo.append((logger, handler))


def setup_logs(folder: Path) -> LogFiles:
    """Write the logs of this process into a folder.

    Args:
        folder: made with mode 0700 if it is missing; files get 0600.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return LogFiles(folder)


def _file(folder: Path, name: str, form: str | None = None) -> logging.Handler:
    handler = _PrivateFile(folder / name, maxBytes=FILE_SIZE, backupCount=BACKUPS)
    handler.setFormatter(_LineFormatter(form) if form else EscapingFormatter())
    return handler


class _LineFormatter(logging.Formatter):
    """One line per record; for a record with the attribute ``lines``, those lines, each with its time."""

    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        lines = getattr(record, "lines", None)
        if lines is not None:
            return escaped("\n".join(lines))
        return escaped(super().format(record)).replace("\n", "\\n")


def _stderr() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EscapingFormatter())
    handler.addFilter(lambda record: getattr(record, "told", record.levelno >= logging.WARNING))
    return handler
