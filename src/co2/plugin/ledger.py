"""The books of one package: what waits for it, what its child has, what it is done with, and what deaths lead to.

No child and no clock in here: ``package.py`` carries the frames.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from co2.plugin.deaths import Deaths, read_progress
from co2.plugin.progress import ProgressWords
from co2.plugin.waiting import Envelope, Missing, Parcel, Waiting, Window
from co2.plugin.wanted import Wanted
from co2.plugin.watch import Slow
from co2.protocol.frames import Deliver, Gap, PluginInfo, Progress, Start

__all__ = ["MAX_FROM_NETWORK", "NETWORK", "GivenUp", "Ledger"]

NETWORK = ""
"""The source of messages that come from outside; the others are called after packages."""

MAX_FROM_NETWORK = 4 * 1024 * 1024
"""Bytes from the network that wait for a package before it takes no more for now. At a quarter it does again."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A message that the child died in once too often.

    Attributes:
        plugin: that it was for.
        envelope: what travels beside it; None where it was no message but a gap.
        message: encoded, b'' for a gap.
    """

    plugin: str
    envelope: Envelope | None = None
    message: bytes = b""


class Ledger:
    """The books.

    Attributes:
        plugins: of the package, as its last child told them.
        received: messages that all of them are done with.
    """

    def __init__(self) -> None:
        self.plugins: list[PluginInfo] = []
        self.received = 0
        self._waiting = Waiting()
        self._behind = False
        self._window = Window()
        self._wanted = Wanted(())
        self._progress: dict[str, Progress] = {}
        self._deaths = Deaths()
        self._words: ProgressWords | None = None

    @property
    def durable(self) -> bool:
        """Whether the package goes on where it left off after a restart of its satellite."""
        return any(plugin.durable and plugin.receives for plugin in self.plugins)

    @property
    def dropped(self) -> int:
        """Messages that had to go, because too many waited."""
        return self._waiting.dropped

    @property
    def held(self) -> int:
        """Messages that wait, or that the child has and is not done with."""
        return len(self._waiting) + len(self._window)

    def position(self, log_id: str) -> int:
        """Give the position of the last message that is done with in this log; 0 for none."""
        return self._window.position if self._window.log_id == log_id else 0

    # ---- in --------------------------------------------------------------------------------------------

    def wants(self, channels: Sequence[str] | None, sender: str = "") -> bool:
        """Tell whether any plugin but ``sender`` hears messages of such channels, as far as is known."""
        if not self.plugins:
            return not sender
        return self._wanted.wants(channels, sender)

    def put(self, source: str, parcel: Parcel) -> None:
        """Queue a batch."""
        self._waiting.put(source, parcel)

    def takes_more(self) -> bool:
        """Tell whether there is room for more from the network.

        Where there is none, :meth:`has_room_again` says when there is: till then the relay's log keeps what comes.
        """
        if self._waiting.held(NETWORK) > MAX_FROM_NETWORK:
            self._behind = True
        return not self._behind

    def put_gap(self, source: str, gap: Missing) -> None:
        """Queue a gap: messages of this source that will not come."""
        self._waiting.put_gap(source, gap)

    def clear(self) -> None:
        """Forget what waits: nobody will take it."""
        self._waiting.clear()

    # ---- to the child ----------------------------------------------------------------------------------

    def begin(self, plugins: list[PluginInfo]) -> list[Start | Deliver | Gap]:
        """A child has loaded these plugins: give what it gets first."""
        self.plugins = plugins
        self._wanted = Wanted(plugins)
        if not any(plugin.receives for plugin in plugins):
            self._waiting.clear()
        elif self.durable:
            # What siblings have sent while that was not known comes from the relay.
            self._waiting.clear(but=NETWORK)
        return [Start(self._progress), *self._window.again()]

    def give_at_once(self, parcel: Parcel) -> Deliver | Gap | None:
        """Give the frame of a batch that need not wait; None where it must be queued."""
        return self._window.give(parcel) if not self._waiting.bytes and self._window.room > 0 else None

    def give(self) -> Iterator[Deliver | Gap]:
        """Give what the child may have now."""
        while self._window.room > 0 and (taken := self._waiting.take(self._window.room)) is not None:
            yield self._window.give(taken)

    def has_room_again(self) -> bool:
        """Tell whether there is room for the network's messages, after there was none; once."""
        if self._behind and self._waiting.held(NETWORK) <= MAX_FROM_NETWORK // 4:
            self._behind = False
            return True
        return False

    def applied(self, last: int) -> None:
        """All plugins are done with all messages up to this number."""
        self.received += self._window.done(last)
        self._deaths.forget_up_to(last)

    # ---- deaths ----------------------------------------------------------------------------------------

    def buried(self, words: ProgressWords | None) -> None:
        """A child has ended: take in where it stood, as it need not have come to say so.

        Args:
            words: that it left; None for one that had not loaded.
        """
        self._words = words
        if words is not None:
            self._progress = read_progress(words, self.plugins, self._progress)
            self._settle_done()

    def died(self, now: float, guilty: Slow | None) -> list[GivenUp]:
        """It has ended by a death; give the messages that are given up for it. After :meth:`buried`.

        Args:
            now: monotonic seconds.
            guilty: who was killed for being slow, None for a death of another kind.
        """
        given_up = []
        for plugin, number in self._deaths.add(now, self._suspects(guilty)):
            self._progress[plugin] = Progress(number, 0)
            found = self._window.find(number)
            given_up.append(GivenUp(plugin, *found) if found is not None else GivenUp(plugin))
        self._settle_done()
        return given_up

    def park(self, now: float) -> bool:
        """Tell whether there were so many deaths that it is enough."""
        return self._deaths.park(now)

    def _settle_done(self) -> None:
        done = [self._progress[plugin.name].done for plugin in self.plugins if plugin.receives]
        if done:
            self.received += self._window.done(min(done))

    def _suspects(self, guilty: Slow | None) -> list[tuple[str, int]]:
        """Give (plugin, message number) of those that may have killed the child."""
        words = self._words
        if words is None:
            return []
        if guilty is not None:
            return [(guilty.plugin, guilty.inside)] if guilty.inside else []
        return [
            (plugin.name, words.message(index) // 2)
            for index, plugin in enumerate(self.plugins)
            if words.message(index) % 2
        ]
