"""What a plugin author sees: one class to inherit from."""

from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from co2.errors import NotRunning
from co2.values import pack

if TYPE_CHECKING:
    from co2.plugin.timers import Timer
    from co2.protocol.wire.plugin_frames.frames import Host

__all__ = ["CALL_TIMEOUT", "DEBUG", "FLUSH_TIMEOUT", "INFO", "WARNING", "Binding", "Co2Plugin"]

DEBUG = 10
INFO = 20
WARNING = 30
"""``logging``'s levels; the module itself stays out of plugin hosts until a plugin imports it."""

FLUSH_TIMEOUT = 5.0
"""Seconds that ``flush`` waits unless told otherwise."""

CALL_TIMEOUT = 30.0
"""Seconds that ``call`` waits unless told otherwise."""


class Services(Protocol):
    """What a plugin has besides sending and receiving; the methods are those of :class:`Co2Plugin`, checked."""

    @property
    def store(self) -> MutableMapping[str, Any]:
        """Return what the package keeps from run to run."""

    def every(self, seconds: float, function: Callable[[], Any]) -> "Timer":
        """Call a function of the plugin again and again."""

    def call(self, method: str, argument: dict[str, Any], host_id: str, timeout: float) -> Any:
        """Call a method and wait for its result."""

    def call_async(
        self, method: str, argument: dict[str, Any], host_id: str, timeout: float
    ) -> Coroutine[Any, Any, Any]:
        """Return an awaitable of a method's result."""

    def hosts(self) -> "list[Host]":
        """Return who is there."""


class Binding(Protocol):
    """What ties a plugin to the plugin host that carries it.

    Attributes:
        name: ``<package>.<module>.<class>``.
        initialised: set by ``Co2Plugin.__init__``; a plugin that forgot to call it is not loaded.
    """

    name: str
    initialised: bool

    @property
    def services(self) -> Services:
        """Return what a plugin has besides sending and receiving."""

    def send(self, data_dict: Mapping[str, Any]) -> None:
        """Encode a message and send it."""

    def flush(self, timeout: float) -> None:
        """Wait until all that was sent is acknowledged."""

    def record(self, level: int, text: str) -> None:
        """Write a line to the host's log."""


class _Store:
    """Finds the store when somebody asks for it. Unlike a property it lets a plugin have its own ``store``."""

    def __get__(self, plugin: "Co2Plugin | None", kind: type) -> MutableMapping[str, Any]:
        if plugin is None:
            raise AttributeError("store belongs to a plugin, not to its class")
        return plugin._carried("store anything").services.store


