"""Output of a child: lines, capped and rate-limited, so that a flood costs neither memory nor the log."""

import logging
import re

from co2.logs import LineBudget

__all__ = ["BURST", "MAX_LINE", "RATE", "TAIL", "ProcessOutput", "innermost_place"]

MAX_LINE = 2000
"""Bytes of one line that reach the log."""

RATE = 100.0
BURST = 200
"""Lines per second on average, and at once."""

TAIL = 32 * 1024
"""Bytes of the latest output that are kept."""

_DUMP_LINE = re.compile(
    rb"(?:Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):$"
    rb'|  File ".+", line \d+ in |  \.\.\.$|  <no Python frame>$|$'
)
"""A line of faulthandler's dump of all stacks."""

_TRACE_LINE = re.compile(r'^  File "(.+)", line (\d+) in (.+)$', re.MULTILINE)


class ProcessOutput:
    """One output stream of a child.

    Args:
        logger: for its lines.
        level: of its lines.
        budget: log lines that this child may write.
    """

    def __init__(self, logger: logging.Logger, level: int, budget: LineBudget) -> None:
        self._logger = logger
        self._level = level
        self._budget = budget
        self._partial = b""
        self._skipping = False
        self._tail = b""
        self._dumping = False

    @property
    def tail(self) -> str:
        """The latest output."""
        return self._tail.decode("utf-8", "replace")

    def expect_dump(self) -> None:
        """Start the tail anew for a dump of all stacks, whose lines go to debug.log only."""
        self._tail = b""
        self._dumping = True

    def feed(self, data: bytes) -> None:
        """Split bytes into lines, and log them."""
        self._tail = data[-TAIL:] if len(data) >= TAIL else (self._tail + data)[-TAIL:]
        if self._budget.spent:
            # The rest is only counted: even a gigabyte is read as fast as the child writes it.
            self._budget.suppress(data.count(b"\n"), len(data) + len(self._partial))
            self._partial = b""
            self._skipping = not data.endswith(b"\n")
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._end_of_line(line)
        self._partial_line(rest)

    def close(self) -> None:
        """Log the last line if it has no end yet."""
        if self._partial:
            self._line(self._partial)
            self._partial = b""

    def _end_of_line(self, line: bytes) -> None:
        if self._skipping:
            self._skipping = False
            self._budget.suppress(0, len(line))
            return
        line, self._partial = self._partial + line, b""
        self._line(line)

    def _partial_line(self, rest: bytes) -> None:
        if self._skipping:
            self._budget.suppress(0, len(rest))
            return
        self._partial += rest
        if len(self._partial) > MAX_LINE:
            self._line(self._partial)
            self._partial, self._skipping = b"", True

    def _line(self, line: bytes) -> None:
        if not line.strip() or not self._budget.take(len(line)):
            return
        if len(line) > MAX_LINE:
            self._budget.suppress(0, len(line) - MAX_LINE)
        level = logging.DEBUG if self._dumping and _DUMP_LINE.match(line) else self._level
        self._logger.log(level, "%s", line[:MAX_LINE].decode("utf-8", "replace").rstrip("\r"))


def innermost_place(dump: str, folder: str) -> str:
    """Return where a child hangs, from faulthandler's dump.

    Args:
        dump: the stacks of all threads, innermost frames first.
        folder: of the package.

    Returns:
        ``file:line in function`` of the innermost frame in the package's own files, '' for none.
    """
    for file, line, function in _TRACE_LINE.findall(dump):
        if file.startswith(folder):
            return f"{file}:{line} in {function}"
    return ""
