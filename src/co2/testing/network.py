"""A relay and satellites in memory: no sockets, no processes, and time passes only by the test's clock."""

import contextlib
import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from co2.errors import Ambiguous, NoSuchMethod, PeerError, UnknownHost, Unreachable
from co2.plugin.api import Co2Plugin
from co2.protocol.relay.core import AdmissionWanted, Joined, Left, RelayCore, ValuesWanted
from co2.protocol.relay.cursors import Peer
from co2.protocol.relay.driver import RelayDriver
from co2.protocol.relay.events import Event
from co2.protocol.relay.last_values import answer, entry_at
from co2.protocol.wire.plugin_frames.frames import Answered, Ask
from co2.testing.carried import Carried, Failure
from co2.testing.clock import Clock
from co2.testing.home import Home
from co2.testing.memory_log import MemoryLog
from co2.testing.memory_wire import MemoryWire
from co2.testing.packages import FoundPackage, Source, find_sources
from co2.testing.relay import Relay
from co2.testing.satellite import Satellite
from co2.testing.waiting import QUICK
from co2.values import Message, pack_value, unpack_value

__all__ = ["Network"]

ROUNDS = 10_000
"""Rounds of messages that lead to further ones, after which we say that it never ends."""

ROSTER_BYTES = 1 << 30
_NOTHING = b"\xc0"

_TESTER = "test"


class X_Tester(Co2Plugin):
    """Sends the test's messages, receives everything."""

    def receive(self, data_dict: Message) -> None:
        """Do nothing: the carrier records what is received."""


def _raise(_peer: Peer) -> None:
    raise  # noqa: PLE0704  the exception of which the driver tells


def _nothing_to_read() -> None:
    """Do nothing: the network reads all links all the time."""


