"""The two ends of a round trip: who asks, and who answers. The same code for every peer, and for the bare chain.

Messages are those of the tally. Whoever asks puts the time into the message and gets it back, so that the clock
runs in one process only: from before the message is encoded until its answer is decoded.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from bench.peers.tally import PROBE

__all__ = ["BACK", "THERE", "Pinger", "answer"]

THERE, BACK = "there", "back"
"""Topics: of who asks, and of who answers."""

PATIENCE = 10.0
"""Seconds after which an answer is lost."""

AGAIN = 0.05
"""Seconds after which a probe is sent once more."""

Message = dict[str, Any]


def answer(message: Message) -> Message:
    """Return what goes back."""
    return {"data": message["data"]}


class Pinger:
    """Makes round trips, one after the other.

    Args:
        send: encodes a message and sends it; called in the thread that calls :meth:`meet` or :meth:`run`.
    """

    def __init__(self, send: Callable[[Message], object]) -> None:
        self._send = send
        self._came = threading.Event()
        self._took: list[int] = []
        self._left = 0
        self._at_once = False
        self._stamp = 0

    def take(self, message: Message) -> Message | None:
        """Take an answer, in whatever thread it comes; return what is to be sent at once, if anything."""
        now, stamp = time.monotonic_ns(), message["data"][0]
        if stamp != self._stamp:
            return None  # of a probe that was sent twice
        self._took.append(now - stamp)
        self._left -= 1
        if self._left and self._at_once:
            return self._next()
        self._came.set()
        return None

    def meet(self, patience: float = PATIENCE) -> None:
        """Ask until somebody answers."""
        deadline = time.monotonic() + patience
        self._begin(1, at_once=False)
        self._stamp = PROBE
        while not self._came.wait(AGAIN):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {patience:g} s")
            self._send({"data": [PROBE, "shrubbery", 0.815]})

    def run(self, count: int, pause: float) -> list[float]:
        """Make so many round trips.

        Args:
            count: how many.
            pause: seconds between an answer and the next question; with 0 it is sent where the answer is taken.

        Returns:
            Microseconds that each took.

        Raises:
            TimeoutError: an answer did not come.
        """
        self._begin(count, at_once=not pause)
        if pause:
            for _ in range(count):
                time.sleep(pause)
                self._came.clear()
                self._send(self._next())
                self._wait(PATIENCE)
        else:
            self._send(self._next())
            self._wait(PATIENCE + count * 0.1)
        return [nanoseconds / 1e3 for nanoseconds in self._took]

    def _begin(self, count: int, at_once: bool) -> None:
        self._took, self._left, self._at_once = [], count, at_once
        self._came.clear()

    def _next(self) -> Message:
        self._stamp = time.monotonic_ns()
        return {"data": [self._stamp, "shrubbery", 0.815]}

    def _wait(self, patience: float) -> None:
        if not self._came.wait(patience):
            raise TimeoutError(f"an answer did not come within {patience:g} s")
