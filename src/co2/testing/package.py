"""The plugins of one package in memory, with their shared services."""

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
    """The interface of the satellite or relay that carries a package."""

    @property
    def var_dict(self) -> Message:
        """The dictionary that plugins get at the beginning."""

    def make_timers(self) -> Timers:
        """Return new timers for a package."""

    def hosts(self) -> list[Host]:
        """Return the connected satellites, as plugins see them."""

    def answer(self, ask: Ask) -> Answered:
        """Call a method for a plugin."""


class MemoryPackage:
    """The plugins of one package, with their shared services and the answers to their requests.

    Args:
        found: the package.
        host: that carries it.
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

    @property
    def snapshot(self) -> list[str]:
        """Patterns of the channels whose last values its plugins get first."""
        return sorted({pattern for one in self.receivers for pattern in one.snapshot})

    def make(self, table: Mapping[str, Any]) -> None:
        """Make all plugins with their configuration.

        Raises:
            ConfigError: its plugins refuse the table.
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
        """Close the plugins, the store and the pending calls."""
        for one in self.carried:
            one.end()
        self.shared.close()
        self.shared.outgoing_calls.close()

    def start(self) -> None:
        """Start the timers."""
        self.shared.timers.start()

    def deliver(self, frame: Deliver | Gap) -> None:
        """Put a frame into the mailboxes of all receivers."""
        for one in self.receivers:
            one.mail.append(frame)

    def numbered(self, count: int) -> int:
        """Return the number for the first of so many messages."""
        first, self._next = self._next, self._next + count
        return first

    # frame writer: what the shared services need

    def frame(self, frame: Ask | AskHosts, /) -> None:
        """Answer a request at once."""
        answer: Answered | Hosts
        if isinstance(frame, AskHosts):
            answer = Hosts(frame.call_id, self._host.hosts())
        else:
            answer = self._host.answer(frame)
        self.shared.take(answer, ())

    def record(self, source: str, level: int, text: str) -> None:
        """Write a line to the log."""
        self.carried[0].record(level, text)
