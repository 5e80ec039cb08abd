"""The table of all connections of a server: it limits their number, their memory and their time."""

import asyncio
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Protocol

from co2.server.http.limits import Limits
from co2.sources import LOOPBACK, BySource, source_of
from co2.xmlrpc.registry import Caller

__all__ = ["LOOK_AGAIN", "LOOK_AT", "Budget", "Connections", "CountedConnection", "most_connections"]

LOOK_AT = 8
"""Sources that are searched for a connection to close, those with the most connections first. Of as many the last
search is remembered."""

LOOK_AGAIN = 0.05
"""Seconds between two searches for idle connections of one source."""


class CountedConnection(Protocol):
    """A connection, as the table needs it.

    Attributes:
        caller: the other end.
        deadline: when :meth:`check` has something to do, in seconds of the monotonic clock.
    """

    caller: Caller
    deadline: float

    @property
    def idle_since(self) -> float | None:
        """When it became idle, in seconds of the monotonic clock; None while it is not idle."""

    def check(self, now: float) -> None:
        """Refuse, close or drop the connection if its deadline is over or its body comes too slowly.

        Args:
            now: the time, in seconds of the monotonic clock.
        """

    def drop(self, reason: str, text: str) -> None:
        """Close the connection at once, without an answer.

        Args:
            reason: one word, for the counter.
            text: the reason for the log.
        """

    def end_after_answer(self) -> None:
        """Serve no more requests: close now, or after the answer that is under way."""


class Budget:
    """A limit for the bytes that all connections hold together.

    Over the limit, the connection that has held bytes for longest is dropped.

    Args:
        limit: bytes.
        reason: why a connection is dropped, in one word, for the counter.
        text: the same for the log.
    """

    def __init__(self, limit: int, reason: str, text: str) -> None:
        self.total = 0
        self._limit = limit
        self._reason = reason
        self._text = text
        self._held: dict[CountedConnection, int] = {}

    def hold(self, member: CountedConnection, size: int) -> None:
        """Note that a connection holds ``size`` bytes now; drop connections if all together hold too much."""
        self.total += size - self._held.get(member, 0)
        self._held[member] = size
        while self.total > self._limit and self._held:
            oldest = next(iter(self._held))
            self.release(oldest)
            oldest.drop(self._reason, self._text)

    def release(self, member: CountedConnection) -> None:
        """Note that a connection holds nothing any more."""
        self.total -= self._held.pop(member, 0)


