"""The plugins of one package in memory, with what they share, for whoever carries them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from co2.plugin.child.services import SharedServices
from co2.plugin.packages.typed_config import Configs
from co2.plugin.timers import Timers
from co2.protocol.wire.plugin_frames.frames import Answered, Ask, AskHosts, Deliver, Gap, Host, Hosts, Load
from co2.testing.carried import Carried, CarryingHost
from co2.testing.packages import FoundPackage
from co2.values import Message

__all__ = ["MemoryPackage", "PackageHost"]


class PackageHost(CarryingHost, Protocol):
    """What a package needs of the satellite or relay that carries it."""

    @property
    def var_dict(self) -> Message:
        """What plugins are told at the beginning."""

    def make_timers(self) -> Timers:
        """Make the timers of a package."""

    def hosts(self) -> list[Host]:
        """Return who is there, as plugins are told."""

    def answer(self, ask: Ask) -> Answered:
        """Call a method for a plugin."""


class MemoryPackage:
    """The plugins of one package, with what they share. The way out for what they ask, too.

    Args:
        found: the package.
        host: carries it.
        store: file of its store.
    """

    def __init__(self, found: FoundPackage, host: PackageHost, store: Path) -> None:
        self.name = found.name
        self.found = found
        self.shared = SharedServices(self, host.make_timers)
        self.shared.prepare(Load(found.name, "", host.var_dict, {}, 0.0, store=str(store)))
        self.carried = [Carried(one, self.shared, host) for one in found.plugins]
        self.receivers = [one for one in self.carried if one.found.receives]
        self.greeting = [one for one in self.carried if one.found.greets]
        self.durable = any(one.found.kind.durable for one in self.receivers)
        self._host = host
        self._next = 1

    def make(self, table: Mapping[str, Any]) -> None:
        """Make all plugins with their configuration.

        Raises:
            ConfigError: the table is not as its plugins want it.
        """
        kinds = [one.found.kind for one in self.carried]
        configs = Configs(self.name, table, "", self.found.module, kinds)
        configs.check()
        for one in self.carried:
            one.make(configs.of(one.found.kind), dict(self._host.var_dict))

    def exit(self) -> None:
        """Call every ``__exit__``."""
        self.shared.timers.close()
        for one in self.carried:
            one.exit()

    def end(self) -> None:
        """They send no more, and have nothing open."""
        for one in self.carried:
            one.end()
        self.shared.close()
        self.shared.outgoing_calls.close()

    def start(self) -> None:
        """Have times begin."""
        self.shared.timers.start()

    def deliver(self, frame: Deliver | Gap) -> None:
        """Put a frame into all mailboxes."""
        for one in self.receivers:
            one.mail.append(frame)

    def numbered(self, count: int) -> int:
        """Give the number of the first of so many messages."""
        first, self._next = self._next, self._next + count
        return first

    # frame writer: what the shared services need

    def frame(self, frame: Ask | AskHosts, /) -> None:
        """Answer a question, at once."""
        answer: Answered | Hosts
        if isinstance(frame, AskHosts):
            answer = Hosts(frame.call_id, self._host.hosts())
        else:
            answer = self._host.answer(frame)
        self.shared.take(answer, ())

    def record(self, source: str, level: int, text: str) -> None:
        """Write a line to the log."""
        self.carried[0].record(level, text)
