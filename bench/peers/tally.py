"""What a receiver does with a message: count it, or write down how long it took. The same code for every peer.

Messages are ``{"data": [number, "shrubbery", 0.815]}``. A number below zero marks a message of the bench's own:
the probes that tell that a way is open, and the last message of a sender.
"""

import time
from typing import Any

__all__ = ["LAST", "PROBE", "Tally"]

LAST = -1
PROBE = -2


class Tally:
    """Counts messages.

    Attributes:
        count: messages since the last reset, without marked ones.
        latencies: nanoseconds from ``send`` to here, of stamped messages.
        met: senders of which a probe has come; kept over a reset.
        ended: how many last messages have come, one per sender and run; kept over a reset.
        last: when the latest of them came, by the monotonic clock.
    """

    def __init__(self) -> None:
        self.met: set[int] = set()
        self.ended = 0
        self.last = 0
        self.reset()

    def reset(self) -> None:
        self.count = 0
        self.latencies: list[int] = []

    def take(self, message: dict[str, Any]) -> None:
        """Count a message."""
        if message["data"][0] < 0:
            self._marked(message["data"])
        else:
            self.count += 1

    def take_stamped(self, message: dict[str, Any]) -> None:
        """Write down how long a message took; its number is the sender's monotonic clock."""
        stamp = message["data"][0]
        if stamp < 0:
            self._marked(message["data"])
        else:
            self.latencies.append(time.monotonic_ns() - stamp)
            self.count += 1

    def state(self) -> dict[str, Any]:
        """Return what has come, small enough to be asked for often."""
        return {"count": self.count, "ended": self.ended, "met": len(self.met), "last": str(self.last)}

    def microseconds(self) -> list[float]:
        return [latency / 1e3 for latency in self.latencies]

    def _marked(self, data: list[Any]) -> None:
        kind, sender = data[0], data[1]
        if kind == PROBE:
            self.met.add(sender)
        else:
            self.last = time.monotonic_ns()
            self.ended += 1
