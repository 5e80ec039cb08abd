"""A satellite in memory: the product's state machine, and plugins that are carried without threads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from co2.host_id import HostId
from co2.plugin.configs import Configs
from co2.plugin.kit import Tools
from co2.protocol.batch import batch_count
from co2.protocol.frames import Answered, Ask, AskHosts, Deliver, Gap, Host, Hosts, Load
from co2.protocol.link_frames import Deliver as FromLink
from co2.protocol.link_frames import Gap as LinkGap
from co2.protocol.link_frames import encode_link_frame
from co2.protocol.outbox import Outbox
from co2.protocol.satellite import Delivered, Ended, GapTold, RosterTold, SatelliteCore
from co2.protocol.streams import Peer
from co2.satellite.plugin_network import KnownHosts
from co2.testing.carried import Carried
from co2.testing.packages import FoundPackage
from co2.testing.waiting import QUICK
from co2.values import Message

if TYPE_CHECKING:
    from co2.testing.network import Network

__all__ = ["Package", "Satellite"]

OUTBOX_MAX = 1 << 30


class Package:
    """The plugins of one package, with what they share. The way out for what they ask, too."""

    def __init__(self, found: FoundPackage, satellite: "Satellite", store: Path) -> None:
        self.name = found.name
        self.found = found
        self.satellite = satellite
        self.tools = Tools(self, satellite.network.clock.make_timers)
        self.tools.prepare(Load(found.name, "", satellite.var_dict, {}, 0.0, store=str(store)))
        self.carried = [Carried(one, self) for one in found.plugins]
        self.receivers = [one for one in self.carried if one.found.receives]
        self.greeting = [one for one in self.carried if one.found.greets]
        self.durable = any(one.found.kind.durable for one in self.receivers)
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
            one.make(configs.of(one.found.kind), dict(self.satellite.var_dict))

    def exit(self) -> None:
        """Call every ``__exit__``."""
        self.tools.timers.close()
        for one in self.carried:
            one.exit()

    def end(self) -> None:
        """They send no more, and have nothing open."""
        for one in self.carried:
            one.end()
        self.tools.close()
        self.tools.asks.close()

    def start(self) -> None:
        """Have times begin."""
        self.tools.timers.start()

    def deliver(self, frame: Deliver | Gap) -> None:
        """Put a frame into all mailboxes."""
        for one in self.receivers:
            one.mail.append(frame)

    def numbered(self, count: int) -> int:
        """Give the number of the first of so many messages."""
        first, self._next = self._next, self._next + count
        return first

    # way out: what tools need

    def frame(self, frame: Ask | AskHosts, /) -> None:
        """Answer a question, at once."""
        answer: Answered | Hosts
        if isinstance(frame, AskHosts):
            answer = Hosts(frame.call_id, self.satellite.hosts())
        else:
            answer = self.satellite.network.answer(frame, self.satellite)
        self.tools.take(answer, ())

    def record(self, source: str, level: int, text: str) -> None:
        """Write a line to the log."""
        self.carried[0].record(level, text)


class Satellite:
    """A satellite of a network in memory. ``co2_net.satellite(…)`` makes them.

    Attributes:
        name: the random part of its host_id, not random here.
        packages: what it carries, by name.
    """

    patience = QUICK

    def __init__(self, network: "Network", name: str, number: int, epoch: int) -> None:
        self.network = network
        self.name = name
        self.packages: dict[str, Package] = {}
        self.peer: Peer | None = None
        self._outbox = Outbox(epoch, OUTBOX_MAX, lambda: None, lambda: None)
        self._address = (f"10.0.{number >> 8}.{number & 255}", 40_000)
        self.core = SatelliteCore(HostId(name, self._address[0], 2004), self._outbox, self.names)
        self.known = KnownHosts(self._hosts_changed)

    def __repr__(self) -> str:
        return f"<satellite {self.name}>"

    # ---- what a test looks at --------------------------------------------------------------------------

    @property
    def host_id(self) -> str:
        """As messages of its plugins say it."""
        return str(self.core.host_id)

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
        return self._only().plugin

    @property
    def sent(self) -> list[Message]:
        """What its plugins have sent, as it arrives elsewhere."""
        return [message for one in self.plugins.values() for message in one.sent]

    @property
    def received(self) -> list[Message]:
        """What its plugins have received."""
        return [message for one in self.plugins.values() for message in one.received]

    @property
    def gaps(self) -> list[Message]:
        """What its plugins were told to be missing."""
        return [gap for one in self.plugins.values() for gap in one.gaps]

    @property
    def logged(self) -> list[str]:
        """Lines that its plugins have logged."""
        return [line for one in self.plugins.values() for line in one.logged]

    @property
    def connected(self) -> bool:
        """Whether it has a link to the relay."""
        return self.peer is not None

    # ---- what a test does ------------------------------------------------------------------------------

    def connect(self) -> None:
        """Link it to the relay; what waited on both sides goes its way."""
        with self.network.working():
            if self.peer is None:
                self.peer = self.network.relay.opened(self._address)
                self.core.connected()

    def disconnect(self) -> None:
        """Cut its link. What its plugins send waits until :meth:`connect`; siblings hear each other as ever."""
        with self.network.working():
            peer, self.peer = self.peer, None
            if peer is not None:
                self.network.relay.lost(peer, "cut")
                self.core.lost("cut")
                self.take_events()

    def gap(self, reason: str) -> None:
        """Have the relay tell its plugins that messages are missing.

        Raises:
            ValueError: it is not connected.
        """
        with self.network.working():
            if self.peer is None:
                raise ValueError(f"{self!r} is not connected, so nobody tells it anything")
            position = self.core.live_position
            self.peer.write(encode_link_frame(LinkGap("", position, position, reason)))

    def stop(self) -> None:
        """Stop it in good order: every ``__exit__``, the last messages, goodbye."""
        try:
            with self.network.working():
                for package in reversed(self.packages.values()):
                    package.exit()
        finally:
            for package in self.packages.values():
                package.end()
            self.disconnect()
            self.network.forget(self)

    # ---- what the network does -------------------------------------------------------------------------

    @property
    def var_dict(self) -> Message:
        """What plugins are told at the beginning."""
        from co2 import __version__

        return {
            "role": "satellite",
            "host_id": self.host_id,
            "relay": self.network.url,
            "version": __version__,
        }

    def carry(self, found: Sequence[FoundPackage], tables: Mapping[str, Mapping[str, Any]], stores: Path) -> None:
        """Make the plugins of these packages, and then let out what they have sent."""
        packages = [Package(one, self, stores / f"{one.name}.db") for one in found]
        try:
            for package in packages:
                package.make(tables.get(package.name, {}))
        except BaseException:
            for package in packages:
                package.exit()
                package.end()
            raise
        for package in packages:
            self.packages[package.name] = package
            package.start()
            if package.receivers:
                everything = any(not one.found.kind.channels for one in package.receivers)
                channels = sorted({channel for one in package.receivers for channel in one.found.kind.channels})
                self.core.subscribe(package.name, None if everything else channels, durable=package.durable)

    def names(self) -> tuple[list[str], list[str]]:
        """Give the methods and the plugins."""
        plugins = self.plugins.values()
        return sorted(name for one in plugins for name in one.found.methods), [one.name for one in plugins]

    def having(self, method: str) -> Carried | None:
        """Give the plugin that has a method."""
        return next((one for one in self.plugins.values() if method in one.found.methods), None)

    def hosts(self) -> list[Host]:
        """Give the satellites of the network, as the relay told last, this one first."""
        own = Host(self.host_id, *self.names(), own=True)
        return [own, *(host for host in self.known if host.host_id != self.host_id)]

    def flushed(self) -> bool:
        """Send all that waits; tell whether the relay has it."""
        self.network.settle()
        return not len(self._outbox)

    def cut(self) -> bool:
        """Take what plugins have sent: for siblings at once, and for the network; tell whether there was any."""
        moved = False
        for package in self.packages.values():
            for one in package.carried:
                while one.has_sent:
                    frame = one.cut()
                    moved = True
                    self._to_siblings(package, frame.plugin, frame.batch)
                    publish = self.core.publish_live if frame.live else self.core.publish
                    publish(package.name, frame.plugin, frame.channels, frame.batch)
        return moved

    def _to_siblings(self, package: Package, plugin: str, batch: bytes) -> None:
        for other in self.packages.values():
            # A durable one gets them from the relay, with a position to come back to.
            if not other.durable:
                sender = plugin if other is package else ""
                first = other.numbered(batch_count(batch))
                address = (self.core.host_id.ip, self.core.host_id.port)
                other.deliver(Deliver(first, self.host_id, address, batch, sender))

    def take_events(self) -> None:
        """Do what the state machine says."""
        while self.core.events:
            match self.core.events.popleft():
                case Delivered(packages, frame, skip):
                    for name in packages:
                        self._take(self.packages[name], frame, skip)
                case GapTold(packages, gap):
                    for name in packages:
                        package = self.packages[name]
                        package.deliver(Gap(package.numbered(1), gap.after, gap.next + 1, gap.reason))
                case RosterTold(roster):
                    self.known.learn(roster)
                case Ended(reason, text, _):
                    self.peer = None
                    if reason:
                        raise AssertionError(f"the link of {self!r} has ended: {reason}: {text}")

    def _take(self, package: Package, frame: FromLink, skip: int) -> None:
        own = frame.host_id.partition("@")[0] == self.name and frame.sender == package.name
        sender = frame.plugin if own else ""
        first = package.numbered(batch_count(frame.batch))
        package.deliver(Deliver(first, frame.host_id, frame.client_address, frame.batch, sender, skip))

    def _hosts_changed(self, joined: Sequence[Host], left: Sequence[Host]) -> None:
        mine = self.name
        others = [[host for host in hosts if not host.host_id.startswith(f"{mine}@")] for hosts in (joined, left)]
        for package in self.packages.values():
            for one in package.greeting:
                one.kit.greet(one.plugin, Hosts(0, others[0], others[1]))

    def _only(self) -> Carried:
        found = list(self.plugins.values())
        if len(found) != 1:
            names = ", ".join(self.plugins)
            raise LookupError(f"{self!r} carries {len(found)} plugins, say which: plugins[…] of {names}")
        return found[0]
