"""The books of one package in a simulated world: the product's own parts, put together without its processes.

What ``plugin/parent/lifecycle.py`` and ``plugin/parent/accounting.py`` do with them around a child process is done
here in simulated time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from co2.plugin.child.progress import ProgressWords
from co2.plugin.parent.delivery import NETWORK, Delivery
from co2.plugin.parent.delivery_queue import Envelope
from co2.plugin.parent.interests import PackageInterests
from co2.plugin.parent.restart_policy import RestartPolicy, read_progress, taken_up
from co2.plugin.parent.watchdog import Slow
from co2.protocol.wire.plugin_frames.frames import PluginInfo, Progress, Start

__all__ = ["GivenUp", "Ledger"]


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A message that the child died in once too often; without an envelope it was a gap."""

    plugin: str
    envelope: Envelope | None = None
    message: bytes = b""


class Ledger:
    """The books.

    Args:
        on_room: called when there is room for messages from the network again.

    Attributes:
        plugins: of the package, as its last child told them.
        delivery: what it gets.
    """

    def __init__(self, on_room: Callable[[], None]) -> None:
        self.plugins: list[PluginInfo] = []
        self.delivery = Delivery(on_room)
        self._wanted = PackageInterests(())
        self._progress: dict[str, Progress] = {}
        self._deaths = RestartPolicy()
        self._words: ProgressWords | None = None

    @property
    def durable(self) -> bool:
        """Whether the package goes on where it left off after a restart of its satellite."""
        return any(plugin.durable and plugin.receives for plugin in self.plugins)

    @property
    def held(self) -> int:
        """Messages that wait, or that the child has and is not done with."""
        return len(self.delivery)

    def position(self, log_id: str) -> int:
        """Give the position of the last message that is done with in this log; 0 for none."""
        return self.delivery.position(log_id)

    def wants(self, channels: Sequence[str] | None, sender: str = "") -> bool:
        """Tell whether any plugin but ``sender`` hears messages of such channels, as far as is known."""
        if not self.plugins:
            return not sender
        return self._wanted.wants(channels, sender)

    def begin(self, plugins: list[PluginInfo], give: Callable[[Any], None]) -> None:
        """A child has loaded these plugins: it gets everything from now on."""
        was_durable = self.durable
        self.plugins = plugins
        self._wanted = PackageInterests(plugins)
        if not any(plugin.receives for plugin in plugins):
            self.delivery.forget()
            self.delivery.forget_given()
        elif self.durable and not was_durable:
            self.delivery.forget(but=NETWORK)
        self._progress = taken_up(plugins, self._progress)
        give(Start(self._progress))
        self.delivery.begin(give)

    def applied(self, last: int) -> None:
        """All plugins are done with all messages up to this number."""
        self.delivery.done(last)
        self._deaths.forget_up_to(last)

    def ended(self, words: ProgressWords | None) -> None:
        """A child has ended; ``words`` are those that it left, None for one that had not loaded."""
        self.delivery.hold()
        self._words = words
        if words is not None:
            self._progress = read_progress(words, self.plugins, self._progress)
            self._settle_done()

    def died(self, now: float, too_slow: Slow | None) -> list[GivenUp]:
        """It has ended by a death; give the messages that are given up for it. After :meth:`ended`."""
        given_up = []
        for plugin, number in self._deaths.add(now, self._suspects(too_slow)):
            self._progress[plugin] = Progress(number, 0)
            found = self.delivery.window.find(number)
            given_up.append(GivenUp(plugin, *found) if found is not None else GivenUp(plugin))
        self._settle_done()
        return given_up

    def park(self, now: float) -> bool:
        """Tell whether there were so many deaths that it is enough."""
        return self._deaths.park(now)

    def _settle_done(self) -> None:
        done = [self._progress[plugin.name].done for plugin in self.plugins if plugin.receives]
        if done:
            self.delivery.done(min(done))

    def _suspects(self, too_slow: Slow | None) -> list[tuple[str, int]]:
        words = self._words
        if words is None:
            return []
        if too_slow is not None:
            return [(too_slow.plugin, too_slow.inside)] if too_slow.inside else []
        return [
            (plugin.name, words.message(index) // 2)
            for index, plugin in enumerate(self.plugins)
            if words.message(index) % 2
        ]
