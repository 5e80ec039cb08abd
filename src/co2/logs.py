"""Log files, and lines that cannot lie.

``co2.log`` has what happened, ``debug.log`` what helps to find out why, ``access.log`` a line a request. Warnings
and above, and what people wait for, also go to stderr, a plugin's traceback that comes again and again as a line.
Text from outside cannot forge a line: control characters are escaped, and what plugins say and tracebacks have in
further lines is indented.
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
    "LogFiles",
    "escaped",
    "open_private",
    "setup_logs",
]

FILE_SIZE = 10 * 2**20
"""Bytes of one log file, after which the next is begun."""

BACKUPS = 3
"""Older files that are kept of each log."""

TOLD = {"told": True}
"""``extra`` of a record that people at the terminal are to see though nothing is wrong: they wait for it."""

QUIET = {"told": False}
"""``extra`` of one that they are not to see though something is wrong: they have seen it."""

MAX_VALUE = 512
"""Characters of one value in a line; the rest is cut and said."""

FLUSH_INTERVAL = 0.5
"""Seconds after which lines of the access log are in their file."""

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def escaped(text: str) -> str:
    """Write characters that cannot be seen so that they do nothing; tabs and line ends stay."""
    return escape_unseen(text, "\t\n")


class EscapingFormatter(logging.Formatter):
    """One line a record; of plugins' texts and tracebacks, what follows a line end is indented behind ``|``."""

    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; values longer than :data:`MAX_VALUE` are cut."""
        # What plugins say comes whole as one value, may have many lines and has a limit of its own.
        if not record.name.startswith("co2.plugins."):
            record = logging.makeLogRecord(record.__dict__)
            if isinstance(record.args, tuple):
                record.args = tuple(_cut(value) for value in record.args)
            record.msg, record.args = record.getMessage().replace("\n", "\\n"), None
        return escaped(super().format(record)).replace("\n", "\n  | ")


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > MAX_VALUE:
        return f"{value[:MAX_VALUE]}… ({len(value)} characters)"
    return value


class LineBudget:
    """Tells whether one more line of a source may go to the log; counts what may not, to be told later.

    Args:
        rate: lines per second in the long run.
        burst: lines at once.
        clock: seconds, monotonic.

    Attributes:
        lines: suppressed and not told yet.
        bytes: theirs, and those of lines that were cut.
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
        """Take one line of so many bytes, or count it as suppressed."""
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
        """Count lines and bytes that do not go to the log."""
        self.lines += lines
        self.bytes += size

    def tell(self, logger: logging.Logger, level: int = logging.WARNING, source: str = "") -> None:
        """Say what was suppressed since the last time, if anything was.

        Args:
            logger: of the source.
            level: of the line.
            source: put before it, where the logger's name does not say whose lines they were.
        """
        if self.lines or self.bytes:
            lines, size = self.lines, self.bytes
            self.lines = self.bytes = 0
            before = f"{source} " if source else ""
            logger.log(
                level,
                "%ssuppressed %d lines, %d bytes (left out here: they came too fast or were too long)",
                before,
                lines,
                size,
            )


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """A rotating file that only we may read."""

    def _open(self) -> IO[str]:  # type: ignore[override]  # the stub promises a TextIOWrapper
        return open(  # the handler closes it; an opener sets the mode from the start
            self.baseFilename, self.mode, encoding="utf-8", errors="backslashreplace", opener=open_private
        )


def open_private(path: str, flags: int) -> int:
    """Open a file that only we may read: an opener for :func:`open`."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


class _BufferedFile(logging.Handler):
    """Keeps lines back for a moment and writes many at once: a line per request must cost next to nothing."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target
        self._records: list[logging.LogRecord] = []
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="access-log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record; it is written within :data:`FLUSH_INTERVAL`."""
        self._records.append(record)

    def flush(self) -> None:
        """Write what was kept."""
        records, self._records = self._records, []
        for record in records:
            self._target.handle(record)

    def close(self) -> None:
        """Write the rest and end."""
        self._closing.set()
        self._writer.join()
        self.flush()
        self._target.close()
        super().close()

    def _write_on(self) -> None:
        while not self._closing.wait(FLUSH_INTERVAL):
            self.flush()


class LogFiles:
    """The handlers of a host, in place from :func:`setup_logs` until :meth:`close`."""

    def __init__(self, folder: Path) -> None:
        self._undo: list[tuple[logging.Logger, logging.Handler]] = []
        co2, access = logging.getLogger("co2"), logging.getLogger("co2.access")
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
        """Write what is left and leave the loggers as they were."""
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
        logger.addHandler(handler)
        self._undo.append((logger, handler))


def setup_logs(folder: Path) -> LogFiles:
    """Write the logs of this process into a folder.

    Args:
        folder: made with mode 0700 if it is not there; files get 0600.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return LogFiles(folder)


def _file(folder: Path, name: str, form: str | None = None) -> logging.Handler:
    handler = _PrivateFile(folder / name, maxBytes=FILE_SIZE, backupCount=BACKUPS)
    handler.setFormatter(_LineFormatter(form) if form else EscapingFormatter())
    return handler


class _LineFormatter(logging.Formatter):
    """One line a record; or those of its attribute ``lines``, which come many at once, each with its time."""

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
