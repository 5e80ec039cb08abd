"""What satellites and the relay of a network in memory have in common: they carry plugins."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from co2.protocol.wire.plugin_frames.frames import Host
from co2.protocol.wire.plugin_frames.transit import Transited
from co2.testing.carried import Carried
from co2.testing.package import MemoryPackage
from co2.testing.packages import FoundPackage
from co2.testing.waiting import QUICK
from co2.values import Message

if TYPE_CHECKING:
    from co2.testing.network import Network

__all__ = ["Home"]


class Home(ABC):
    """What carries plugins.

    Attributes:
        name: the part of its host_id before the ``@``.
        packages: what it carries, by name.
    """

    patience = QUICK

    def __init__(self, network: "Network", name: str) -> None:
        self.network = network
        self.name = name
        self.packages: dict[str, MemoryPackage] = {}

    @property
    @abstractmethod
    def host_id(self) -> str:
        """As messages of its plugins say it."""

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether it reaches the network."""

    @property
    @abstractmethod
    def var_dict(self) -> Message:
        """What plugins are told at the beginning."""

    @abstractmethod
    def hosts(self) -> list[Host]:
        """Give who is there, as plugins are told."""

    @abstractmethod
    def flushed(self) -> bool:
        """Send all that waits; tell whether the relay has it."""

    def transited(self, frame: Transited) -> None:
        """Take what a relay plugin lets go on. Only the relay carries any: a satellite's loader refuses them."""
        raise AssertionError(f"{self.name} is a satellite, and has loaded a relay plugin")

    # ---- what a test looks at --------------------------------------------------------------------------

    @property
    def plugins(self) -> dict[str, Carried]:
        """All its plugins with what they did, by name."""
        return {one.name: one for package in self.packages.values() for one in package.carried}

    @property
    def plugin(self) -> Any:
        """The instance of its plugin, where it carries only one.

        Raises:
            LookupError: it carries several.
        """
        found = list(self.plugins.values())
        if len(found) != 1:
            names = ", ".join(self.plugins)
            raise LookupError(f"{self!r} carries {len(found)} plugins, say which: plugins[…] of {names}")
        return found[0].plugin

    @property
    def sent(self) -> list[Message]:
        """What its plugins have sent, as it arrives elsewhere."""
        return [message for one in self.plugins.values() for message in one.sent]

    @property
    def received(self) -> list[Message]:
        """What its plugins have received."""
        return [message for one in self.plugins.values() for message in one.received]

    @property
    def logged(self) -> list[str]:
        """Lines that its plugins have logged."""
        return [line for one in self.plugins.values() for line in one.logged]

    # ---- what the network does -------------------------------------------------------------------------

    def names(self) -> tuple[list[str], list[str]]:
        """Give the methods and the plugins."""
        plugins = self.plugins.values()
        return sorted(name for one in plugins for name in one.found.methods), [one.name for one in plugins]

    def having(self, method: str) -> Carried | None:
        """Give the plugin that has a method."""
        return next((one for one in self.plugins.values() if method in one.found.methods), None)

    def _made(
        self, found: Sequence[FoundPackage], tables: Mapping[str, Mapping[str, Any]], stores: Path
    ) -> list[MemoryPackage]:
        """Make all plugins of these packages; where one of them cannot be made none is there."""
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
        """Call every ``__exit__``, what was loaded last first."""
        for package in reversed(self.packages.values()):
            package.exit()

    def _end(self) -> None:
        for package in self.packages.values():
            package.end()