def most_connections(limit: int) -> int:
    """Return how many connections are allowed: half of the files that this process may open, at most ``limit``."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return limit
    return max(1, min(limit, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))


class Connections:
    """The table of all connections.

    Args:
        limits: the server's.
        loop: the event loop of the server.
        each_sweep: called after each check of all deadlines, at least twice a second.
        gives_way: ends the longest waiting call of a source, so that it is answered with what there is, and
            returns the (IP, port) of its connection, which is closed afterwards; returns None if no call waits.
    """

    def __init__(
        self,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        each_sweep: Callable[[], None],
        gives_way: Callable[[str], tuple[str, int] | None] = lambda _source: None,
    ) -> None:
        self.unread = Budget(limits.max_unread, "unread", "incomplete requests take too much memory")
        self.unsent = Budget(limits.max_unsent, "unsent", "unread responses take too much memory")
        self._limits = limits
        self._loop = loop
        self._each_sweep = each_sweep
        self._most = most_connections(limits.max_connections)
        self._kept = min(limits.kept_for_loopback, self._most // 8)
        self._gives_way = gives_way
        self._ends: dict[tuple[str, int], CountedConnection] = {}
        self._all: BySource[CountedConnection] = BySource()
        # A connection is a newcomer until its first complete request.
        self._newcomers: dict[CountedConnection, float] = {}
        self._newcomers_of: BySource[CountedConnection] = BySource()
        self._idle: dict[str, tuple[float, list[tuple[float, int, CountedConnection]]]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._ending = False
        self._emptied: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[CountedConnection]:
        return iter(self._all)

    def start(self) -> None:
        """Start checking deadlines."""
        limits = self._limits
        shortest = min(limits.head_timeout, limits.body_timeout, limits.write_timeout, limits.linger_timeout,
                       limits.body_grace, limits.idle_timeout)  # fmt: skip
        self._sweep(min(0.5, shortest / 4))

    def stop(self) -> None:
        """Stop checking deadlines."""
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def end(self, timeout: float) -> None:
        """Close all connections after their current answers, also those that are accepted later; wait for that.

        Args:
            timeout: seconds to wait at most.
        """
        self._ending = True
        for member in self._all:
            member.end_after_answer()
        if self._all:
            self._emptied = self._loop.create_future()
            await asyncio.wait((self._emptied,), timeout=timeout)

    def add(self, member: CountedConnection) -> None:
        """Add a connection. If there are too many, close another one or, if all are busy, drop the new one."""
        source = source_of(member.caller.address)
        limits = self._limits
        share = max(1, int(self._most * (limits.loopback_share if source == LOOPBACK else limits.address_share)))
        room = self._most if source == LOOPBACK else self._most - self._kept
        if self._all.count(source) >= share and not self._make_room(source, share - self._all.count(source)):
            member.drop("share", f"there are {share} connections from this address, all of them busy")
            return
        if len(self._all) >= room and not self._make_room("", room - len(self._all)):
            member.drop("full", f"there are {room} connections, all of them busy")
            return
        self._all.add(source, member)
        self._ends[member.caller.address, member.caller.port] = member
        self._newcomers[member] = monotonic()
        self._newcomers_of.add(source, member)
        self._drop_newcomers(source, at_most=2)
        if self._ending:  # it was accepted just before the server stopped listening
            member.end_after_answer()

    def proven(self, member: CountedConnection) -> None:
        """Note that a connection has sent a complete request."""
        if member in self._newcomers:
            del self._newcomers[member]
            self._newcomers_of.discard(member)

    def remove(self, member: CountedConnection) -> None:
        """Forget a connection that has ended."""
        self.proven(member)
        self._all.discard(member)
        end = member.caller.address, member.caller.port
        if self._ends.get(end) is member:
            del self._ends[end]
        if not self._all and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
        self.unread.release(member)
        self.unsent.release(member)

    def _drop_newcomers(self, source: str, at_most: int) -> None:
        """Drop the oldest newcomers if there are too many; not those within ``newcomer_grace``.

        Args:
            source: whose newcomers are counted, besides the newcomers of all sources.
            at_most: connections to drop.
        """
        limits = self._limits
        before = monotonic() - limits.newcomer_grace
        for _ in range(at_most):
            if self._newcomers_of.count(source) > limits.max_newcomers_per_address:
                oldest = next(self._newcomers_of.of(source))
                why = "too many connections from this address without a request"
            elif len(self._newcomers) > limits.max_newcomers:
                oldest = next(iter(self._newcomers))
                why = "too many connections without a request"
            else:
                return
            if self._newcomers[oldest] > before:
                return
            oldest.drop("newcomers", why)

    def _make_room(self, source: str, left: int) -> bool:
        """Close a connection: an idle one or, if there is none, one whose call waits.

        Args:
            source: whose connection is closed; '' for the sources with the most connections.
            left: free places; negative while there are connections over the limit.

        Returns:
            Whether one was closed, or will be after its answer.
        """
        sources = [source] if source else self._all.largest_ones(LOOK_AT)
        for one in sources:
            if self._drop_idle(one):
                return True
        # A call that gives way is answered in a later turn of the loop; until then one connection is too many.
        if -left < self._limits.max_over:
            for one in sources:
                if (end := self._gives_way(one)) is not None:
                    if (waiting := self._ends.get(end)) is not None:
                        waiting.end_after_answer()
                    return True
        return False

    def _drop_idle(self, source: str) -> bool:
        """Drop the connection of a source that is idle for longest; return whether there was one."""
        looked, found = self._idle.pop(source, (0.0, []))
        for _ in range(2):
            while found:
                since, _, member = found.pop()
                if member in self._all and member.idle_since == since:
                    self._remember_idle(source, looked, found)
                    member.drop("full", "too many connections, and this one has been idle longest")
                    return True
            now = monotonic()
            if now - looked < LOOK_AGAIN:  # a search among thousands of connections for each new one costs much
                break
            looked = now
            before = now - self._limits.newcomer_grace
            idle = ((one.idle_since, id(one), one) for one in self._all.of(source))
            found = [
                (since, number, one)
                for since, number, one in idle
                if since is not None
                and self._newcomers.get(one, 0.0) <= before  # a newcomer has some time to send a request
            ]
            found.sort(reverse=True)
        self._remember_idle(source, looked, found)
        return False

    def _remember_idle(
        self, source: str, looked: float, found: list[tuple[float, int, CountedConnection]]
    ) -> None:
        """Remember the last search of a source; it is the newest entry."""
        self._idle[source] = looked, found
        if len(self._idle) > LOOK_AT:
            del self._idle[next(iter(self._idle))]

    def _sweep(self, interval: float) -> None:
        # First: after an error below, deadlines must still be checked.
        self._sweeping = self._loop.call_later(interval, self._sweep, interval)
        now = monotonic()
        for member in self._all:
            member.check(now)
        for source in self._newcomers_of.largest_ones(LOOK_AT):
            self._drop_newcomers(source, at_most=len(self._newcomers))
        self._each_sweep()
