"""A satellite in memory: the product's state machine, and plugins without threads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from co2.host_id import HostId
from co2.host_name import is_host_name
from co2.plugin.parent.snapshot_batches import left_out_words, snapshot_batches
from co2.protocol.relay.cursors import Peer
from co2.protocol.satellite.core import Delivered, Ended, GapTold, RosterTold, SatelliteCore, SnapshotCame
from co2.protocol.satellite.driver import SatelliteDriver
from co2.protocol.satellite.events import Event
from co2.protocol.satellite.outbox import Outbox, Segment
from co2.protocol.wire.batch import batch_count
from co2.protocol.wire.close_reasons import REFUSED
from co2.protocol.wire.link_frames import Gap as LinkGap
from co2.protocol.wire.link_frames import SnapshotValue, encode_link_frame
from co2.protocol.wire.plugin_frames.frames import Deliver, Gap, Host, Hosts, Publish, Snapshot
from co2.satellite.known_hosts import KnownHosts
from co2.testing.home import Home, HomeNetwork
from co2.testing.memory_wire import MemoryWire
from co2.testing.package import MemoryPackage
from co2.testing.packages import FoundPackage
from co2.values import Message

__all__ = ["Satellite"]

OUTBOX_MAX = 1 << 30


def _never_on_disk(_segment: Segment) -> None:
    raise AssertionError("a network in memory has no disk for the outbox")


class Satellite(Home):
    """A satellite of a network in memory. ``co2_net.satellite(…)`` makes them.

    Attributes:
        name: the random part of its host_id, not random here.
        packages: that it carries, by name.
        refused: why a relay plugin did not let it join, '' for no refusal.
    """

    def __init__(self, network: HomeNetwork, name: str, number: int, epoch: int) -> None:
        super().__init__(network, name)
        self.refused = ""
        self.peer: Peer | None = None
        self._outbox = Outbox(epoch, OUTBOX_MAX, lambda: None, lambda: None)
        self._address = (f"10.0.{number >> 8}.{number & 255}", 40_000)
        wish = name if is_host_name(name) else ""
        self.core = SatelliteCore(HostId(name, self._address[0], 2004), self._outbox, self.names, wish=wish)
        self.driver: SatelliteDriver[MemoryWire] = SatelliteDriver(
            self.core, handle=self._handle, join=list, load=_never_on_disk
        )
        self.known = KnownHosts(self._hosts_changed)

    def __repr__(self) -> str:
        return f"<satellite {self.name}>"

    # ---- what a test looks at --------------------------------------------------------------------------

    @property
    def host_id(self) -> str:
        """The host_id in messages of its plugins."""
        return str(self.core.host_id)

    @property
    def gaps(self) -> list[Message]:
        """Gaps that its plugins were given."""
        return [gap for one in self.plugins.values() for gap in one.gaps]

    @property
    def connected(self) -> bool:
        """Whether it has a link to the relay."""
        return self.peer is not None

    # ---- what a test does ------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect it to the relay; messages that waited on both sides are delivered."""
        with self.network.working():
            if self.peer is None:
                self.refused = ""
                self.peer = self.network.opened(self._address)
                self.driver.connected(MemoryWire())

    def disconnect(self) -> None:
        """Cut its link. Its plugins' messages wait until :meth:`connect`; siblings still receive them."""
        with self.network.working():
            peer, self.peer = self.peer, None
            if peer is not None:
                self.network.lost(peer, "cut")
                self.driver.lost("cut")

    def gap(self, reason: str) -> None:
        """Make the relay report to its plugins that messages are missing.

        Raises:
            ValueError: it is not connected.
        """
        with self.network.working():
            if self.peer is None:
                raise ValueError(f"{self!r} is not connected, so it receives nothing")
            position = self.core.live_position
            self.peer.write(encode_link_frame(LinkGap("", position, position, reason)))

    def stop(self) -> None:
        """Stop it in good order: every ``__exit__``, the last messages, Goodbye."""
        try:
            with self.network.working():
                self._exit()
        finally:
            self._end()
            self.disconnect()
            self.network.forget(self.name)

    # ---- what the network does -------------------------------------------------------------------------

    @property
    def var_dict(self) -> Message:
        """The dictionary that plugins get at the beginning."""
        from co2 import __version__

        return {
            "role": "satellite",
            "host_id": self.host_id,
            "relay": self.network.url,
            "version": __version__,
        }

    def carry(self, found: Sequence[FoundPackage], tables: Mapping[str, Mapping[str, Any]], stores: Path) -> None:
        """Make the plugins of these packages, and subscribe them."""
        self.core.remember_sent(wanted=True)
        for package in self._made(found, tables, stores):
            self.packages[package.name] = package
            package.start()
            if package.receivers:
                everything = any(not one.channels for one in package.receivers)
                channels = sorted({channel for one in package.receivers for channel in one.channels})
                self.core.subscribe(
                    package.name, None if everything else channels,
                    durable=package.durable, snapshot=package.snapshot,
                )  # fmt: skip
        self.core.remember_sent(self.core.waits_for_values)

    def hosts(self) -> list[Host]:
        """Return the satellites of the network, as last reported by the relay, this one first."""
        own = Host(self.host_id, *self.names(), own=True, name=self.core.name)
        return [own, *(host for host in self.known if host.host_id != self.host_id)]

    def flushed(self) -> bool:
        """Send all that waits; return whether the relay has it."""
        self.network.settle()
        return not len(self._outbox)

    def cut(self) -> bool:
        """Collect plugins' messages for siblings and for the network; return whether there were any."""
        moved = False
        for package in self.packages.values():
            for one in package.carried:
                while one.has_sent:
                    frame = one.cut()
                    moved = True
                    count = batch_count(frame.batch)
                    self._to_siblings(package, frame, count)
                    self.driver.publish(package.name, frame, count)
        return moved

    def _to_siblings(self, package: MemoryPackage, frame: Publish, count: int) -> None:
        for other in self.packages.values():
            # A durable package gets them from the relay, with a position to resume from.
            if not other.durable:
                sender = frame.plugin if other is package else ""
                first = other.numbered(count)
                address = (self.core.host_id.ip, self.core.host_id.port)
                at = self.network.clock.now
                other.deliver(Deliver(first, 0, 0, self.host_id, address, frame.batch, sender, at=at))

    def written(self) -> list[bytes]:
        """Return the frames that it has for the relay now, and forget them."""
        self.driver.flush()
        return [] if self.driver.wire is None else self.driver.wire.taken()

    def _handle(self, event: Event) -> None:
        match event:
            case Delivered() as delivered:
                for name in delivered.packages:
                    self._deliver(self.packages[name], delivered)
            case GapTold(packages, gap):
                for name in packages:
                    package = self.packages[name]
                    package.deliver(Gap(package.numbered(1), gap.after, gap.next + 1, gap.reason))
            case SnapshotCame(name, values, left_out):
                self.core.remember_sent(self.core.waits_for_values)
                self._give_snapshot(self.packages[name], values, left_out)
            case RosterTold(roster):
                self.known.learn(roster)
            case Ended(reason, text, _):
                peer, self.peer = self.peer, None
                if peer is not None:
                    self.network.lost(peer, text)
                if reason == REFUSED:
                    self.refused = text
                elif reason:
                    raise AssertionError(f"the link of {self!r} has ended: {reason}: {text}")

    def _deliver(self, package: MemoryPackage, delivered: Delivered) -> None:
        frame = delivered.frame
        own = frame.host_id.partition("@")[0] == self.name and frame.sender == package.name
        sender = frame.plugin if own else ""
        first = package.numbered(delivered.count)
        package.deliver(
            Deliver(
                first,
                0,
                0,
                frame.host_id,
                frame.client_address,
                frame.batch,
                sender,
                delivered.skip,
                frame.at,
            )
        )

    def _give_snapshot(self, package: MemoryPackage, values: Sequence[SnapshotValue], left_out: int) -> None:
        times = any(one.found.kind.times for one in package.receivers)
        for queued in snapshot_batches(package.name, values, self.name, times=times):
            sent_by = queued.envelope
            first = package.numbered(queued.count)
            package.deliver(
                Snapshot(first, 0, 0, sent_by.host_id, sent_by.client_address, queued.batch, sent_by.sender)
            )  # fmt: skip
        if left_out:
            package.deliver(Gap(package.numbered(1), 0, 0, left_out_words(left_out)))

    def _hosts_changed(self, joined: Sequence[Host], left: Sequence[Host]) -> None:
        mine = self.name
        others = [[host for host in hosts if not host.host_id.startswith(f"{mine}@")] for hosts in (joined, left)]
        for package in self.packages.values():
            for one in package.greeting:
                one.services.greet(one.plugin, Hosts(0, others[0], others[1]))
