"""A selector with two ranks: all ready descriptors of the first are served, of the second as time allows.

A loop works on everything that is ready before it looks again. So a peer that keeps it busy from many connections
makes each turn long, and all others wait. Here such connections are in the second rank: in each turn all others
are served, and as many of these as fit into :data:`TURN` seconds, one after the other. While a host has time to
spare, all are served at once and the ranks make no difference.
"""

import asyncio
import contextlib
import select
import selectors
import sys
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

__all__ = [
    "AT_FIRST",
    "LATE",
    "MAX_AT_ONCE",
    "TURN",
    "WINDOW",
    "FairSelector",
    "is_late",
    "put_behind",
    "put_first",
]

TURN = 0.003
"""Seconds that a turn of the loop should take at most: if it takes longer, fewer of the second rank are served."""

LATE = 0.8
"""Share of its time at work above which a loop has more to do than time for it."""

WINDOW = 0.5
"""Seconds over which that share is measured."""

MAX_AT_ONCE = 1024
"""Descriptors of the second rank that are served in one turn at most."""

AT_FIRST = 16
"""The same, before the time that they take is known."""

_TO_POLL = {
    selectors.EVENT_READ: 1,
    selectors.EVENT_WRITE: 4,
    selectors.EVENT_READ | selectors.EVENT_WRITE: 5,
}
"""Events as ``epoll`` has them: EPOLLIN is 1, EPOLLOUT 4."""


