"""Where an event loop learns what has come: some descriptors go first, of the others as many as there is time for.

All that comes in one turn of a loop is worked on before anything else is looked at. So whoever keeps a loop busy
from many connections makes each turn long, and everybody waits for it. Here what such connections bring stands
behind: in each turn all others are served, and of these as many as fit into :data:`TURN` seconds, in turns among
them. While a host has time to spare they are all served at once, and who is where makes no difference.
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
"""Seconds that one turn of the loop is to take at most: of those behind fewer are served where it takes longer."""

LATE = 0.8
"""Part of its time that a loop is at work above which it has more to do than it finds time for."""

WINDOW = 0.5
"""Seconds over which that is reckoned."""

MAX_AT_ONCE = 1024
"""Descriptors of those behind that are served in one turn at most."""

AT_FIRST = 16
"""The same, before anything is known of how long they take."""

_TO_POLL = {
    selectors.EVENT_READ: 1,
    selectors.EVENT_WRITE: 4,
    selectors.EVENT_READ | selectors.EVENT_WRITE: 5,
}
"""Events as ``epoll`` has them: EPOLLIN is 1, EPOLLOUT 4."""


class FairSelector(selectors.DefaultSelector):
    """Has two ranks. Everything is in the first one until :meth:`put_behind`. Only Linux has it.

    Attributes:
        load: part of its time that the loop was at work lately.
    """

    def __init__(self) -> None:
        super().__init__()
        self.load = 0.0
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
        """Put a descriptor, registered or not, into the second rank, until :meth:`put_first`."""
        if descriptor in self._behind or self._second is None:
            return
        key = super().get_map().get(descriptor)
        if key is not None:
            super().unregister(descriptor)
        self._behind.add(descriptor)
        if key is not None:
            self.register(key.fileobj, key.events, key.data)

    def put_first(self, descriptor: int) -> None:
        """Put a descriptor into the first rank; to be called before it is closed."""
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
            raise KeyError(f"{fileobj!r} is registered already")
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
        with contextlib.suppress(OSError):  # closed already, as selectors' own takes it
            self._second.unregister(key.fd)
        return key

    def get_map(self) -> Mapping["FileDescriptorLike", selectors.SelectorKey]:
        """See :meth:`selectors.BaseSelector.get_map`."""
        return _Map(super().get_map(), self._keys)

    def get_key(self, fileobj: "FileDescriptorLike") -> selectors.SelectorKey:
        """See :meth:`selectors.BaseSelector.get_key`."""
        return self._keys.get(_descriptor(fileobj)) or super().get_map()[fileobj]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep until something happens; give all of the first rank, and behind it some of the second."""
        self.end_turn()
        events = super().select(timeout)
        for at, (key, _) in enumerate(events):
            if key.data is self:
                del events[at]
                events += self._of_the_second()
                break
        self.begin_turn()
        return events

    def close(self) -> None:
        """See :meth:`selectors.BaseSelector.close`."""
        if self._second is not None:
            self._second.close()
        super().close()

    def begin_turn(self) -> None:
        """See when work begins: called behind each sleep."""
        self._began = monotonic()

    def end_turn(self) -> None:
        """See how long the turn took that ends here, and how much goes into the next: called before it sleeps."""
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
        # Where more is ready than is asked for, the system gives what it has not given last time (epoll_wait(2)).
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
    """What both ranks have."""

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
    """Put a descriptor of a loop into the second rank, where the loop has one."""
    if (selector := _selector_of(loop)) is not None and descriptor >= 0:
        selector.put_behind(descriptor)


def put_first(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    """Put a descriptor of a loop into the first rank; to be called before it is closed."""
    if (selector := _selector_of(loop)) is not None:
        selector.put_first(descriptor)


def is_late(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a loop has more to do than it finds time for; False where nobody can tell."""
    selector = _selector_of(loop)
    return selector is not None and selector.load > LATE


def _selector_of(loop: asyncio.AbstractEventLoop) -> FairSelector | None:
    return getattr(loop, "fair", None)
