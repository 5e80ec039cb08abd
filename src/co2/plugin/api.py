"""What a plugin author sees: one class to inherit from."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from co2.errors import NotRunning
from co2.values import pack

__all__ = ["DEBUG", "FLUSH_TIMEOUT", "INFO", "WARNING", "Binding", "Co2Plugin"]

DEBUG = 10
INFO = 20
WARNING = 30
"""``logging``'s levels; the module itself stays out of plugin hosts until a plugin imports it."""

FLUSH_TIMEOUT = 5.0
"""Seconds that ``flush`` waits unless told otherwise."""


class Binding(Protocol):
    """What ties a plugin to the plugin host that carries it.

    Attributes:
        name: ``<package>.<module>.<class>``.
        initialised: set by ``Co2Plugin.__init__``; a plugin that forgot to call it is not loaded.
    """

    name: str
    initialised: bool

    def send(self, message: Mapping[str, Any], /) -> None:
        """Encode a message and send it."""

    def flush(self, timeout: float) -> None:
        """Wait until all that was sent is acknowledged."""

    def record(self, level: int, text: str) -> None:
        """Write a line to the host's log."""


class Co2Plugin:
    """Base of every plugin. Inherit from it in a class whose name begins with ``X_``.

    A plugin is an actor: ``__init__``, ``receive``, the ``x_`` methods and ``__exit__`` are called one at a
    time, all in the plugin's own thread, so that attributes need no locks. ``async def`` works for all of
    them but ``__init__``. Methods called ``x_…`` take one dictionary and can be called from the whole network.

    Args:
        var_dict: what the host tells its plugins: ``role``, ``host_id``, ``relay``, ``version`` and more.
    """

    # A host sets all three before __init__ runs, so that they are there even above super().__init__(var_dict).
    config: dict[str, Any] = {}  # noqa: RUF012 - a default for plugins outside of any host, never written
    """The table ``[plugin.<package>]`` of the configuration."""
    name: str = ""
    """``<package>.<module>.<class>``, unless the class has a ``name`` of its own."""
    channels: Sequence[str] = ()
    """Patterns over the channels that it wants to receive: ``*`` is one token, ``>`` the rest, as in
    ``("stage.*", "lab.>")``. None given: everything, also messages without a channel."""
    durable: bool = False
    """After a restart of the satellite go on where it left off, instead of with what comes then."""
    live: Sequence[str] = ()
    """Patterns over the channels of what it sends that is worthless a second later: not stored, may be lost."""
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
