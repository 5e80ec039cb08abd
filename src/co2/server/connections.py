"""All connections of a server: how many there may be, how much they may hold, and who has run out of time."""

import asyncio
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Protocol

from co2.server.limits import Limits
from co2.xmlrpc.registry import Caller

__all__ = ["Budget", "Connections", "Member", "most_connections"]


class Member(Protocol):
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
        self._held: dict[Member, int] = {}

    def hold(self, member: Member, size: int) -> None:
        """Note that a connection holds this many bytes now."""
        self.total += size - self._held.get(member, 0)
        self._held[member] = size
        while self.total > self._limit and self._held:
            oldest = next(iter(self._held))
            self.release(oldest)
            oldest.drop(self._reason, self._text)

    def release(self, member: Member) -> None:
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
    """

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop, each_sweep: Callable[[], None]) -> None:
        self.unread = Budget(limits.max_unread, "unread", "incomplete requests take too much memory")
        self.unsent = Budget(limits.max_unsent, "unsent", "answers that nobody reads take too much memory")
        self._limits = limits
        self._loop = loop
        self._each_sweep = each_sweep
        self._most = most_connections(limits.max_connections)
        self._all: dict[Member, None] = {}
        # Both in the order of their arrival. A connection leaves them with its first complete request.
        self._newcomers: dict[Member, None] = {}
        self._by_address: dict[str, dict[Member, None]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._ending = False
        self._emptied: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._all))

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
        for member in list(self._all):
            member.end_after_answer()
        if self._all:
            self._emptied = self._loop.create_future()
            await asyncio.wait((self._emptied,), timeout=timeout)

    def add(self, member: Member) -> None:
        """Take in a connection; where that is one too many, the oldest of its kind goes."""
        limits = self._limits
        if len(self._all) >= self._most and not self._make_room():
            member.drop("full", f"there are {self._most} connections, all of them at work")
            return
        same = self._by_address.setdefault(member.caller.address, {})
        if len(same) >= limits.max_newcomers_per_address:
            next(iter(same)).drop("newcomers", "too many connections of this address without a request")
        elif len(self._newcomers) >= limits.max_newcomers:
            next(iter(self._newcomers)).drop("newcomers", "too many connections without a request")
        self._all[member] = None
        self._newcomers[member] = None
        self._by_address.setdefault(member.caller.address, {})[member] = None
        if self._ending:  # it was accepted while the server began to stop
            member.end_after_answer()

    def proven(self, member: Member) -> None:
        """Note that a connection has sent a complete request."""
        if member in self._newcomers:
            del self._newcomers[member]
            same = self._by_address[member.caller.address]
            del same[member]
            if not same:
                del self._by_address[member.caller.address]

    def remove(self, member: Member) -> None:
        """Forget a connection that has ended."""
        self.proven(member)
        self._all.pop(member, None)
        if not self._all and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
        self.unread.release(member)
        self.unsent.release(member)

    def _make_room(self) -> bool:
        idle = [(since, id(member), member) for member in self._all if (since := member.idle_since) is not None]
        if not idle:
            return False
        min(idle)[2].drop("full", f"there are {self._most} connections, and this one is idle for longest")
        return True

    def _sweep(self, interval: float) -> None:
        now = monotonic()
        for member in list(self._all):
            member.check(now)
        self._each_sweep()
        self._sweeping = self._loop.call_later(interval, self._sweep, interval)
