"""A traceback that comes again and again is a line from the second time on, where people read along."""

import time
from collections.abc import Callable

__all__ = ["MAX_TRACEBACKS", "WHOLE_EVERY", "Repeats"]

WHOLE_EVERY = 60.0
"""Seconds after which a traceback is shown whole again."""

MAX_TRACEBACKS = 100
"""Tracebacks that are known at a time; of more, those that were shown first are forgotten."""

_TRACEBACK = "\nTraceback (most recent call last):\n"


class Repeats:
    """Knows which tracebacks were shown of late.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shown: dict[tuple[str, int], tuple[float, int]] = {}

    def shortened(self, source: str, text: str) -> str:
        """Give a text as it is; or one line, where the same traceback of the same source was shown of late.

        Args:
            source: whose it is.
            text: what happened and, in further lines, the traceback. Its last line, what the error says, may
                differ from time to time, and is in what is shown.
        """
        if _TRACEBACK not in text:
            return text
        same, _, error = text.rpartition("\n")
        key, now = (source, hash(same)), self._clock()
        since, count = self._shown.get(key, (now, 0))
        if count and now - since < WHOLE_EVERY:
            self._shown[key] = (since, count + 1)
            often = f"again: {count + 1} times in {now - since:.0f} s; its traceback is in co2.log"
            return f"{text.splitlines()[0]} - {error.strip()} ({often})"
        self._shown.pop(key, None)  # it is the newest now
        if len(self._shown) >= MAX_TRACEBACKS:
            del self._shown[next(iter(self._shown))]
        self._shown[key] = (now, 1)
        return text
