"""Every error of co2, in one tree.

::

    Co2Error
    ├── UsageError                 a mistake of the caller: correct the call, the file or the command
    │   ├── ConfigError            a configuration file, variable or flag is wrong
    │   ├── MessageError           (ValueError) not a dictionary, or no key 'data'
    │   ├── ValueRefused           (ValueError) a value that cannot travel
    │   ├── TooBig                 (ValueError) a message over the size limit
    │   ├── OutboxFull             (TimeoutError) no room to send within send_timeout
    │   ├── FlushTimeout           (TimeoutError) flush() was not acknowledged in time
    │   ├── NotRunning             send() outside of a running host
    │   ├── CallRefused            (RuntimeError) a call that cannot be made: of oneself, or too many
    │   ├── StoreLimit             (ValueError) more than self.store may hold
    │   ├── LoadError              a plugin package that cannot be loaded
    │   └── StateError             the state folder is locked, a link, or open to others
    └── PeerError                  the other side misbehaved, or is not there; has a fault code
        ├── ParseError             -32700 not well-formed
        │   ├── WrongEncoding      -32701 an unsupported encoding
        │   └── AnswerTooBig       an answer over the limit of that call; reported as -32700
        ├── BadRequest             -32600 well-formed, but not a valid request
        │   ├── Busy               too much of that is under way: the same request may succeed later
        │   └── BadWebSocket       the bytes on a link break the WebSocket protocol
        ├── NoSuchMethod           -32601
        ├── BadParams              -32602
        ├── InternalError          -32603 our own bug; details are in the log, under an id
        ├── IdentityRefused        1001 a host_id that is not the caller's
        ├── NotOurRelay            1002 notify() from another caller than our relay
        ├── UnknownHost            1003 no such host is registered here
        ├── TooManySatellites      1004 the relay is full
        ├── NotCallable            1005 that host takes no calls: it registered without a port
        ├── Unreachable            1006 a host does not answer
        │   ├── FailedInside       the host answered with HTTP 500
        │   └── NothingListens     there is no program at its port
        ├── CallTimeout            1007 a call took longer than its deadline
        ├── PluginFailed           1008 the plugin raised, died or is not running
        ├── Ambiguous              1009 several hosts have that method
        ├── StorageFull            1010 the relay's disk has no room for another message
        │   └── StorageFailed      1011 the relay's disk failed
        ├── Denied                 1012 not for this caller: only from the host's own machine
        ├── NotLoadable            1013 a plugin package cannot be loaded, unloaded or reloaded
        └── RemoteFault            whatever code and text the other side answered with

Codes from -32768 to -32000 follow the XML-RPC fault code convention (Dan Libby, 2001);
codes from 1001 up are ours. Attributes hold the data, ``__str__`` makes the text.
"""

__all__ = [
    "Ambiguous",
    "AnswerTooBig",
    "BadParams",
    "BadRequest",
    "BadWebSocket",
    "Busy",
    "CallRefused",
    "CallTimeout",
    "Co2Error",
    "ConfigError",
    "Denied",
    "FailedInside",
    "FlushTimeout",
    "IdentityRefused",
    "InternalError",
    "LoadError",
    "MessageError",
    "NoSuchMethod",
    "NotCallable",
    "NotLoadable",
    "NotOurRelay",
    "NotRunning",
    "NothingListens",
    "OutboxFull",
    "ParseError",
    "PeerError",
    "PluginFailed",
    "RemoteFault",
    "StateError",
    "StorageFailed",
    "StorageFull",
    "StoreLimit",
    "TooBig",
    "TooManySatellites",
    "UnknownHost",
    "Unreachable",
    "UsageError",
    "ValueRefused",
    "WrongEncoding",
]


class Co2Error(Exception):
    """Root of all errors that co2 raises on purpose."""


class UsageError(Co2Error):
    """The caller made a mistake: the text names what, where, and what to do next."""


class ConfigError(UsageError):
    """A configuration value is wrong.

    Args:
        where: file and line or key, variable name or flag, as a user would look for it.
        problem: what is wrong and what was expected.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(where, problem)
        self.where = where
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


class MessageError(UsageError, ValueError):
    """The argument of send() is not a message: not a dictionary, or without the key 'data'."""


class ValueRefused(UsageError, ValueError):
    """A value that cannot travel. E_VALUE."""


class TooBig(UsageError, ValueError):
    """A message over the size limit.

    Args:
        size: of the encoded message, in bytes.
        limit: in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return f"the encoded message has {self.size} bytes; the limit is {self.limit}: split it"


class OutboxFull(UsageError, TimeoutError):
    """No room in the outbox within the send timeout: the relay is away or slower than this sender.

    Args:
        timeout: seconds waited.
        reason: the limit that is reached and what delays the queue, '' for unknown.
    """

    def __init__(self, timeout: float, reason: str = "") -> None:
        super().__init__(timeout, reason)
        self.timeout = timeout
        self.reason = reason

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return (
            f"the message was not sent, because the outbox had no room for {self.timeout:g} s{why}. Drop it or "
            "send it later; outbox_max and send_timeout in co2.toml set the limits"
        )


class FlushTimeout(UsageError, TimeoutError):
    """The relay did not acknowledge all messages within the timeout of flush(). None is lost: they go out later.

    Args:
        timeout: seconds waited.
        reason: the satellite's reason, '' for none.
    """

    def __init__(self, timeout: float, reason: str = "") -> None:
        super().__init__(timeout, reason)
        self.timeout = timeout
        self.reason = reason

    def __str__(self) -> str:
        late = (
            f"no acknowledgement within {self.timeout:g} s: the relay is away, slow, or its disk is full (co2 ps)"
        )
        return (
            f"{self.reason or late}. The messages still wait and will be sent: "
            "do not send them again; call flush() again, or with a longer timeout"
        )


