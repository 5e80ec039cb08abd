"""The last lines of a package's log, kept in memory for whoever asks for them."""

import logging
from collections import deque
from typing import Any

__all__ = ["MAX_BYTES", "MAX_LINES", "LogTail"]

MAX_LINES = 500
MAX_BYTES = 256 * 1024
"""Records that are kept of one package, and the characters of their texts."""

_OVERHEAD = 100


class LogTail(logging.Handler):
    """Keeps what is logged under one name, from INFO up."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._rows: deque[dict[str, Any]] = deque()
        self._size = 0
        self._number = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record; the oldest go where there are too many."""
        try:
            text = record.getMessage()
        except Exception:
            text = str(record.msg)  # a wrong placeholder: the log itself complains of it
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
        """Give the last records with a number above ``after``, oldest first."""
        rows = [row for row in self._rows if row["number"] > after]
        return rows[-max_rows:]
