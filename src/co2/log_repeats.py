"""An error that comes again and again is told ever more rarely, with a count: people read along."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["FORGET", "MAX_KNOWN", "TELL_AFTER", "Repeats", "Told"]

TELL_AFTER = (1.0, 10.0, 60.0)
"""Seconds after the first time when it is told how often it came; then whenever the last of them have passed."""

FORGET = 60.0
"""Seconds without it after which it is new again."""

MAX_KNOWN = 100
"""Errors that are known at a time; of more, those that were the first to come are forgotten."""

_TRACEBACK = "\nTraceback (most recent call last):\n"


@dataclass(slots=True)
class Told:
    """What is to be written of an error that came.

    Attributes:
        text: all of it, or a line; '' for nothing: it is counted.
        aloud: people at the terminal see it too.
    """

    text: str
    aloud: bool = True


@dataclass(slots=True)
class _Known:
    """An error that has come.

    Attributes:
        what: happened: the first line of its text.
        error: the last line, what it says.
        since: when it came first.
        seen: when it came last.
        count: how often it came.
        told: of these, how many have been told of.
        step: how often it was told that it came again.
    """

    what: str
    error: str
    since: float
    seen: float
    count: int = 1
    told: int = 1
    step: int = 0


class Repeats:
    """Knows which errors came of late.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[str, int], _Known] = {}

    def take(self, source: str, text: str) -> Told:
        """Take an error that came; it is the same as another where source and traceback are.

        Args:
            source: whose it is.
            text: what happened, with what only this one has, such as a message or a log id; in further lines the
                traceback. Its last line, what the error says, may differ from time to time.
        """
        if _TRACEBACK not in text:
            return Told(text)
        what, _, traceback = text.partition("\n")
        same, _, error = traceback.rpartition("\n")
        key, now = (source, hash(same)), self._clock()
        known = self._known.get(key)
        if known is None or now - known.seen > FORGET:
            self._known.pop(key, None)  # it is the newest now
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
        """Return source and line of what has come again and is to be told; to be called now and then."""
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
        often = f"again: {known.count} times in {age:.0f} s; its traceback is in co2.log"
        return f"{known.what} - {known.error} ({often})"


def _due(known: _Known) -> float:
    """Return the age, in seconds, at which it is told of next."""
    more = known.step - len(TELL_AFTER) + 1
    return TELL_AFTER[known.step] if more <= 0 else TELL_AFTER[-1] * (more + 1)
