"""Services of plugins besides sending and receiving: calls, timers, a store, and the list of hosts."""

import threading
from collections.abc import Callable, Collection, Coroutine, MutableMapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from co2.errors import CallRefused, NotRunning
from co2.plugin.api import WARNING, Co2Plugin
from co2.plugin.child.calls import OutgoingCalls, checked_timeout
from co2.plugin.timers import Timer, Timers
from co2.protocol.wire.host_names import MAX_METHOD_NAME
from co2.protocol.wire.plugin_frames.frames import Answered, Ask, AskHosts, Host, Hosts, Load, text_for_frame
from co2.values import pack_value, unpack_value

if TYPE_CHECKING:
    from co2.store.key_values import KeyValues

__all__ = ["HOSTS_TIMEOUT", "PluginServices", "SharedServices"]

HOSTS_TIMEOUT = 5.0
"""Seconds within which the satellite must have sent the list of hosts."""


class Carrier(Protocol):
    """The interface of the actor for the services."""

    name: str

    @property
    def in_own_thread(self) -> bool:
        """Whether this is the plugin's thread."""

    def callback(self, what: str, function: Callable[[], Any], done: Callable[[], None]) -> None:
        """Call a function of the plugin in its thread; then ``done``."""


class FrameWriter(Protocol):
    """The interface of the writer for the services: ``writer.py``."""

    def frame(self, frame: Ask | AskHosts, /) -> None:
        """Queue a request."""

    def record(self, source: str, level: int, text: str) -> None:
        """Queue a line for the log."""


class GreetedPlugin(Protocol):
    """A plugin with ``joined`` or ``left``, and its services.

    Attributes:
        plugin: None before it is made.
        services: its own.
    """

    plugin: Co2Plugin | None
    services: "PluginServices"


class SharedServices:
    """The services of one package, shared by its plugins.

    Args:
        writer: to the host.
        make_timers: returns its timers.
    """

    def __init__(self, writer: "FrameWriter", make_timers: Callable[[], Timers] = Timers) -> None:
        self.outgoing_calls = OutgoingCalls(writer.frame)
        self.timers = make_timers()
        self._make_timers = make_timers
        self.origin = ""
        self._writer = writer
        self._store: KeyValues | None = None
        self._store_path = ""
        self._lock = threading.Lock()

    def prepare(self, load: Load) -> None:
        """Set the origin of the host and the path of the store."""
        self.origin = str(load.var_dict.get("host_id", "")).partition("@")[0]
        self._store_path = load.store

    @property
    def store(self) -> MutableMapping[str, Any]:
        """The store, opened at the first use: SQLite is imported only if needed."""
        with self._lock:
            if self._store is None:
                if not self._store_path:
                    raise NotRunning("this host has no state folder, so there is no store")
                from co2.store.key_values import KeyValues

                self._store = KeyValues(Path(self._store_path), partial(self._writer.record, "", WARNING))
            return self._store

    def take(self, frame: Answered | Hosts, greeting: "Collection[GreetedPlugin]") -> None:
        """Process an answer of the satellite, or news of hosts for the plugins that want them."""
        if isinstance(frame, Answered) or frame.call_id:
            self.outgoing_calls.take(frame)
            return
        for actor in greeting:
            if actor.plugin is not None:
                actor.services.greet(actor.plugin, frame)

    def close(self) -> None:
        """Close timers and store: the plugins have ended."""
        self.timers.close()
        with self._lock:
            if self._store is not None:
                self._store.close()

    def renew(self) -> None:
        """Prepare for new plugins. Requests keep their numbers: a late answer must not be taken for another's."""
        self.timers = self._make_timers()
        with self._lock:
            self._store = None


class PluginServices:
    """The services of one plugin.

    Args:
        shared: the services of its package.
        carrier: actor of the plugin.
        methods: names under which its ``x_`` methods are called.
    """

    def __init__(self, shared: SharedServices, carrier: Carrier, methods: Collection[str]) -> None:
        self._shared = shared
        self._carrier = carrier
        self._methods = methods

    @property
    def store(self) -> MutableMapping[str, Any]:
        """The store of the package."""
        return self._shared.store

    def every(self, seconds: float, function: Callable[[], Any]) -> Timer:
        """Call a function of the plugin repeatedly."""
        if not callable(function):
            raise TypeError(f"every: expected a function, found {function!r:.80}")
        name = getattr(function, "__name__", "a function")

        def put(timer: Timer) -> None:
            what = f"{name}(), called every {timer.seconds:.3g} s,"
            self._carrier.callback(what, lambda: None if timer.cancelled else function(), timer.done)

        return self._shared.timers.every(seconds, put)

    def hold_timers(self) -> None:
        """Hold all timers of the package until the host starts them again."""
        self._shared.timers.hold()

    def call(self, method: str, argument: dict[str, Any], host_id: str, timeout: float) -> Any:
        """Call a method and wait for its result."""
        packed, timeout = self._checked(method, argument, host_id, timeout)
        return unpack_value(self._shared.outgoing_calls.call(method, host_id, packed, timeout))

    def call_async(
        self, method: str, argument: dict[str, Any], host_id: str, timeout: float
    ) -> Coroutine[Any, Any, Any]:
        """Return an awaitable of a method's result."""
        from co2.plugin.child.event_loop import asked

        packed, timeout = self._checked(method, argument, host_id, timeout)
        return asked(self._shared.outgoing_calls, method, host_id, packed, timeout)

    def _is_here(self, host: str) -> bool:
        """Return whether a host, given by its host_id, its name or the beginning of one, is the plugin's own.

        A name is looked up among the hosts of the network: only a call of a method of one's own waits for that.
        """
        if not host or host.partition("@")[0] == self._shared.origin:
            return True
        if "@" in host:
            return False
        hosts = self.hosts()
        meant = [one for one in hosts if one.name == host]
        meant = meant or [one for one in hosts if one.name.startswith(host) or one.host_id.startswith(host)]
        # A relay is not in the list that its own plugins get: what means nobody else may mean it.
        return all(one.own for one in meant) if meant else not any(one.own for one in hosts)

    def hosts(self) -> list[Host]:
        """Return the satellites of the network."""
        return self._shared.outgoing_calls.hosts(HOSTS_TIMEOUT)

    def greet(self, plugin: Co2Plugin, frame: Hosts) -> None:
        """Report the hosts that have joined and left to the plugin."""
        for what, function, hosts in (
            ("joined", plugin.joined, frame.hosts),
            ("left", plugin.left, frame.left),
        ):
            for host in hosts:
                self._carrier.callback(what, partial(function, host), _nothing)

    def _checked(self, method: str, argument: dict[str, Any], host_id: str, timeout: float) -> tuple[bytes, float]:
        if not isinstance(method, str) or not 0 < len(method) <= MAX_METHOD_NAME:
            raise ValueError(f"call: expected the name of a method, found {method!r:.80}")
        if not isinstance(host_id, str):
            raise ValueError(f"call: host_id must be text or None, found {host_id!r:.80}")
        for text in (method, host_id):
            if text_for_frame(text) != text:
                raise ValueError(f"call: not valid Unicode: {text!r:.80}")
        if method in self._methods and self._carrier.in_own_thread and self._is_here(host_id):
            raise CallRefused(
                f"{self._carrier.name} calls itself: {method} could only begin once the current call has "
                f"returned, so this would wait forever; call self.x_{method.rpartition('.')[2]}(…) instead"
            )
        return pack_value(argument), checked_timeout(timeout)


def _nothing() -> None:
    """Do nothing after a call that nobody waits for."""
