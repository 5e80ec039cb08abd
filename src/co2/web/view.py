"""What pages, health and metrics want to know of a host. The roles fill it; nothing here knows a role.

Rows are snapshots: plain values, taken when a page is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from co2.plugin.parent.status import PackageStatus
from co2.protocol.wire.package_health import Health

__all__ = [
    "AwayRow",
    "DeadLetterRow",
    "HostView",
    "MethodRow",
    "Numbers",
    "Readiness",
    "SatelliteRow",
]


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One callable method.

    Attributes:
        name: as it is called.
        help: docstring, '' for none.
        signatures: each a sequence of XML-RPC type names, the result's first.
    """

    name: str
    help: str = ""
    signatures: Sequence[Sequence[str]] = ()


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """One message that its plugin did not take.

    Attributes:
        id: under which it can be repeated.
        at: when, in seconds since 1970.
        plugin: which one.
        host_id: the sender's.
        reason: why.
        message: as text, shortened.
    """

    id: int
    at: float
    plugin: str
    host_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SatelliteRow:
    """One satellite as its relay sees it.

    Attributes:
        host_id: with the host part that the relay observed.
        ip, port: of the host_id; port 0 for a client that only fetches and so has no page.
        kind: ``co2`` (ours), ``notified`` (foreign, with a port) or ``fetching`` (foreign, without).
        state: ``new``, ``ok``, ``silent`` or ``unreachable``.
        age: seconds since it registered.
        silence: seconds since it last answered or fetched.
        lag: messages in the log that it has not got yet.
        sent: messages that it got.
        plugins, methods: names.
        last_error: '' for never.
        page: URL of its own page, for whoever looks; '' for none.
        no_page: why there is none, '' where nobody would expect one.
        packages: how its plugin packages are; None where it does not tell.
    """

    host_id: str
    ip: str
    port: int
    kind: str
    state: str
    age: float
    silence: float
    lag: int = 0
    sent: int = 0
    plugins: Sequence[str] = ()
    methods: Sequence[str] = ()
    last_error: str = ""
    page: str = ""
    no_page: str = ""
    packages: Sequence[Health] | None = None


@dataclass(frozen=True, slots=True)
class AwayRow:
    """One satellite that was here and is not.

    Attributes:
        host_id: its last one.
        state: ``away``, or ``stopped`` for one that said goodbye.
        seconds: since it was here last, at least.
        seen_at: when that was, in seconds since 1970.
        before_start: that was before the host's start; ``seconds`` are since that, and ``seen_at`` is by the clock
            of then.
        plugins: names.
    """

    host_id: str
    state: str
    seconds: float
    seen_at: float
    before_start: bool = False
    plugins: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the host does its work. ``problems``: one line each, empty when ready."""

    problems: Sequence[str] = ()

    @property
    def ready(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Counters since the start and gauges of now, for ``/metrics``.

    Attributes:
        messages: by direction, ``in`` and ``out``.
        dropped: messages by reason, one word each.
        events: what happened on messages' way, by kind: ``repeats``, ``gaps``, ``takeovers`` …
        calls: XML-RPC calls by outcome, ``ok`` or ``fault``.
        faults: by fault code.
        requests: HTTP requests by status.
        queues: messages waiting, by queue (``outbox``, ``plugin:<package>``, ``log`` …).
        bytes: that are kept or wait, by place (``outbox_memory``, ``log_backlog``, ``links`` …).
        lagging: who does not keep up, by kind (``links_full``, ``packages_behind`` …).
        peers: whether each peer is up, by name.
        connections: open HTTP connections.
        written: bytes written to disk since the start, by what (``log``).
    """

    messages: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[int, int] = field(default_factory=dict)
    requests: Mapping[int, int] = field(default_factory=dict)
    queues: Mapping[str, int] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    lagging: Mapping[str, int] = field(default_factory=dict)
    peers: Mapping[str, bool] = field(default_factory=dict)
    connections: int = 0
    written: Mapping[str, int] = field(default_factory=dict)


class HostView(Protocol):
    """What a role offers to its pages. Every method but :meth:`dead_letters` is quick and does no I/O."""

    @property
    def role(self) -> str:
        """``relay`` or ``satellite``."""

    @property
    def host_id(self) -> str:
        """The host_id of now."""

    @property
    def version(self) -> str:
        """Of co2."""

    def properties(self) -> Mapping[str, Any]:
        """What ``co2.get_properties`` returns."""

    def methods(self) -> Sequence[MethodRow]:
        """Everything in the registry."""

    def plugins(self) -> Sequence[PackageStatus]:
        """Every plugin package, also those that failed to load."""

    async def dead_letters(self, package: str, max_letters: int) -> Sequence[DeadLetterRow]:
        """The newest dead letters of a package, newest first."""

    def satellites(self, *, here: bool = False) -> Sequence[SatelliteRow]:
        """On a relay: who is registered, for whoever looks from ``here``. On a satellite never asked for."""

    def away(self, at_most: int) -> Sequence[AwayRow]:
        """On a relay: who was here and is not, the last who went first, so many at most. On a satellite nobody."""

    def away_states(self) -> Mapping[str, int]:
        """On a relay: how many of them there are, by state. There may be ten thousand."""

    def readiness(self) -> Readiness:
        """A satellite is ready when it is registered, a relay when it serves."""

    def numbers(self) -> Numbers:
        """For ``/metrics``."""
