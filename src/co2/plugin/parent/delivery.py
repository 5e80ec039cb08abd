"""Delivery to a package: messages are queued, numbered, given to the current child, and kept until they are done.

The delivery outlives every child: the next child gets all that the last one had not done, with the same numbers.
"""

from collections.abc import Callable

from co2.plugin.parent.delivery_queue import FairQueue, GapRange, QueuedBatch, Window
from co2.protocol.wire.plugin_frames.frames import Deliver, Gap

__all__ = ["MAX_FROM_NETWORK", "NETWORK", "Delivery"]

NETWORK = ""
"""The source of messages from the network; other sources are named after packages."""

MAX_FROM_NETWORK = 4 * 1024 * 1024
"""Bytes from the network that may wait for a package; above it the package takes no more, down to a quarter."""

Give = Callable[[Deliver | Gap], None]


class Delivery:
    """The messages of one package.

    Args:
        on_room: called when the queue has room for messages from the network again.

    Attributes:
        waiting: messages that no child has got yet.
        window: messages that the child has and is not done with.
        received: messages that all plugins are done with.
    """

    def __init__(self, on_room: Callable[[], None]) -> None:
        self.waiting = FairQueue()
        self.window = Window()
        self.received = 0
        self._on_room = on_room
        self._behind = False
        self._give: Give | None = None

    def __len__(self) -> int:
        return len(self.waiting) + len(self.window)

    def deliver(self, source: str, queued: QueuedBatch) -> None:
        """Queue a batch for the package, and send the child as much as it may have."""
        if self._give is not None and not self.waiting.bytes and self.window.room > 0:
            self._give(self.window.give(queued))
            return
        # There is no child now, or it has no room: whatever changes that sends on.
        self.waiting.put(source, queued)

    def next_number(self, room: int) -> int:
        """Return the number of the next batch if the child gets it at once, up to ``room`` bytes; otherwise 0."""
        is_direct = self._give is not None and not self.waiting.bytes and self.window.room > room
        return self.window.last + 1 if is_direct else 0

    def deliver_from_network(self, queued: QueuedBatch) -> bool:
        """Queue a batch from the network; return whether there is room for more.

        If there is none, the relay's log keeps further messages until ``on_room`` is called.
        """
        self.deliver(NETWORK, queued)
        if self.waiting.held(NETWORK) > MAX_FROM_NETWORK:
            self._behind = True
        return not self._behind

    def gap(self, source: str, gap: GapRange) -> None:
        """Queue a gap: messages of this source that will not come."""
        self.waiting.put_gap(source, gap)
        self._pump()

    def position(self, log_id: str) -> int:
        """Return the position of the last message in this log that the package is done with; 0 for none."""
        return self.window.position if self.window.log_id == log_id else 0

    @property
    def standing(self) -> tuple[str, int]:
        """The log, and the position in it, of the last message that the package is done with; ('', 0) for none."""
        return self.window.log_id, self.window.position

    # the current child

    def begin(self, give: Give) -> None:
        """Send everything to this child, starting with the messages that its predecessor had not done."""
        self._give = give
        for frame in self.window.again():
            give(frame)
        self._pump()

    def hold(self) -> None:
        """Send nothing until :meth:`begin` or :meth:`resume`."""
        self._give = None

    def resume(self, give: Give) -> None:
        """Send to the same child again; it still has all its messages."""
        self._give = give
        self._pump()

    def done(self, last: int) -> None:
        """Record that all plugins are done with all messages up to this number."""
        self.received += self.window.done(last)
        self._pump()

    def forget(self, *, but: str | None = None) -> None:
        """Drop the waiting messages, except those of one source."""
        self.waiting.clear(but=but)

    def forget_given(self) -> None:
        """Drop the messages that the child has: no plugin receives any more."""
        self.window.done(self.window.last)

    def _pump(self) -> None:
        if self._give is None:
            return
        while self.window.room > 0 and (taken := self.waiting.take(self.window.room)) is not None:
            self._give(self.window.give(taken))
        if self._behind and self.waiting.held(NETWORK) <= MAX_FROM_NETWORK // 4:
            self._behind = False
            self._on_room()
