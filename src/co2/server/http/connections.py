"""All connections of a server: how many there may be, how much they may hold, and who has run out of time."""

import asyncio
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Protocol

from co2.server.http.limits import Limits
from co2.sources import LOOPBACK, BySource, source_of
from co2.xmlrpc.registry import Caller

__all__ = ["LOOK_AGAIN", "LOOK_AT", "Budget", "Connections", "CountedConnection", "most_connections"]

LOOK_AT = 8
"""Sources, those with most connections, among which room is made."""

LOOK_AGAIN = 0.05
"""Seconds after which a source's connections are looked at again for idle ones."""


class CountedConnection(Protocol):
    """What the table needs to know of a connection."""

    caller: Caller
    deadline: float

    @property
    def idle_since(self) -> float | None:
        """When it became idle; None while it is at work."""

    def check(self, now: float) -> None:
        """Act on a deadline or a rate that is not kept."""

    def drop(self, reason: str, text: str) -> None:
        """End it at once, without an answer."""

    def end_after_answer(self) -> None:
        """Serve nothing more: close now or, where an answer is under way, after it."""


class Budget:
    """Bytes that connections hold together; over the limit the one that holds for longest is dropped.

    Args:
        limit: in bytes.
        reason: one word, for the counter.
        text: for the log.
    """

    def __init__(self, limit: int, reason: str, text: str) -> None:
        self.total = 0
        self._limit = limit
        self._reason = reason
        self._text = text
        self._held: dict[CountedConnection, int] = {}

    def hold(self, member: CountedConnection, size: int) -> None:
        """Note that a connection holds this many bytes now."""
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
    """Give how many connections there may be: half of the files that this process may open, at most ``limit``."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return limit
    return max(1, min(limit, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))


class Connections:
    """The table.

    Args:
        limits: the server's.
        loop: that the server runs in.
        each_sweep: called along with the look at all deadlines, at least twice a second.
        gives_way: has the call of a source that waits for longest answered with what there is, and gives (IP,
            port) of its connection, which then ends; None for none.
    """

    def __init__(
        self,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        each_sweep: Callable[[], None],
        gives_way: Callable[[str], tuple[str, int] | None] = lambda _source: None,
    ) -> None:
        self.unread = Budget(limits.max_unread, "unread", "incomplete requests take too much memory")
        self.unsent = Budget(limits.max_unsent, "unsent", "answers that nobody reads take too much memory")
        self._limits = limits
        self._loop = loop
        self._each_sweep = each_sweep
        self._most = most_connections(limits.max_connections)
        self._kept = min(limits.kept_for_loopback, self._most // 8)
        self._gives_way = gives_way
        self._ends: dict[tuple[str, int], CountedConnection] = {}
        self._all: BySource[CountedConnection] = BySource()
        # A connection leaves them with its first complete request.
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
        """Begin to watch deadlines."""
        limits = self._limits
        shortest = min(limits.head_timeout, limits.body_timeout, limits.write_timeout, limits.linger_timeout,
                       limits.body_grace, limits.idle_timeout)  # fmt: skip
        self._sweep(min(0.5, shortest / 4))

    def stop(self) -> None:
        """Watch no longer."""
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def end(self, timeout: float) -> None:
        """End all connections, also those that are still to come; return when there is none any more, at most
        ``timeout`` seconds later."""
        self._ending = True
        for member in self._all:
            member.end_after_answer()
        if self._all:
            self._emptied = self._loop.create_future()
            await asyncio.wait((self._emptied,), timeout=timeout)

    def add(self, member: CountedConnection) -> None:
        """Take in a connection; where that is one too many, another of its kind goes."""
        source = source_of(member.caller.address)
        limits = self._limits
        share = max(1, int(self._most * (limits.loopback_share if source == LOOPBACK else limits.address_share)))
        room = self._most if source == LOOPBACK else self._most - self._kept
        if self._all.count(source) >= share and not self._make_room(source, share - self._all.count(source)):
            member.drop("share", f"there are {share} connections of this address, all of them at work")
            return
        if len(self._all) >= room and not self._make_room("", room - len(self._all)):
            member.drop("full", f"there are {room} connections, all of them at work")
            return
        self._all.add(source, member)
        self._ends[member.caller.address, member.caller.port] = member
        self._newcomers[member] = monotonic()
        self._newcomers_of.add(source, member)
        self._drop_newcomers(source, at_most=2)
        if self._ending:  # it was accepted while the server began to stop
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
        """Drop the oldest that have said nothing, as many as are too many; none that has only just come."""
        limits = self._limits
        before = monotonic() - limits.newcomer_grace
        for _ in range(at_most):
            if self._newcomers_of.count(source) > limits.max_newcomers_per_address:
                oldest = next(self._newcomers_of.of(source))
                why = "too many connections of this address without a request"
            elif len(self._newcomers) > limits.max_newcomers:
                oldest = next(iter(self._newcomers))
                why = "too many connections without a request"
            else:
                return
            if self._newcomers[oldest] > before:
                return
            oldest.drop("newcomers", why)

    def _make_room(self, source: str, left: int) -> bool:
        """End a connection of a source, or one of those that have most: an idle one, else one whose call waits."""
        sources = [source] if source else self._all.largest_ones(LOOK_AT)
        for one in sources:
            if self._drop_idle(one):
                return True
        # It is answered in the loop's next turns; until then there is one connection more.
        if -left < self._limits.max_over:
            for one in sources:
                if (end := self._gives_way(one)) is not None:
                    if (waiting := self._ends.get(end)) is not None:
                        waiting.end_after_answer()
                    return True
        return False

    def _drop_idle(self, source: str) -> bool:
        """Drop the connection of a source that is idle for longest, if there is one."""
        looked, found = self._idle.pop(source, (0.0, []))
        for _ in range(2):
            while found:
                since, _, member = found.pop()
                if member in self._all and member.idle_since == since:
                    self._idle[source] = looked, found
                    member.drop("full", "there are too many connections, and this one is idle for longest")
                    return True
            now = monotonic()
            if now - looked < LOOK_AGAIN:  # whoever opens thousands has not all of them looked at each time
                break
            looked = now
            before = now - self._limits.newcomer_grace
            idle = ((one.idle_since, id(one), one) for one in self._all.of(source))
            found = [
                (since, number, one)
                for since, number, one in idle
                if since is not None
                and self._newcomers.get(one, 0.0) <= before  # what has only just come may speak
            ]
            found.sort(reverse=True)
        if len(self._idle) < LOOK_AT:
            self._idle[source] = looked, found
        return False

    def _sweep(self, interval: float) -> None:
        now = monotonic()
        for member in self._all:
            member.check(now)
        for source in self._newcomers_of.largest_ones(LOOK_AT):
            self._drop_newcomers(source, at_most=len(self._newcomers))
        self._each_sweep()
        self._sweeping = self._loop.call_later(interval, self._sweep, interval)
