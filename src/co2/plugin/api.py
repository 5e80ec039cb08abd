"""The base class of all plugins."""

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
"""The levels of ``logging``. Its import takes time, so a plugin host does without it until a plugin imports it."""

FLUSH_TIMEOUT = 5.0
"""Seconds that ``flush`` waits by default."""

CALL_TIMEOUT = 30.0
"""Seconds that ``call`` waits by default."""


class Services(Protocol):
    """Everything that the plugin host offers a plugin besides sending and receiving.

    The methods are those of :class:`Co2Plugin`, which describes them, their arguments and errors.
    """

    @property
    def store(self) -> MutableMapping[str, Any]:
        """Return the store of the package."""

    def every(self, seconds: float, function: Callable[[], Any]) -> "Timer":
        """Call a function of the plugin repeatedly."""

    def call(self, method: str, argument: dict[str, Any], host_id: str, timeout: float) -> Any:
        """Call a method and wait for its result."""

    def call_async(
        self, method: str, argument: dict[str, Any], host_id: str, timeout: float
    ) -> Coroutine[Any, Any, Any]:
        """Return a coroutine that calls a method and returns its result."""

    def hosts(self) -> "list[Host]":
        """Return the satellites of the network."""


class Binding(Protocol):
    """The connection of a plugin to the plugin host that runs it.

    Attributes:
        name: ``<package>.<module>.<class>``.
        initialised: whether ``Co2Plugin.__init__`` was called; a plugin that does not call it is not loaded.
    """

    name: str
    initialised: bool

    @property
    def services(self) -> Services:
        """Return everything else that the plugin host offers."""

    def send(self, data_dict: Mapping[str, Any]) -> None:
        """Encode a message and send it."""

    def flush(self, timeout: float) -> None:
        """Wait until all messages of the plugin are acknowledged."""

    def record(self, level: int, text: str) -> None:
        """Write a line to the host's log."""


class _Store:
    """Descriptor of the package's store. Unlike with a property, a plugin may assign a ``store`` of its own."""

    def __get__(self, plugin: "Co2Plugin | None", kind: type) -> MutableMapping[str, Any]:
        if plugin is None:
            raise AttributeError("store belongs to a plugin, not to its class")
        return plugin._carried("store anything").services.store


