"""Who has subscribed to what, and until when; and how often somebody is told that what came was wrong."""

import threading
from dataclasses import dataclass
from typing import Any

from co2 import plugin

from .lines import Subscribe
from .settings import name_of

__all__ = [
    "ERRORS_TO_ALL",
    "ERRORS_TO_ONE",
    "LEASE",
    "MAX_PEERS",
    "MAX_REMEMBERED",
    "Address",
    "ErrorLimit",
    "Peers",
    "UdpPeer",
]

Address = tuple[Any, ...]
"""What ``socket.sendto`` takes: (ip, port), and two numbers more with IPv6."""

MAX_PEERS = 64
"""Addresses that may have subscribed at a time."""

LEASE = 60.0
"""Seconds without a datagram after which a subscription ends."""

ERRORS_TO_ONE = 1.0
"""Seconds between two error answers to one address."""

ERRORS_TO_ALL = 10
"""Error answers in a second, to whomever."""

MAX_REMEMBERED = 256
"""Addresses of which it is remembered when they were told of an error."""


@dataclass(slots=True, eq=False)
class UdpPeer:
    """An address that has subscribed.

    Attributes:
        address: where its messages go.
        patterns: that it has given.
        channels: that these select.
        until: monotonic seconds at which its lease ends.
    """

    address: Address
    patterns: tuple[str, ...]
    channels: plugin.Channels
    until: float

    def row(self, now: float) -> dict[str, Any]:
        """Tell who it is, what it wants, and for how many seconds more."""
        seconds = round(self.until - now)
        return {"address": name_of(self.address), "patterns": [*self.patterns], "seconds": seconds}


class Peers:
    """All who have subscribed; from any thread.

    Attributes:
        subscribed: they; replaced as a whole, never changed.
    """

    def __init__(self) -> None:
        self.subscribed: tuple[UdpPeer, ...] = ()
        self._by_address: dict[Address, UdpPeer] = {}
        self._lock = threading.Lock()

    def subscribe(self, address: Address, wanted: Subscribe, until: float) -> bool:
        """Take a subscription, in place of the one before; tell whether there is room."""
        with self._lock:
            if not wanted.patterns:
                self._by_address.pop(address, None)
            elif address not in self._by_address and len(self._by_address) >= MAX_PEERS:
                return False
            else:
                self._by_address[address] = UdpPeer(address, wanted.patterns, wanted.channels, until)
            self.subscribed = tuple(self._by_address.values())
            return True

    def renew(self, address: Address, until: float) -> None:
        """A datagram has come from there."""
        peer = self._by_address.get(address)
        if peer is not None:
            peer.until = until

    def expire(self, now: float) -> list[UdpPeer]:
        """Forget whose lease has ended, and give them."""
        with self._lock:
            over = [peer for peer in self.subscribed if peer.until <= now]
            for peer in over:
                del self._by_address[peer.address]
            if over:
                self.subscribed = tuple(self._by_address.values())
            return over


class ErrorLimit:
    """Says whether somebody may be told of an error now."""

    def __init__(self) -> None:
        self._told: dict[Address, float] = {}
        self._second = 0.0
        self._in_second = 0

    def allows(self, address: Address, now: float) -> bool:
        """Tell whether this address may be told, and count that it is."""
        if now - self._second >= 1.0:
            self._second, self._in_second = now, 0
        if self._in_second >= ERRORS_TO_ALL or now - self._told.get(address, -ERRORS_TO_ONE) < ERRORS_TO_ONE:
            return False
        self._told.pop(address, None)  # so that the oldest stays in front
        if len(self._told) >= MAX_REMEMBERED:
            del self._told[next(iter(self._told))]
        self._told[address] = now
        self._in_second += 1
        return True