class Network:
    """A network in memory; the fixture ``co2_net`` makes one. Each call does all work that results from it.

    Args:
        clock: of the timers of plugins.
        folder: for the stores of plugins.
        tables: of the configuration, ``[plugin.<name>]``, by name.

    Attributes:
        relay: which may carry plugins, too.
        failures: calls of plugins that raised; those left at the end fail the test.
        satellites: that run, by name.
    """

    url = "http://10.0.0.1:2003"
    patience = QUICK

    def __init__(self, clock: Clock, folder: Path, tables: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.clock = clock
        self.log = MemoryLog()
        self.core = RelayCore(
            self.log,
            "relay@10.0.0.1:2003",
            max_peers=lambda: 10**6,
            now=lambda: clock.now,
            wall=lambda: clock.now,
        )
        self.wires: dict[Peer, MemoryWire] = {}
        self.driver = RelayDriver(
            self.core, self.wires, handle=self._handle, join=list, failed=_raise, read_on=_nothing_to_read
        )
        self.failures: list[Failure] = []
        self.satellites: dict[str, Satellite] = {}
        self._folder = folder
        self._tables = dict(tables or {})
        self._numbers = itertools.count(2)
        self._lock = threading.RLock()
        self._depth = 0
        clock.attach(self.settle)
        self.relay = Relay(self, folder / "relay")
        self._tester = Satellite(self, _TESTER, next(self._numbers), 1)
        self._tester.carry(find_sources([X_Tester], "satellite"), {}, folder)
        self._tester.connect()

    def __repr__(self) -> str:
        return f"<network of {', '.join(self.satellites) or 'nobody'}>"

    # ---- what a test does ------------------------------------------------------------------------------

    def satellite(
        self, *plugins: Source, config: Mapping[str, Any] | None = None, name: str = "", connected: bool = True
    ) -> Satellite:
        """Start a satellite with plugins. An exception of their ``__init__`` is raised here.

        Args:
            plugins: each a class, the folder (a ``Path``) of a package, or the name of a bundled or installed one.
            config: the table ``[plugin.<package>]``; with several packages, such tables by package.
            name: the part of its host_id before the ``@``. A satellite that is started again under its name finds
                its store.
            connected: to the relay; ``connect()`` does it later.

        Raises:
            LoadFailure: a satellite would refuse it.
            ConfigError: the configuration is not as the plugin wants it.
            ValueError: no such package, or the name is taken.
        """
        number = next(self._numbers)
        name = name or f"s{len(self.satellites) + 1}"
        if name in self.satellites or name in (_TESTER, self.relay.name):
            raise ValueError(f"a satellite {name!r} already exists")
        with self.working():
            found = find_sources(plugins, "satellite")
            tables = self.tables_with(found, config)
            satellite = Satellite(self, name, number, number)
            satellite.carry(found, tables, self._folder / name)
            self.satellites[name] = satellite
            if connected:
                satellite.connect()
        return satellite

    def send(self, message: Message) -> None:
        """Send a message as another member of the network, which carries none of the plugins."""
        self._tester.plugin.send(message)

    @property
    def received(self) -> list[Message]:
        """All messages sent to the network, except by :meth:`send`, as all members receive them."""
        return self._tester.received

    @property
    def sent(self) -> list[Message]:
        """Messages that the test has sent with :meth:`send`."""
        return self._tester.sent

    def call(self, method: str, data: Any = None, host_id: str | None = None, **keys: Any) -> Any:
        """Call a method of a plugin by its name, as another member of the network.

        Args:
            method: ``ham.spam.call_me``.
            data: value of the key ``data``; for a method with parameters, a dictionary of them.
            host_id: of the satellite; None for the one that has the method.
            keys: further keys for the method.

        Raises:
            PeerError: the call failed, as with ``self.call`` of a plugin; an exception of the method itself is the
                ``__cause__`` of a PluginFailed.
        """
        argument = pack_value({**keys, "data": data})
        with self.working():
            result = self._called(method, host_id or "", argument, self._tester, QUICK)
        return unpack_value(result)

    def forget_log(self) -> None:
        """Make the relay drop all messages, as it does with old ones: absent satellites get a gap instead."""
        with self.working():
            self.log.forget()

    def settle(self) -> None:
        """Deliver all messages on their way. Those of a plugin's own thread may not be sent yet."""
        with self._lock:
            self._depth += 1
            try:
                self._pump()
            finally:
                self._depth -= 1

    def expect_failure(self, kind: type[BaseException] = Exception, text: str = "") -> Failure:
        """Expect that a plugin has failed, in ``receive``, a timer or the like, and return the failure.

        Args:
            kind: of the exception.
            text: part of the exception's text.

        Raises:
            AssertionError: no plugin has failed like that.
        """
        self.settle()
        for failure in self.failures:
            if isinstance(failure.error, kind) and text in str(failure.error):
                self.failures.remove(failure)
                return failure
        there = "\n".join(f"  {failure}" for failure in self.failures) or "  nothing"
        raise AssertionError(f"no plugin has failed with {kind.__name__} {text!r}; what failed:\n{there}")

    def close(self) -> None:
        """Stop all satellites.

        Raises:
            AssertionError: a plugin has failed unexpectedly.
        """
        for satellite in reversed(list(self.satellites.values())):
            satellite.stop()
        self._tester.stop()
        self.relay.stop()
        if self.failures:
            text = "\n".join(f"  {failure}" for failure in self.failures)
            raise AssertionError(f"plugins have failed:\n{text}\nexpect_failure() is for those that should") from (
                self.failures[0].error
            )

    # ---- what satellites need --------------------------------------------------------------------------

    def tables_with(
        self, found: Sequence[FoundPackage], config: Mapping[str, Any] | None
    ) -> dict[str, Mapping[str, Any]]:
        """Return the tables of the configuration, by package, with the given ones for these packages."""
        if config is None:
            return self._tables
        return {**self._tables, **({found[0].name: config} if len(found) == 1 else config)}

    def opened(self, address: tuple[str, int]) -> Peer:
        """Connect a satellite; return its link."""
        peer = self.core.opened(address)
        self.wires[peer] = MemoryWire()
        return peer

    def lost(self, peer: Peer, why: str) -> None:
        """End a link at the relay."""
        self.driver.lost(peer, why)
        del self.wires[peer]

    def forget(self, name: str) -> None:
        """Forget a satellite that has stopped."""
        self.satellites.pop(name, None)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Hold everything in the block, and do all waiting work at its end."""
        with self._lock:
            self._depth += 1
            try:
                yield
                if self._depth == 1:
                    self._pump()
            finally:
                self._depth -= 1

    def work(self) -> None:
        """Deliver messages that were just sent; from any thread. A network at work delivers them itself."""
        while self._something_sent() and self._lock.acquire(blocking=False):
            try:
                if self._depth:
                    return  # this thread is at work already
                self.settle()
            finally:
                self._lock.release()

    def answer(self, ask: Ask, asker: Home) -> Answered:
        """Call a method for a plugin."""
        with self.working():
            try:
                value = self._called(ask.method, ask.host_id, ask.argument, asker, ask.timeout)
                return Answered(ask.call_id, value)
            except PeerError as error:
                return Answered(ask.call_id, _NOTHING, error.code, str(error))

    # ---- calls -----------------------------------------------------------------------------------------

    def _called(self, method: str, host_id: str, argument: bytes, asker: Home, timeout: float) -> bytes:
        if method == "relay.get_satellites" and not host_id:
            return pack_value([self._row(satellite) for satellite in self.satellites.values()])
        carried = self._find(method, host_id, asker)
        if carried is None:
            raise NoSuchMethod(method)
        return carried.call(method, argument, timeout)

    def _find(self, method: str, host_id: str, asker: Home) -> Carried | None:
        if host_id:
            origin = host_id.partition("@")[0]
            if "@" not in host_id and origin != asker.name and asker.connected:
                origin = self.core.names.find(origin)
            host = next((one for one in (asker, *self._hosts) if one.name == origin), None)
            if host is not asker and not asker.connected:
                raise Unreachable(f"{method}: {asker!r} is not connected")
            if host is None or not (host is asker or host.connected):
                raise UnknownHost(f"there is no host {host_id}")
            return host.having(method)
        if (own := asker.having(method)) is not None or not asker.connected:
            return own
        found = [one for one in self._hosts if one.connected and one.having(method) is not None]
        if len(found) > 1:
            names = ", ".join(one.host_id for one in found)
            raise Ambiguous(f"several hosts have {method}; choose one with host_id: {names}")
        return found[0].having(method) if found else None

    @staticmethod
    def _row(satellite: Satellite) -> dict[str, Any]:
        methods, plugins = satellite.names()
        names = {"name": satellite.core.name, "host_id": satellite.host_id}
        return {**names, "methods": methods, "plugins": plugins, "state": "ok"}

    # ---- the rounds ------------------------------------------------------------------------------------

    @property
    def _hosts(self) -> list[Home]:
        return [*self.satellites.values(), self.relay]

    @property
    def _all(self) -> list[Satellite]:
        return [*self.satellites.values(), self._tester]

    def _plugins(self) -> Iterator[Carried]:
        for host in (*self._all, self.relay):
            yield from host.plugins.values()

    def _something_sent(self) -> bool:
        return any(one.has_sent for one in self._plugins())

    def _pump(self) -> None:
        for _ in range(ROUNDS):
            if not (self._carry() or self._work_off() or self._turn()):
                return
        last = "\n".join(f"  {message!r:.200}" for message in self.received[-4:])
        raise AssertionError(
            f"the network does not come to rest: plugins keep answering each other; the last messages:\n{last}"
        )

    def _carry(self) -> bool:
        """Carry frames from plugins to the relay, and from there to satellites."""
        moved = False
        for satellite in self._all:
            moved |= satellite.cut()
            frames = satellite.written() if satellite.peer is not None else []
            moved |= bool(frames)
            while frames and satellite.peer is not None:
                satellite.peer.asked = 0
                frames = frames[self.driver.received(satellite.peer, frames) :]
        moved |= self.relay.cut()
        if self.log.committed < self.log.last:
            self.log.committed = self.log.last
            self.driver.committed(self.log.last)
        self.core.roster.tell(ROSTER_BYTES)
        self.driver.flush()
        for satellite in self._all:
            frames = self.wires[satellite.peer].taken() if satellite.peer is not None else []
            satellite.driver.received(frames)
            moved |= bool(frames)
        return moved

    def _handle(self, event: Event) -> None:
        roster = self.core.roster
        match event:
            case AdmissionWanted() as asked:
                self.relay.ask(asked)
            case ValuesWanted(_, question):
                self.core.values_read(question, answer(question, partial(entry_at, self.log.read), self.clock.now))
            case Joined(peer) if peer.origin != _TESTER:
                roster.put(peer.origin, str(peer.host_id), peer.methods, peer.plugins, peer.name)
                self.relay.joined(peer)
            case Left(peer, _, _) if peer.origin:
                roster.remove(peer.origin)
                self.relay.left(peer)

    def _work_off(self) -> bool:
        """Make each plugin do one of its waiting jobs."""
        moved = False
        for one in self._plugins():
            moved |= one.step()
        return moved

    def _turn(self) -> bool:
        """Run tasks of plugins for a moment; return whether messages resulted."""
        for one in self._plugins():
            one.turn()
        return self._something_sent()