class FairSelector(selectors.DefaultSelector):
    """A selector with two ranks: all are in the first until :meth:`put_behind`. Only Linux has the second.

    Attributes:
        load: share of its time that the loop was at work in the last window.
        firsts: number of events of the first rank in the last result; those of the second are behind them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.load = 0.0
        self.firsts = 0
        self._worked = 0.0
        self._since = monotonic()
        self._behind: set[int] = set()
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._at_once = AT_FIRST
        self._is_more = False
        self._began = 0.0
        self._second: Any = None
        if sys.platform == "linux":
            self._second = select.epoll()
            super().register(self._second.fileno(), selectors.EVENT_READ, self)

    def put_behind(self, descriptor: int) -> None:
        """Move a descriptor, registered or not, to the second rank, until :meth:`put_first`."""
        if descriptor in self._behind or self._second is None:
            return
        key = super().get_map().get(descriptor)
        if key is not None:
            super().unregister(descriptor)
        self._behind.add(descriptor)
        if key is not None:
            self.register(key.fileobj, key.events, key.data)

    def put_first(self, descriptor: int) -> None:
        """Move a descriptor to the first rank; to be called before it is closed."""
        if descriptor not in self._behind:
            return
        key = self._keys.get(descriptor)
        if key is not None:
            self.unregister(descriptor)
        self._behind.discard(descriptor)
        if key is not None:
            super().register(key.fileobj, key.events, key.data)

    # ---- a selector's own --------------------------------------------------------------------------------

    def register(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> selectors.SelectorKey:
        """See :meth:`selectors.BaseSelector.register`."""
        descriptor = _descriptor(fileobj)
        if descriptor not in self._behind:
            return super().register(fileobj, events, data)
        if descriptor in self._keys:
            raise KeyError(f"{fileobj!r} is already registered")
        self._second.register(descriptor, _TO_POLL[events])
        key = self._keys[descriptor] = selectors.SelectorKey(fileobj, descriptor, events, data)
        return key

    def modify(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> selectors.SelectorKey:
        """See :meth:`selectors.BaseSelector.modify`."""
        descriptor = _descriptor(fileobj)
        key = self._keys.get(descriptor)
        if key is None:
            return super().modify(fileobj, events, data)
        if key.events != events:
            self._second.modify(descriptor, _TO_POLL[events])
        key = self._keys[descriptor] = key._replace(events=events, data=data)
        return key

    def unregister(self, fileobj: "FileDescriptorLike") -> selectors.SelectorKey:
        """See :meth:`selectors.BaseSelector.unregister`."""
        key = self._keys.pop(_descriptor(fileobj), None)
        if key is None:
            return super().unregister(fileobj)
        with contextlib.suppress(OSError):  # closed already, as selectors' own ignores too
            self._second.unregister(key.fd)
        return key

    def get_map(self) -> Mapping["FileDescriptorLike", selectors.SelectorKey]:
        """See :meth:`selectors.BaseSelector.get_map`."""
        return _Map(super().get_map(), self._keys)

    def get_key(self, fileobj: "FileDescriptorLike") -> selectors.SelectorKey:
        """See :meth:`selectors.BaseSelector.get_key`."""
        return self._keys.get(_descriptor(fileobj)) or super().get_map()[fileobj]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep until something is ready; return all of the first rank, and behind it some of the second."""
        self.end_turn()
        events = super().select(timeout)
        is_more = self._remove_own(events)
        self.firsts = len(events)
        if is_more:
            events += self._of_the_second()
        self.begin_turn()
        return events

    def select_first(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready of the first rank, in the middle of a turn."""
        events = super().select(0)
        self._remove_own(events)
        return events

    def _remove_own(self, events: list[tuple[selectors.SelectorKey, int]]) -> bool:
        """Remove the event that stands for the second rank; return whether there was one."""
        for at, (key, _) in enumerate(events):
            if key.data is self:
                del events[at]
                return True
        return False

    def close(self) -> None:
        """See :meth:`selectors.BaseSelector.close`."""
        if self._second is not None:
            self._second.close()
        super().close()

    def begin_turn(self) -> None:
        """Note the beginning of the work: called after each sleep."""
        self._began = monotonic()

    def end_turn(self) -> None:
        """Measure the turn that ends and adapt the size of the next: called before each sleep."""
        if not self._began:
            return
        now = monotonic()
        took, self._began = now - self._began, 0.0
        self._worked += took
        if now - self._since >= WINDOW:
            self.load = self._worked / (now - self._since)
            self._worked, self._since = 0.0, now
        if took > TURN:
            self._at_once = max(1, self._at_once // 2)
        elif took < TURN / 2 and self._is_more and self._at_once < MAX_AT_ONCE:
            self._at_once += 1 + self._at_once // 4
        self._is_more = False

    def _of_the_second(self) -> list[tuple[selectors.SelectorKey, int]]:
        # If more is ready than asked for, the system returns next what it has not returned last time
        # (epoll_wait(2)).
        found = []
        ready = self._second.poll(0, self._at_once)
        self._is_more = len(ready) == self._at_once
        for descriptor, mask in ready:
            if (key := self._keys.get(descriptor)) is None:
                continue
            events = (selectors.EVENT_WRITE if mask & ~1 else 0) | (selectors.EVENT_READ if mask & ~4 else 0)
            if events & key.events:
                found.append((key, events & key.events))
        return found


class _Map(Mapping["FileDescriptorLike", selectors.SelectorKey]):
    """The map of both ranks."""

    def __init__(
        self,
        first: Mapping["FileDescriptorLike", selectors.SelectorKey],
        second: Mapping[int, selectors.SelectorKey],
    ) -> None:
        self._first = first
        self._second = second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, fileobj: "FileDescriptorLike") -> selectors.SelectorKey:
        return self._second.get(_descriptor(fileobj)) or self._first[fileobj]

    def __iter__(self) -> Any:
        yield from self._first
        yield from self._second


def _descriptor(fileobj: "FileDescriptorLike") -> int:
    return fileobj if isinstance(fileobj, int) else fileobj.fileno()


def put_behind(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    """Move a descriptor of a loop to the second rank, if the loop has one."""
    if (selector := _selector_of(loop)) is not None and descriptor >= 0:
        selector.put_behind(descriptor)


def put_first(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    """Move a descriptor of a loop to the first rank; to be called before it is closed."""
    if (selector := _selector_of(loop)) is not None:
        selector.put_first(descriptor)


def is_late(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a loop has more to do than time for it; False if it has no such selector."""
    selector = _selector_of(loop)
    return selector is not None and selector.load > LATE


def _selector_of(loop: asyncio.AbstractEventLoop) -> FairSelector | None:
    return getattr(loop, "fair", None)
