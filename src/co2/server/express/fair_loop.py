"""An event loop that serves the first rank of its selector between two pieces of work, not only between two turns.

asyncio runs everything that is ready before it looks for more, and what has just become ready comes last. When a
loop has more to do than time for it, a message would wait for all of that: for one turn, and often for a second.
Here it waits for one callback, and for :data:`LOOK` seconds at most.
"""

import asyncio
import selectors
from collections import deque
from time import monotonic

from co2.server.express.fair_selector import FairSelector, is_late

__all__ = ["LOOK", "FairLoop"]

LOOK = 0.001
"""Seconds of work after which a late loop looks for descriptors of the first rank that are ready."""

Events = list[tuple[selectors.SelectorKey, int]]


class FairLoop(asyncio.SelectorEventLoop):
    """See above. It runs callbacks in another order than asyncio does, each as asyncio would.

    Args:
        selector: with two ranks.
    """

    def __init__(self, selector: FairSelector) -> None:
        super().__init__(selector)
        self.fair = selector
        # Not part of asyncio's interface: without it this is an event loop as any other.
        self._queue: deque[asyncio.Handle] | None = vars(self).get("_ready")
        self._look_handle = asyncio.Handle(self._look, (), self)
        self._looked_at = 0.0

    def _process_events(self, event_list: Events) -> None:
        """Queue the callbacks of what is ready: the first rank before everything else."""
        process = super()._process_events  # type: ignore[misc]
        queue, firsts = self._queue, self.fair.firsts
        if queue is None or not queue:
            process(event_list)
        else:
            queued = len(queue)
            process(event_list[:firsts])
            queue.rotate(len(queue) - queued)
            process(event_list[firsts:])
        if queue is not None and is_late(self):
            self._looked_at = monotonic()
            handles = tuple(queue)
            queue.clear()
            for handle in handles:
                queue += (handle, self._look_handle)

    def _look(self) -> None:
        """Run the callbacks of the first rank that are ready, if it is time to look for them."""
        queue = self._queue
        now = monotonic()
        if queue is None or now - self._looked_at < LOOK:
            return
        self._looked_at = now
        queued = len(queue)
        super()._process_events(self.fair.select_first())  # type: ignore[misc]
        new = [queue.pop() for _ in range(len(queue) - queued)]
        for handle in reversed(new):
            if not handle.cancelled():
                handle._run()