class Co2Plugin:
    """Base of every plugin. Inherit from it in a class whose name begins with ``X_``.

    A plugin is an actor: ``__init__``, ``receive``, the ``x_`` methods, the functions of its timers and
    ``__exit__`` are called one at a time, all in the plugin's own thread, so its attributes need no locks. All of
    them except ``__init__`` may be ``async def``. The whole network can call a method named ``x_…``: with one
    dictionary, or with parameters that have annotations.

    Args:
        var_dict: the host's ``role``, ``host_id``, ``relay``, ``version`` and more.
    """

    # The plugin host sets config, name and _co2 before __init__ runs, so a plugin can use them even above
    # super().__init__(var_dict).
    config: Any = {}  # noqa: RUF012 - a default for plugins outside of any host, never written
    """The table ``[plugin.<package>]`` of the configuration: a dictionary, or an instance of the attribute
    ``Config`` of the class or of the package, a ``msgspec.Struct`` or a dataclass."""
    name: str = ""
    """``<package>.<module>.<class>``, unless the class has a ``name`` of its own."""
    channels: Sequence[str] = ()
    """Patterns of the channels that the plugin receives: ``*`` stands for one token, ``>`` at the end for one or
    more, as in ``("stage.*", "lab.>")``. If it is empty, the plugin receives all messages, including those without
    a channel."""
    durable: bool = False
    """Whether the plugin continues where it stopped after a restart of the satellite, instead of with the messages
    that are sent from then on."""
    snapshot: bool | Sequence[str] = False
    """Whether ``receive`` first gets the last message on each of the plugin's channels, before those that are sent
    from then on; or patterns of the channels of which it does. Such a message has ``snapshot: True``, and its
    ``age`` in seconds. They come once: when the package starts with its satellite, or is loaded."""
    live: Sequence[str] = ()
    """Patterns of the channels on which the plugin's messages are worthless a second later: such messages are not
    stored, and may be lost."""
    sends: Mapping[str, Any] = {}
    """What the plugin sends: patterns of channels, and the type of ``data`` on them, as in ``{"stage.*": float}``.
    It is for programs, which get it with ``co2.plugin.get_sends_schema``; co2 does not check messages by it."""
    times: bool = False
    """Whether each message that the plugin receives has a key ``at``: the time at which the relay got it, in
    seconds since 1970 by the relay's clock, which never goes back while the relay runs. A message of the plugin's
    own host does not come from the relay: it has the time of that host."""
    store = _Store()
    """A small dictionary on the satellite's disk, one for all plugins of the package. It survives their end.

    Keys are text of up to 256 bytes, values whatever a message may contain; all together have at most 16 MiB. When
    an assignment returns, the value is on disk. ``update`` stores several values, all or none. The store may be
    used from any thread. It raises NotRunning if no host runs the plugin, StoreLimit, ValueRefused or TooBig (also
    ValueErrors) for what cannot be stored, StorageFull if the disk is full, and StorageFailed if it fails."""
    exclusive: bool = False
    """Whether the plugin holds something that only one can have, such as a port or a device. At a reload the old
    plugin then exits before the new one is made, not after."""
    _co2: Binding | None = None

    @classmethod
    def wanted_channels(cls, config: Any) -> Sequence[str]:
        """Return the patterns of the channels that the plugin receives, if the configuration decides; override it.

        It is called before the plugin is made. By default it returns ``channels``.

        Args:
            config: that becomes the plugin's ``config``.
        """
        return cls.channels

    def __init__(self, var_dict: Mapping[str, Any]) -> None:
        if self._co2 is not None:
            self._co2.initialised = True

    def send(self, data_dict: Mapping[str, Any]) -> None:
        """Send a message to the network. May be called from any thread.

        The message is encoded before this method returns, so later changes to the dictionary have no effect. It
        returns at once while the outbox has room, and otherwise waits up to ``send_timeout`` for room.

        Args:
            data_dict: a dictionary with the mandatory key ``data``. Other keys are sent too; the hosts set
                ``host_id`` and ``client_address``. With the key ``ttl``, a number of seconds, plugins that start
                (``snapshot``) get the message for no longer than that; 0 means not at all. What is sent within
                ``receive`` gets the key ``cause``: the position of the message that it was called with.

        Raises:
            MessageError: it is not a dictionary, or has no key ``data``; also a ValueError.
            ValueRefused: a message cannot contain one of its values; also a ValueError.
            TooBig: the message is over the size limit; also a ValueError.
            OutboxFull: there was no room within ``send_timeout``; also a TimeoutError.
            NotRunning: no host runs this plugin (any more).
        """
        if self._co2 is None:
            pack(data_dict)  # an error in the message helps its author more than NotRunning does
            raise NotRunning(f"{_name_of(self)} is not carried by a host, so it cannot send")
        self._co2.send(data_dict)

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """Wait until the relay has acknowledged all messages that this plugin has sent so far.

        May be called from any thread; in an ``async def`` call it with ``asyncio.to_thread``. Do not call it in
        ``__init__``: messages that are sent there leave only when the whole package is loaded.

        Args:
            timeout: seconds to wait, 0 for not at all.

        Raises:
            ValueError: ``timeout`` is not a number of seconds.
            FlushTimeout: there was no acknowledgement in time; the messages still wait. Also a TimeoutError.
            OutboxFull: there was no room even for this request; also a TimeoutError.
            NotRunning: no host runs this plugin (any more).
        """
        if self._co2 is None:
            raise NotRunning(f"{_name_of(self)} is not carried by a host, so it cannot flush")
        self._co2.flush(timeout)

    def call(
        self,
        method: str,
        data: Any = None,
        host_id: str | None = None,
        timeout: float = CALL_TIMEOUT,
        **keys: Any,
    ) -> Any:
        """Call a method anywhere in the network and return its result. May be called from any thread.

        In an ``async def`` use :meth:`call_async`: while this method waits, the plugin does nothing else.

        Args:
            method: its name: ``ham.spam.call_me`` of a plugin on any satellite, this one included, or ``relay.…``
                of the relay.
            data: the value of the key ``data`` that the method gets; for a method with parameters, a dictionary
                of them.
            host_id: of the host to call; None for the one that has the method.
            timeout: seconds to wait. Other hosts never wait longer than 30 s.
            keys: other keys that the method gets, such as ``channel``.

        Raises:
            NoSuchMethod: no host has the method.
            Ambiguous: several hosts have it, and ``host_id`` selects none.
            BadParams: the method does not accept this argument.
            PluginFailed: the method raised an exception, or its plugin is not running.
            CallTimeout: there was no answer in time.
            UnknownHost, Unreachable: that host is not there, or the relay is away.
            RemoteFault: the other side answered with another error. This and all above are a ``PeerError``.
            CallRefused: the plugin calls itself in its own thread, or too many calls are under way.
            ValueRefused, TooBig: a message cannot contain ``data``.
            ValueError: ``method``, ``host_id`` or ``timeout`` has another form.
            NotRunning: no host runs this plugin (any more).
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
        """Call a method anywhere in the network and return its result; as :meth:`call`, for an ``async def``."""
        services = self._carried("call").services
        return await services.call_async(method, {**keys, "data": data}, host_id or "", timeout)

    def hosts(self) -> "list[Host]":
        """Return the satellites of the network as the relay last reported them, this plugin's own first.

        Returns:
            For each its ``host_id``, its ``methods`` and ``plugins``, and whether it is the plugin's ``own``.

        Raises:
            CallTimeout: the satellite did not answer within 5 s.
            NotRunning: no host runs this plugin (any more).
        """
        return self._carried("ask for hosts").services.hosts()

    def joined(self, host: "Host") -> Any:
        """React to another satellite that has joined, or whose methods or plugins have changed; override it.

        At the start it is called for each other satellite that is there.

        Args:
            host: the satellite, as in :meth:`hosts`.
        """

    def left(self, host: "Host") -> Any:
        """React to another satellite that has left; override it.

        While the relay is away it is not called; the changes follow when the relay is back.

        Args:
            host: the satellite, as it was last reported.
        """

    def every(self, seconds: float, function: Callable[[], Any]) -> "Timer":
        """Call a function repeatedly, in the plugin's own thread, between its other calls.

        The first call comes ``seconds`` after this one, or after the start of the package if that is later. A late
        call does not delay the following ones, and a call that is missed because the plugin is busy is left out.
        If the function raises an exception, it is logged and counted, and the timer continues. The timer ends with
        the plugin.

        Args:
            seconds: between two calls, 0.001 or more.
            function: takes no arguments; may be an ``async def``.

        Returns:
            The timer; its method ``cancel`` ends it.

        Raises:
            ValueError: ``seconds`` is not such a number.
            CallRefused: the package has 1,000 timers already.
            NotRunning: no host runs this plugin (any more).
        """
        return self._carried("set a timer").services.every(seconds, function)

    def receive(self, data_dict: dict[str, Any]) -> Any:
        """Process a message from the network; override it. A plugin that does not override it gets no messages.

        It should return within a second; start a thread for longer work. If it raises an exception, that is
        logged, and the message becomes a dead letter.

        Args:
            data_dict: the sender's keys, including ``data``, and ``host_id`` and ``client_address`` (a tuple of IP
                address and port). It has ``repeat: True`` if an earlier attempt to process this message failed.
                It has ``snapshot: True`` and ``age`` if it is the last one on its channel from before the start.
        """

    def gap(self, gap: dict[str, Any]) -> Any:
        """React to missing messages, which this plugin will not get; override it.

        It is called in their place between the other messages. By default it logs a warning.

        Args:
            gap: ``reason``, in words; ``after`` and ``next``, the positions of the last message before the gap and
                of the first message behind it, 0 if they are unknown.
        """
        self._record(WARNING, "gap: messages are missing: %s", (gap["reason"],))

    def handover(self) -> Any:
        """Return a value for the new code at a reload, such as a state to keep; override it.

        The value may be anything that a message may contain. This is called between two messages, and then this
        plugin gets no more. But if the new code fails, this same plugin continues, so do not close anything here.
        """

    def takeover(self, value: Any) -> Any:
        """Restore the value that ``handover`` of the old code has returned; override it.

        It is called before the first message, and only if the old code has a ``handover``.

        Args:
            value: as it came through the encoding of messages: tuples and sets are lists.
        """

    def log(self, text: object, *values: object) -> None:
        """Write a line to the satellite's log.

        Args:
            text: with placeholders for the values, as in the ``logging`` module.
            values: for the placeholders.
        """
        self._record(INFO, text, values)

    def debug(self, text: object, *values: object) -> None:
        """Write a line to the satellite's debug log; the arguments are those of :meth:`log`."""
        self._record(DEBUG, text, values)

    def __exit__(self, *exc_info: object) -> Any:
        """Close what the plugin has opened; override it.

        It is called when the host stops, when the package is unloaded, and at a reload. Messages that it sends are
        still sent.
        """

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
    # A wrong placeholder in a log line must not raise here: the message being processed would be a dead letter.
    try:
        return str(text) % values if values else str(text)
    except Exception as error:
        return f"{text!r} % {values!r:.400} ({type(error).__name__}: {error})"


def _labelled(plugin: Co2Plugin, text: str) -> str:
    """Put the plugin's ``str()`` before the text, unless it is the plugin's name, which the log shows anyway."""
    try:
        label = str(plugin)
    except Exception:
        return text
    return text if label == _name_of(plugin) else f"{label}: {text}"