class Co2Plugin:
    """Base of every plugin. Inherit from it in a class whose name begins with ``X_``.

    A plugin is an actor: ``__init__``, ``receive``, the ``x_`` methods, what it has called by ``every``, and
    ``__exit__`` are called one at a time, all in the plugin's own thread, so that attributes need no locks.
    ``async def`` works for all of them but ``__init__``. Methods called ``x_…`` can be called from the whole
    network: with one dictionary, or with parameters that have annotations.

    Args:
        var_dict: what the host tells its plugins: ``role``, ``host_id``, ``relay``, ``version`` and more.
    """

    # A host sets all three before __init__ runs, so that they are there even above super().__init__(var_dict).
    config: Any = {}  # noqa: RUF012 - a default for plugins outside of any host, never written
    """The table ``[plugin.<package>]`` of the configuration: a dictionary; or what the attribute ``Config`` of the
    class or of the package says, a ``msgspec.Struct`` or a dataclass."""
    name: str = ""
    """``<package>.<module>.<class>``, unless the class has a ``name`` of its own."""
    channels: Sequence[str] = ()
    """Patterns over the channels that it wants to receive: ``*`` is one token, ``>`` the rest, as in
    ``("stage.*", "lab.>")``. None given: everything, also messages without a channel."""
    durable: bool = False
    """After a restart of the satellite go on where it left off, instead of with what comes then."""
    live: Sequence[str] = ()
    """Patterns over the channels of what it sends that is worthless a second later: not stored, may be lost."""
    store = _Store()
    """A small dictionary on the satellite's disk, for all plugins of this package: it outlives them.

    Keys are text of up to 256 bytes, values what can travel in a message; 16 MiB in all. What is assigned is on
    disk when the assignment has returned; ``update`` stores several values, all or none. May be used from any
    thread. It raises NotRunning where no host carries the plugin, StoreLimit, ValueRefused and TooBig (also
    ValueErrors) for what cannot be stored, StorageFull and StorageFailed where the disk has no room or does not
    do its work."""
    exclusive: bool = False
    """It holds what only one can have, a port or a device: at a reload the old one exits before the new one is
    made, not after."""
    _co2: Binding | None = None

    def __init__(self, var_dict: Mapping[str, Any]) -> None:
        if self._co2 is not None:
            self._co2.initialised = True

    def send(self, data_dict: Mapping[str, Any]) -> None:
        """Send a message to the network. May be called from any thread.

        It is encoded before this returns, so later changes to it do not matter. Returns at once while there
        is room, else waits for it.

        Args:
            data_dict: a dictionary with the mandatory key ``data``. Other keys travel along; ``host_id`` and
                ``client_address`` are set by the hosts.

        Raises:
            MessageError: not a dictionary, or no key ``data``; also a ValueError.
            ValueRefused: a value that cannot travel; also a ValueError.
            TooBig: the message is over the size limit; also a ValueError.
            OutboxFull: no room within ``send_timeout``; also a TimeoutError.
            NotRunning: no host carries this plugin (any more).
        """
        if self._co2 is None:
            pack(data_dict)  # what is wrong with it is worth more than that nobody carries us
            raise NotRunning(f"{_name_of(self)} is not carried by a host, so it cannot send")
        self._co2.send(data_dict)

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """Wait until everything that this plugin has sent so far is acknowledged: it has left this host for good.

        May be called from any thread; in an ``async def`` call it with ``asyncio.to_thread``. What was sent in
        ``__init__`` leaves when the whole package is loaded, so it cannot be waited for there.

        Args:
            timeout: seconds to wait.

        Raises:
            FlushTimeout: no acknowledgement in time; what was sent still waits. Also a TimeoutError.
            OutboxFull: not even the request for it found room; also a TimeoutError.
            NotRunning: no host carries this plugin (any more).
        """
        if self._co2 is None:
            raise NotRunning(f"{_name_of(self)} is not carried by a host, so there is nothing to flush")
        self._co2.flush(timeout)

    def call(
        self,
        method: str,
        data: Any = None,
        host_id: str | None = None,
        timeout: float = CALL_TIMEOUT,
        **keys: Any,
    ) -> Any:
        """Call a method anywhere in the network and wait for what it returns. May be called from any thread.

        In an ``async def`` use :meth:`call_async`: this one would hold up all that the plugin does.

        Args:
            method: its name: ``ham.spam.call_me`` of a plugin, also of this satellite; ``relay.…`` of the relay.
            data: what the method gets under the key ``data``; of one with parameters, a dictionary of them.
            host_id: of the host to be called; None for the one that has the method.
            timeout: seconds to wait. Other hosts give up after 30 s in any case.
            keys: other keys that the method gets, ``channel`` maybe.

        Raises:
            NoSuchMethod: nobody has it.
            Ambiguous: several hosts have it, and ``host_id`` does not say which.
            BadParams: it does not take this argument.
            PluginFailed: it raised, or its plugin is not running.
            CallTimeout: no answer in time.
            UnknownHost, Unreachable: that host is not there, or the relay is away.
            RemoteFault: whatever else the other side answered; all of these are a ``PeerError``.
            CallRefused: a plugin calls itself in its own thread, or too many calls are under way.
            ValueRefused, TooBig: ``data`` cannot travel.
            NotRunning: no host carries this plugin (any more).
        """
        return self._carried("call").services.call(method, {**keys, "data": data}, host_id or "", timeout)

    async def call_async(
        self,
        method: str,
        data: Any = None,
        host_id: str | None = None,
        timeout: float = CALL_TIMEOUT,
        **keys: Any,
    ) -> Any:
        """Call a method anywhere in the network; as :meth:`call`, for ``async def`` methods and tasks."""
        services = self._carried("call").services
        return await services.call_async(method, {**keys, "data": data}, host_id or "", timeout)

    def hosts(self) -> "list[Host]":
        """Give the satellites of the network as the relay told last, this plugin's own first.

        Returns:
            For each its ``host_id``, its ``methods`` and ``plugins``, and whether it is the plugin's ``own``.

        Raises:
            CallTimeout: the satellite did not answer within 5 s.
            NotRunning: no host carries this plugin (any more).
        """
        return self._carried("ask for hosts").services.hosts()

    def joined(self, host: "Host") -> Any:
        """Learn that another satellite is there, or tells other methods than before; override it.

        At the start it comes for all that are there.

        Args:
            host: as in :meth:`hosts`.
        """

    def left(self, host: "Host") -> Any:
        """Learn that another satellite has left; override it. What the relay does not tell is not known.

        Args:
            host: as it was told of last.
        """

    def every(self, seconds: float, function: Callable[[], Any]) -> "Timer":
        """Have a function called again and again, in the plugin's own thread, between its other calls.

        The first call comes so many seconds after this one, or after the package has begun. Times are counted from
        there: a call that takes long does not move the later ones, and those that were missed meanwhile are left
        out. What it raises is logged and counted, and the timer goes on. It ends with the plugin.

        Args:
            seconds: between two calls, from 0.001 up.
            function: without arguments, ``async def`` maybe.

        Returns:
            What ends it, with ``cancel()``.

        Raises:
            ValueError: no such number of seconds.
            CallRefused: the package has 1,000 timers already.
            NotRunning: no host carries this plugin (any more).
        """
        return self._carried("have anything called").services.every(seconds, function)

    def receive(self, data_dict: dict[str, Any]) -> Any:
        """Take a message from the network; override it. A plugin that does not only sends.

        Should return within a second; longer work belongs in a thread. What it raises goes to the log.

        Args:
            data_dict: the sender's keys, ``data`` among them, and ``host_id``, ``client_address`` (a tuple of IP
                address and port), and ``repeat: True`` where the plugin host died in this message before.
        """

    def gap(self, gap: dict[str, Any]) -> Any:
        """Learn of messages that this plugin will not get; override it. Comes in its place between the messages.

        Args:
            gap: ``reason``, in words; ``after`` and ``next``, the positions of the last message before it and of
                the first after it, 0 where these are not known.
        """
        self._record(WARNING, "gap: messages are missing: %s", (gap["reason"],))

    def handover(self) -> Any:
        """Give what the one that follows at a reload is to know; override it. Anything that can travel.

        Comes between two messages; after it this one gets no more, unless the new code fails: then it goes on, so
        nothing should be closed here.
        """

    def takeover(self, value: Any) -> Any:
        """Take what ``handover`` of the one before has given; override it. Comes before any message.

        Args:
            value: as it travelled: tuples and sets are lists.
        """

    def log(self, text: object, *values: object) -> None:
        """Write a line to the satellite's log. Text and values as in the ``logging`` module."""
        self._record(INFO, text, values)

    def debug(self, text: object, *values: object) -> None:
        """Write a line to the satellite's debug log."""
        self._record(DEBUG, text, values)

    def __exit__(self, *exc_info: object) -> Any:
        """Clean up; called when the host stops, and at a reload. What is sent here still goes out."""

    def __str__(self) -> str:
        return _name_of(self)

    def __repr__(self) -> str:
        return str(self)

    def _carried(self, what: str) -> Binding:
        if self._co2 is None:
            raise NotRunning(f"{_name_of(self)} is not carried by a host, so it cannot {what}")
        return self._co2

    def _record(self, level: int, text: object, values: tuple[object, ...]) -> None:
        if self._co2 is not None:
            self._co2.record(level, _labelled(self, _formatted(text, values)))


def _name_of(plugin: Co2Plugin) -> str:
    if plugin._co2 is not None:
        return plugin._co2.name
    kind = type(plugin)
    return f"{kind.__module__}.{kind.__qualname__}"


def _formatted(text: object, values: tuple[object, ...]) -> str:
    # A line of the log with a wrong placeholder is a small mistake: it must not cost the plugin its message.
    try:
        return str(text) % values if values else str(text)
    except Exception as error:
        return f"{text!r} % {values!r:.400} ({type(error).__name__}: {error})"


def _labelled(plugin: Co2Plugin, text: str) -> str:
    """Put the plugin's ``str()`` before the text where it is not its name, which the log has anyway."""
    try:
        label = str(plugin)
    except Exception:
        return text
    return text if label == _name_of(plugin) else f"{label}: {text}"
