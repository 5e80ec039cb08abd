"""The relay of a network in memory, with its plugins: a chain that messages pass."""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from co2.protocol.relay.cursors import Peer
from co2.protocol.relay.events import AdmissionWanted
from co2.protocol.relay.filter_chain import InFlight, Passed
from co2.protocol.wire.batch import batch_count
from co2.protocol.wire.channel_patterns import Interests
from co2.protocol.wire.close_reasons import REFUSED
from co2.protocol.wire.plugin_frames.frames import Host, Hosts
from co2.protocol.wire.plugin_frames.transit import Transit, Transited
from co2.relay.split_by_origin import by_first_sender
from co2.testing.carried import Carried
from co2.testing.home import Home, HomeNetwork
from co2.testing.packages import Source, find_sources
from co2.values import Message

__all__ = ["Relay"]

NAME = "relay"
ADDRESS = ("10.0.0.1", 2003)


class Relay(Home):
    """The relay of a network in memory: ``co2_net.relay``.

    Attributes:
        name: the random part of its host_id, not random here.
        packages: what it carries, by name, in the order of the chain.
    """

    def __init__(self, network: HomeNetwork, stores: Path) -> None:
        super().__init__(network, NAME)
        self._stores = stores
        self._stages: dict[str, _CarriedFilter] = {}
        self._known: dict[str, Host] = {}
        self._number = 0
        self._given: dict[int, Callable[[Passed | None], None]] = {}

    def __repr__(self) -> str:
        return "<relay>"

    # ---- what a test does ------------------------------------------------------------------------------

    def load(self, *plugins: Source, config: Mapping[str, Any] | None = None) -> "Relay":
        """Load relay plugins, behind the present ones. An exception of their ``__init__`` is raised here.

        Args:
            plugins: each a class, the folder (a ``Path``) of a package, or the name of a bundled or installed one.
            config: the table ``[plugin.<package>]``; with several packages, such tables by package.

        Returns:
            This relay: ``relay.plugin``, ``relay.sent`` and so on work as those of a satellite.

        Raises:
            LoadFailure: a relay would refuse it.
            ConfigError: the plugin refuses the configuration.
            ValueError: no such package, or it is loaded already.
        """
        with self.network.working():
            found = find_sources(plugins, "relay")
            if taken := [one.name for one in found if one.name in self.packages]:
                raise ValueError(f"the relay already carries {taken[0]!r}")
            for package in self._made(found, self.network.tables_with(found, config), self._stores):
                self.packages[package.name] = package
                package.start()
                self._stages.update(
                    {one.name: _CarriedFilter(self, one) for one in package.carried if one.found.relays}
                )
                for one in package.greeting:
                    one.services.greet(one.plugin, Hosts(0, list(self._known.values())))
            self._set_chain()
        return self

    def stop(self) -> None:
        """Unload all its plugins in good order: every ``__exit__``, the last messages."""
        try:
            with self.network.working():
                self._exit()
        finally:
            with self.network.working():
                self._end()
                self.packages, self._stages = {}, {}
                self._set_chain()
                self._given.clear()

    def _set_chain(self) -> None:
        core = self.network.core
        core.filter_chain.set_filters(list(self._stages.values()))
        core.asks = any(one.found.admits for one in self.plugins.values())

    # ---- what plugins need -----------------------------------------------------------------------------

    @property
    def host_id(self) -> str:
        """The host_id in messages of its plugins."""
        return self.network.core.host_id

    @property
    def connected(self) -> bool:
        """Return true: the relay is the network."""
        return True

    @property
    def var_dict(self) -> Message:
        """The dictionary that plugins get at the beginning."""
        from co2 import __version__

        return {"role": "relay", "host_id": self.host_id, "relay": "", "version": __version__}

    def hosts(self) -> list[Host]:
        """Return the connected satellites."""
        return list(self._known.values())

    def flushed(self) -> bool:
        """Send all that waits."""
        self.network.settle()
        return True

    def transited(self, frame: Transited) -> None:
        """Pass on messages from a relay plugin."""
        done = self._given.pop(frame.number)
        done(None if not frame.batch else Passed(frame.batch, tuple(frame.channels or ())))

    # ---- what the network does -------------------------------------------------------------------------

    def cut(self) -> bool:
        """Pass on messages of plugins, each behind its plugin in the chain; return whether there were any."""
        moved = False
        core = self.network.core
        for one in self.plugins.values():
            while one.has_sent:
                moved = True
                frame = one.cut()
                channels = None if frame.channels is None else tuple(frame.channels)
                for origin, batch, count in by_first_sender(frame.batch, batch_count(frame.batch)):
                    release = partial(self._append, origin or self.name)
                    in_flight = InFlight(self.host_id, ADDRESS, batch, count, channels, release)
                    core.filter_chain.enter(in_flight, self._stages.get(one.name))
        core.come_through()
        return moved

    def _append(self, origin: str, message: InFlight) -> None:
        self.network.core.append_unnumbered(origin, message)

    def give(self, carried: Carried, in_flight: InFlight, done: Callable[[Passed | None], None]) -> None:
        """Make a plugin filter messages."""
        self._number += 1
        self._given[self._number] = done
        frame = Transit(self._number, carried.name, in_flight.host_id, in_flight.client_address, in_flight.batch)
        carried.mail.append(frame)

    def ask(self, asked: AdmissionWanted) -> None:
        """Ask every plugin with a ``register`` whether a satellite may join."""
        host = Host(str(asked.host_id), [*asked.hello.methods], [*asked.hello.plugins])
        waiting = deque(one for one in self.plugins.values() if one.found.admits)

        def go_on(why: str = "") -> None:
            if why:
                core.end(asked.peer, REFUSED, why)
            elif waiting:
                one = waiting.popleft()
                one.admit(host, lambda text: go_on(f"{one.name}: {text}" if text else ""))
            else:
                core.admit(asked)

        core = self.network.core
        go_on()

    def joined(self, peer: Peer) -> None:
        """Note that a satellite has joined, or changed its names."""
        host = Host(str(peer.host_id), [*peer.methods], [*peer.plugins], name=peer.name)
        self._known[peer.origin] = host
        self._greet([host], [])

    def left(self, peer: Peer) -> None:
        """Note that a satellite has left."""
        host = self._known.pop(peer.origin, None)
        if host is not None:
            self._greet([], [host])

    def _greet(self, joined: list[Host], left: list[Host]) -> None:
        for package in self.packages.values():
            for one in package.greeting:
                one.services.greet(one.plugin, Hosts(0, joined, left))


class _CarriedFilter:
    """One relay plugin as a filter of the chain."""

    def __init__(self, relay: Relay, carried: Carried) -> None:
        self._relay = relay
        self._carried = carried
        self._interests = Interests(carried.channels or None)

    def wants(self, channels: tuple[str, ...] | None) -> bool:
        """Return whether the plugin wants messages of these channels."""
        return self._interests.wants(channels)

    def take(self, in_flight: InFlight, done: Callable[[Passed | None], None]) -> None:
        """Filter messages when the network settles."""
        self._relay.give(self._carried, in_flight, done)