class NotRunning(UsageError):
    """send() was called on a plugin that no host runs, or runs no longer."""


class CallRefused(UsageError, RuntimeError):
    """A call that cannot be made: a plugin calls itself, or has too many calls in progress."""


class StoreLimit(UsageError, ValueError):
    """More than a package's store may hold, or a key that is too long. Nothing was stored."""


class LoadError(UsageError):
    """A plugin package cannot be loaded.

    Args:
        package: name of the package.
        problem: what was found, and what was expected.
        where: ``file:line`` or class, where known.
    """

    def __init__(self, package: str, problem: str, where: str = "") -> None:
        super().__init__(package, problem, where)
        self.package = package
        self.problem = problem
        self.where = where

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"plugin package {self.package!r}{place}: {self.problem}"


class StateError(UsageError):
    """The state folder cannot be used: locked by another process, a link, or open to others."""


class PeerError(Co2Error):
    """The other side misbehaved or cannot be reached; callers receive the fault code ``code``."""

    code = -32500


class ParseError(PeerError):
    """Not well-formed XML, or not an XML-RPC document."""

    code = -32700


class WrongEncoding(ParseError):
    """A document in an encoding that the parser does not support."""

    code = -32701


class AnswerTooBig(ParseError):
    """An answer with more bytes or values than this call allows."""


class BadRequest(PeerError):
    """A well-formed request that this server does not accept."""

    code = -32600


class Busy(BadRequest):
    """The host has no room for the request now; the same request may succeed a little later."""


class BadWebSocket(BadRequest):
    """The bytes on a link break the WebSocket protocol.

    Args:
        close_code: status code of the close frame (RFC 6455, 7.4.1).
        text: what is wrong.
    """

    def __init__(self, close_code: int, text: str) -> None:
        super().__init__(text)
        self.close_code = close_code


class NoSuchMethod(PeerError):
    """The registry has no method of that name.

    Args:
        name: as the caller gave it; shortened in the text.
        meant: the name that was probably meant, '' for none.
    """

    code = -32601

    def __init__(self, name: str, meant: str = "") -> None:
        super().__init__(name, meant)
        self.name = name
        self.meant = meant

    def __str__(self) -> str:
        meant = f"; did you mean {self.meant!r}?" if self.meant else ";"
        return f"no such method: {self.name[:128]!r}{meant} co2 methods, or system.listMethods, lists the methods"


class BadParams(PeerError):
    """The method exists, but its parameters are wrong."""

    code = -32602


class InternalError(PeerError):
    """A bug of our own.

    Args:
        error_id: id of the full record in the host's log.
    """

    code = -32603

    def __init__(self, error_id: str) -> None:
        super().__init__(error_id)
        self.error_id = error_id

    def __str__(self) -> str:
        return f"internal error {self.error_id}; the host's log has the details under that id"


class IdentityRefused(PeerError):
    """The host part of a host_id is not the address that the request came from."""

    code = 1001


class NotOurRelay(PeerError):
    """A caller other than this satellite's relay called notify()."""

    code = 1002


class UnknownHost(PeerError):
    """No host with that host_id is registered."""

    code = 1003


class TooManySatellites(PeerError):
    """The relay has as many satellites as its configuration allows.

    Args:
        max_sats: the configured number.
        there_are: the part of this number that is used up, '' for all of it.
    """

    code = 1004

    def __init__(self, max_sats: int, there_are: str = "") -> None:
        super().__init__(max_sats, there_are)
        self.max_sats = max_sats
        self.there_are = there_are

    def __str__(self) -> str:
        if self.there_are:
            return f"this relay already has {self.there_are}; unregister some of them, or try again later"
        return f"this relay is full: max_sats is {self.max_sats}; try again later, or use another relay"


class NotCallable(PeerError):
    """The host registered without a port, so nobody can call it."""

    code = 1005


class Unreachable(PeerError):
    """The host does not answer."""

    code = 1006


class FailedInside(Unreachable):
    """The host answered a call with HTTP 500, an error of its server: other calls may succeed."""


class NothingListens(Unreachable):
    """The machine of the host answers, but no program listens at its port.

    Args:
        url: of the host.
        reason: as the operating system words it.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.url} does not answer: {self.reason}"


class CallTimeout(PeerError):
    """A call took longer than its deadline.

    Args:
        what: method or host that was called.
        timeout: seconds waited.
    """

    code = 1007

    def __init__(self, what: str, timeout: float) -> None:
        super().__init__(what, timeout)
        self.what = what
        self.timeout = timeout

    def __str__(self) -> str:
        return f"{self.what} did not answer within {self.timeout:g} s"


class PluginFailed(PeerError):
    """A plugin's method raised, its plugin host died, or it is not running."""

    code = 1008


class Ambiguous(PeerError):
    """Several hosts have a method of that name; ``host_id`` must name one."""

    code = 1009


class StorageFull(PeerError):
    """The disk is full: new messages are refused, old ones are still delivered. The relay recovers by itself."""

    code = 1010


class StorageFailed(StorageFull):
    """The disk failed."""

    code = 1011


class Denied(PeerError):
    """A call from another machine, or through a relay, of a method that changes the host."""

    code = 1012


class NotLoadable(PeerError):
    """A plugin package cannot be loaded, unloaded or reloaded; a package that ran continues to run unchanged."""

    code = 1013


class RemoteFault(PeerError):
    """The other side answered with a Fault.

    Args:
        code: fault code as received.
        text: fault string as received.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        # The text stays unchanged from host to host: the code travels beside it.
        return self.text
