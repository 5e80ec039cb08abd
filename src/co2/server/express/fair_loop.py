"""An event loop that serves the first rank of its selector between two pieces of work, not only between two turns.

asyncio runs everything that is ready before it looks for more, and what has just become ready comes last. When a
loop has more to do than time for it, or much at once, a message would wait for all of that: for one turn, and
often for a second. Here it waits for one callback, and for :data:`LOOK` seconds at most.
"""

import asyncio
import selectors
from collections import deque
from time import monotonic

from co2.server.express.fair_selector import FairSelector, is_late

__all__ = ["LONG_TURN", "LOOK", "FairLoop"]

LOOK = 0.001
"""Seconds of work after which a late loop looks for descriptors of the first rank that are ready."""

LONG_TURN = 16
"""Callbacks of one turn from which on a loop that is not late does the same."""

Events = list[tuple[selectors.SelectorKey, int]]


class FairLoop(asyncio.SelectorEventLoop):
    """See above. It runs callbacks in another order than asyncio does, each as asyncio would.

    Args:
        selector: with two ranks.
    """

    def __init__(self, selector: FairSelector) -> None:
        super().__init__(selector)
        self.fair = selector
        # Not part of asyncio's interface: without it this is an event loop as any other. Other threads append to
        # it at any time, so it is never cleared, and its length means nothing a moment later.
        self._queue: deque[asyncio.Handle] | None = vars(self).get("_ready")
        self._collected: list[asyncio.Handle] | None = None
        self._look_handle = asyncio.Handle(self._look, (), self)
        self._look_at = 0.0

    def _add_callback(self, handle: asyncio.Handle) -> None:
        """Queue the callback of a ready descriptor; asyncio calls this from :meth:`_process_events` only."""
        if self._collected is None:
            super()._add_callback(handle)  # type: ignore[misc]
        elif not handle.cancelled():
            self._collected.append(handle)

    def _callbacks(self, events: Events) -> list[asyncio.Handle]:
        """Return the callbacks of ready descriptors, in order."""
        collected = self._collected = []
        try:
            super()._process_events(events)  # type: ignore[misc]
        finally:
            self._collected = None
        return collected

    def _process_events(self, event_list: Events) -> None:
        """Queue the callbacks of what is ready: the first rank before everything else."""
        queue = self._queue
        looks = queue is not None and (len(queue) + len(event_list) >= LONG_TURN or is_late(self))
        if queue is None or not (queue or looks):
            super()._process_events(event_list)  # type: ignore[misc]
            return
        first = self._callbacks(event_list[: self.fair.firsts])
        second = self._callbacks(event_list[self.fair.firsts :])
        if not looks:
            queue.extendleft(reversed(first))
            queue.extend(second)
            return
        queued = [queue.popleft() for _ in range(len(queue))]
        look = self._look_handle
        queue.extendleft(reversed([one for handle in (*first, *queued, *second) for one in (handle, look)]))
        self._look_at = monotonic() + LOOK

    def _look(self) -> None:
        """Run the callbacks of the first rank that are ready, if it is time to look for them.

        What is queued gets at least as much time as these: otherwise several links that each take little could
        keep the loop from everything else.
        """
        began = monotonic()
        if began < self._look_at:
            return
        for handle in self._callbacks(self.fair.select_first()):
            if not handle.cancelled():
                handle._run()
        ended = monotonic()
        self._look_at = ended + max(LOOK, ended - began)
