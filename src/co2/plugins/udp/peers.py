"""The subscriptions, with the time when each ends, and a limit for answers with errors."""

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
"""An address for ``socket.sendto``: (ip, port), and two more numbers with IPv6."""

MAX_PEERS = 64
"""Addresses that may have a subscription at the same time."""

LEASE = 60.0
"""Seconds without a datagram after which a subscription ends."""

ERRORS_TO_ONE = 1.0
"""Seconds between two answers with errors to one address."""

ERRORS_TO_ALL = 10
"""Answers with errors in a second, to all addresses together."""

MAX_REMEMBERED = 256
"""Addresses for which the time of the last answer with an error is remembered."""


@dataclass(slots=True, eq=False)
class UdpPeer:
    """An address that has subscribed.

    Attributes:
        address: of the program.
        patterns: of the channels, as it has sent them.
        channels: the channels that these patterns select.
        until: when its lease ends, in seconds of the monotonic clock.
    """

    address: Address
    patterns: tuple[str, ...]
    channels: plugin.Channels
    until: float

    def row(self, now: float) -> dict[str, Any]:
        """Return its address, its patterns and the seconds until its lease ends, for a status.

        Args:
            now: the time, in seconds of the monotonic clock.
        """
        seconds = round(self.until - now)
        return {"address": name_of(self.address), "patterns": [*self.patterns], "seconds": seconds}


class Peers:
    """All subscriptions. Its methods may be called from any thread.

    Attributes:
        subscribed: the subscriptions; the tuple is replaced as a whole, so that a reader needs no lock.
    """

    def __init__(self) -> None:
        self.subscribed: tuple[UdpPeer, ...] = ()
        self._by_address: dict[Address, UdpPeer] = {}
        self._lock = threading.Lock()

    def subscribe(self, address: Address, wanted: Subscribe, until: float) -> bool:
        """Replace the subscription of an address; return whether there was room.

        Args:
            address: of the program.
            wanted: the new subscription; one without patterns ends the old one.
            until: when its lease ends, in seconds of the monotonic clock.
        """
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
        """Extend the lease of an address, because a datagram has come from it.

        Args:
            address: of the program; one without a subscription is ignored.
            until: when its lease ends, in seconds of the monotonic clock.
        """
        peer = self._by_address.get(address)
        if peer is not None:
            peer.until = until

    def expire(self, now: float) -> list[UdpPeer]:
        """Remove the subscriptions whose lease has ended, and return them.

        Args:
            now: the time, in seconds of the monotonic clock.
        """
        with self._lock:
            over = [peer for peer in self.subscribed if peer.until <= now]
            for peer in over:
                del self._by_address[peer.address]
            if over:
                self.subscribed = tuple(self._by_address.values())
            return over


class ErrorLimit:
    """The limit for answers with errors, per address and for all together."""

    def __init__(self) -> None:
        self._told: dict[Address, float] = {}
        self._second = 0.0
        self._in_second = 0

    def allows(self, address: Address, now: float) -> bool:
        """Return whether an address may get an answer with an error now, and count that answer.

        Args:
            address: of the program.
            now: the time, in seconds of the monotonic clock.
        """
        if now - self._second >= 1.0:
            self._second, self._in_second = now, 0
        if self._in_second >= ERRORS_TO_ALL or now - self._told.get(address, -ERRORS_TO_ONE) < ERRORS_TO_ONE:
            return False
        self._told.pop(address, None)  # so that it moves to the end, and the oldest is the first
        if len(self._told) >= MAX_REMEMBERED:
            del self._told[next(iter(self._told))]
        self._told[address] = now
        self._in_second += 1
        return True
