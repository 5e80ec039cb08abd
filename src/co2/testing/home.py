"""Common base of the satellites and the relay of a network in memory: they carry plugins."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from co2.plugin.timers import Timers
from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.cursors import Peer
from co2.protocol.wire.plugin_frames.frames import Answered, Ask, Host
from co2.protocol.wire.plugin_frames.transit import Transited
from co2.testing.carried import Carried, Failure
from co2.testing.clock import Clock
from co2.testing.package import MemoryPackage
from co2.testing.packages import FoundPackage
from co2.testing.waiting import QUICK
from co2.values import Message

__all__ = ["Home", "HomeNetwork"]


class HomeNetwork(Protocol):
    """The interface of the network for its satellites and its relay.

    Attributes:
        clock: of the timers.
        core: the relay's state machine.
        failures: calls of plugins that raised.
        url: of the relay.
    """

    clock: Clock
    core: RelayCore
    failures: list[Failure]
    url: str

    def settle(self) -> None:
        """Do all waiting work."""

    def work(self) -> None:
        """Deliver messages that were just sent; from any thread."""

    def working(self) -> AbstractContextManager[None]:
        """Hold everything in the block, and do all waiting work at its end."""

    def tables_with(
        self, found: Sequence[FoundPackage], config: Mapping[str, Any] | None
    ) -> dict[str, Mapping[str, Any]]:
        """Return the tables of the configuration, by package, with the given ones for these packages."""

    def answer(self, ask: Ask, asker: "Home") -> Answered:
        """Call a method for a plugin."""

    def opened(self, address: tuple[str, int]) -> Peer:
        """Connect a satellite; return its link."""

    def lost(self, peer: Peer, why: str) -> None:
        """End a link at the relay."""

    def forget(self, name: str) -> None:
        """Forget a satellite that has stopped."""


class Home(ABC):
    """A host that carries plugins.

    Attributes:
        name: the part of its host_id before the ``@``.
        packages: that it carries, by name.
    """

    patience = QUICK

    def __init__(self, network: HomeNetwork, name: str) -> None:
        self.network = network
        self.name = name
        self.packages: dict[str, MemoryPackage] = {}

    @property
    @abstractmethod
    def host_id(self) -> str:
        """The host_id in messages of its plugins."""

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether it is connected to the network."""

    @property
    @abstractmethod
    def var_dict(self) -> Message:
        """The dictionary that plugins get at the beginning."""

    @abstractmethod
    def hosts(self) -> list[Host]:
        """Return the connected satellites, as plugins see them."""

    @abstractmethod
    def flushed(self) -> bool:
        """Send all that waits; return whether the relay has it."""

    def transited(self, frame: Transited) -> None:
        """Pass on the result of a relay plugin. Only the relay carries any: a satellite's loader refuses them."""
        raise AssertionError(f"{self.name} is a satellite, and has loaded a relay plugin")

    # ---- what its plugins need -------------------------------------------------------------------------

    def work(self) -> None:
        """Deliver messages that were just sent."""
        self.network.work()

    def failed(self, failure: Failure) -> None:
        """Note that a call of a plugin has raised."""
        self.network.failures.append(failure)

    def make_timers(self) -> Timers:
        """Return the timers of a package: they use the network's clock."""
        return self.network.clock.make_timers()

    def answer(self, ask: Ask) -> Answered:
        """Call a method for a plugin."""
        return self.network.answer(ask, self)

    # ---- what a test looks at --------------------------------------------------------------------------

    @property
    def plugins(self) -> dict[str, Carried]:
        """All its plugins with their records, by name."""
        return {one.name: one for package in self.packages.values() for one in package.carried}

    @property
    def plugin(self) -> Any:
        """The instance of its plugin, if it carries only one.

        Raises:
            LookupError: it carries several.
        """
        found = list(self.plugins.values())
        if len(found) != 1:
            names = ", ".join(self.plugins)
            raise LookupError(f"{self!r} carries {len(found)} plugins, choose one: plugins[…] of {names}")
        return found[0].plugin

    @property
    def sent(self) -> list[Message]:
        """Messages that its plugins have sent, as they arrive elsewhere."""
        return [message for one in self.plugins.values() for message in one.sent]

    @property
    def received(self) -> list[Message]:
        """Messages that its plugins have received."""
        return [message for one in self.plugins.values() for message in one.received]

    @property
    def logged(self) -> list[str]:
        """Lines that its plugins have logged."""
        return [line for one in self.plugins.values() for line in one.logged]

    # ---- what the network does -------------------------------------------------------------------------

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of the methods and of the plugins."""
        plugins = self.plugins.values()
        return sorted(name for one in plugins for name in one.found.methods), [one.name for one in plugins]

    def having(self, method: str) -> Carried | None:
        """Return the plugin that has a method, None if there is none."""
        return next((one for one in self.plugins.values() if method in one.found.methods), None)

    def _made(
        self, found: Sequence[FoundPackage], tables: Mapping[str, Mapping[str, Any]], stores: Path
    ) -> list[MemoryPackage]:
        """Make all plugins of these packages; if one of them cannot be made, none is left."""
        packages = [MemoryPackage(one, self, stores / f"{one.name}.db") for one in found]
        try:
            for package in packages:
                package.make(tables.get(package.name, {}))
        except BaseException:
            for package in packages:
                package.exit()
                package.end()
            raise
        return packages

    def _exit(self) -> None:
        """Call every ``__exit__``, those loaded last first."""
        for package in reversed(self.packages.values()):
            package.exit()

    def _end(self) -> None:
        for package in self.packages.values():
            package.end()
