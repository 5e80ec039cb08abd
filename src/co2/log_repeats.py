"""Report an error that repeats ever more rarely, with a count: people read the log."""

import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

__all__ = ["FORGET", "MAX_KNOWN", "TELL_AFTER", "RecentlyLogged", "Repeats", "Told"]

TELL_AFTER = (1.0, 10.0, 60.0)
"""Seconds after the first occurrence at which repetitions are reported; then at each multiple of the last."""

FORGET = 60.0
"""Seconds without an occurrence after which an error counts as new."""

MAX_KNOWN = 100
"""Errors that are remembered at a time; beyond this the oldest are forgotten."""

_TRACEBACK = "\nTraceback (most recent call last):\n"


@dataclass(slots=True)
class Told:
    """The line for an error that occurred.

    Attributes:
        text: all of it, or a line; '' for nothing: the error is only counted.
        aloud: whether it is also shown at the terminal.
    """

    text: str
    aloud: bool = True


@dataclass(slots=True)
class _Known:
    """A remembered error.

    Attributes:
        what: what happened: the first line of its text.
        error: the message: the last line of its text.
        since: time of the first occurrence.
        seen: time of the last occurrence.
        count: number of occurrences.
        told: number of occurrences that have been reported.
        step: number of reports of its repetition.
    """

    what: str
    error: str
    since: float
    seen: float
    count: int = 1
    told: int = 1
    step: int = 0


class Repeats:
    """Remembers which errors occurred recently.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[str, int], _Known] = {}

    def take(self, source: str, text: str) -> Told:
        """Count an error and return what to write; errors with equal source and traceback are the same.

        Args:
            source: of the error.
            text: what happened, with details of this occurrence such as a message or a log id; in further lines
                the traceback. Its last line, the message of the error, may differ from time to time.
        """
        if _TRACEBACK not in text:
            return Told(text)
        what, _, traceback = text.partition("\n")
        same, _, error = traceback.rpartition("\n")
        key, now = (source, hash(same)), self._clock()
        known = self._known.get(key)
        if known is None or now - known.seen > FORGET:
            self._known.pop(key, None)  # it becomes the newest
            if len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[key] = _Known(what, error.strip(), now, now)
            return Told(text)
        known.count += 1
        known.seen = now
        of_its_own = what != known.what
        known.what, known.error = what, error.strip()
        if now - known.since >= _due(known):
            return Told(self._again(known, now))
        return Told(f"{what} - {known.error} (again)" if of_its_own else "", aloud=False)

    def due(self) -> Iterator[tuple[str, str]]:
        """Return source and line of each repetition that is due for a report; to be called regularly."""
        now = self._clock()
        for (source, _), known in self._known.items():
            if known.count > known.told and now - known.since >= _due(known):
                yield source, self._again(known, now)

    @staticmethod
    def _again(known: _Known, now: float) -> str:
        age = now - known.since
        while age >= _due(known):
            known.step += 1
        known.told = known.count
        often = f"repeated: {known.count} times in {age:.0f} s; its traceback is in co2.log"
        return f"{known.what} - {known.error} ({often})"


def _due(known: _Known) -> float:
    """Return the age, in seconds, at which the error is reported next."""
    more = known.step - len(TELL_AFTER) + 1
    return TELL_AFTER[known.step] if more <= 0 else TELL_AFTER[-1] * (more + 1)


class RecentlyLogged:
    """Remembers what was logged lately, so that an action that is repeated all the time is logged now and then.

    Args:
        interval: seconds after which the same is logged again.
        most: things that are remembered; for one more, the oldest is forgotten, and may be logged again earlier.
        clock: seconds, monotonic.
    """

    def __init__(
        self, interval: float = 60.0, most: int = 256, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = interval
        self._most = most
        self._clock = clock
        self._until: dict[Hashable, float] = {}

    def is_new(self, what: Hashable) -> bool:
        """Return whether something was not logged lately; from now on it was."""
        now = self._clock()
        if self._until.get(what, now) > now:
            return False
        self._until.pop(what, None)  # it goes to the end of the order
        if len(self._until) >= self._most:
            del self._until[next(iter(self._until))]
        self._until[what] = now + self._interval
        return True
