"""What a package gets: queued, numbered, given to the child that carries it now, and kept until it is done with.

It outlives every child: what one was given and did not do, the next one gets, with the numbers it had.
"""

from collections.abc import Callable

from co2.plugin.parent.delivery_queue import FairQueue, GapRange, QueuedBatch, Window
from co2.protocol.wire.frame_template import RUN_BYTES
from co2.protocol.wire.plugin_frames.frames import Deliver, Gap

__all__ = ["MAX_FROM_NETWORK", "NETWORK", "Delivery"]

NETWORK = ""
"""The source of messages that come from outside; the others are called after packages."""

MAX_FROM_NETWORK = 4 * 1024 * 1024
"""Bytes from the network that wait for a package before it takes no more for now. At a quarter it does again."""

Give = Callable[[Deliver | Gap], None]


class Delivery:
    """The messages of one package.

    Args:
        on_room: called when there is room for messages from the network again.

    Attributes:
        waiting: what nobody was given yet.
        window: what the child was given and is not done with.
        received: messages that all plugins were done with.
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
        """Queue a batch for the package, and give the child what it may have."""
        if self._give is not None and not self.waiting.bytes and self.window.room > 0:
            self._give(self.window.give(queued))
            return
        self.waiting.put(source, queued)
        self._pump()

    @property
    def next_number(self) -> int:
        """The number of what is delivered next, if it goes to the child at once, with all of its run; else 0."""
        is_direct = self._give is not None and not self.waiting.bytes and self.window.room > RUN_BYTES
        return self.window.last + 1 if is_direct else 0

    def deliver_from_network(self, queued: QueuedBatch) -> bool:
        """Queue a batch from the network; tell whether there is room for more.

        Where there is none ``on_room`` is called once there is: until then the relay's log keeps what comes.
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
        """Give the position of the last message that the package is done with in this log; 0 for none."""
        return self.window.position if self.window.log_id == log_id else 0

    @property
    def standing(self) -> tuple[str, int]:
        """The log and the position in it of the last message that the package is done with; ('', 0) for none."""
        return self.window.log_id, self.window.position

    # the child of now

    def begin(self, give: Give) -> None:
        """Give everything to this child from now on: first what the one before it did not do."""
        self._give = give
        for frame in self.window.again():
            give(frame)
        self._pump()

    def hold(self) -> None:
        """Nobody is given anything until :meth:`begin` or :meth:`resume`."""
        self._give = None

    def resume(self, give: Give) -> None:
        """Go on with a child that still has all it was given."""
        self._give = give
        self._pump()

    def done(self, last: int) -> None:
        """All plugins are done with everything up to this number."""
        self.received += self.window.done(last)
        self._pump()

    def forget(self, *, but: str | None = None) -> None:
        """Drop what waits, but for what came from one source."""
        self.waiting.clear(but=but)

    def forget_given(self) -> None:
        """Drop what was given: nobody is there any more who receives."""
        self.window.done(self.window.last)

    def _pump(self) -> None:
        if self._give is None:
            return
        while self.window.room > 0 and (taken := self.waiting.take(self.window.room)) is not None:
            self._give(self.window.give(taken))
        if self._behind and self.waiting.held(NETWORK) <= MAX_FROM_NETWORK // 4:
            self._behind = False
            self._on_room()
