"""The interface of a host for pages, health and metrics. The roles implement it; it depends on none of them.

Rows are snapshots: plain values, taken when a page is requested.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from co2.plugin.parent.status import PackageStatus
from co2.protocol.wire.package_health import Health
from co2.protocol.wire.relay_requests import LetterPart, LogPart, PackageList, PackageReport

__all__ = [
    "AwayRow",
    "DeadLetterRow",
    "FarSatellites",
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
    """One message that its plugin did not accept.

    Attributes:
        id: under which it can be repeated.
        at: time of the refusal, in seconds since 1970.
        plugin: that refused it.
        host_id: the sender's.
        reason: of the refusal.
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
        name: for people, unique in the network; '' for none.
        host_id: with the host part that the relay observed.
        ip, port: of the host_id; port 0 for a client that only fetches and so has no page.
        kind: ``co2`` (ours), ``notified`` (foreign, with a port) or ``watcher`` (foreign, without).
        state: ``new``, ``ok``, ``silent`` or ``unreachable``.
        age: seconds since it registered.
        silence: seconds since it last answered or fetched.
        lag: messages in the log that it has not received yet.
        sent: messages that it has received.
        plugins, methods: names.
        last_error: '' for never.
        page: URL of its own page for this viewer, '' for none.
        no_page: why there is none, '' where nobody would expect one.
        through_relay: path of its pages on the relay, '' for a viewer who is not at the relay's machine.
        reach: options with which a command at the relay's machine reaches it; '' for another viewer.
        packages: health of its plugin packages; None if it does not report it.
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
    through_relay: str = ""
    reach: str = ""
    packages: Sequence[Health] | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class AwayRow:
    """One satellite that was connected and is away.

    Attributes:
        host_id: its last one.
        state: ``away``, or ``stopped`` for one that said Goodbye.
        seconds: since it was last connected, at least.
        seen_at: time of that, in seconds since 1970.
        before_start: that was before the host's start; ``seconds`` count from the start, and ``seen_at`` is by the
            clock of that time.
        plugins: names.
        name: for people; '' for none.
    """

    host_id: str
    state: str
    seconds: float
    seen_at: float
    before_start: bool = False
    plugins: Sequence[str] = ()
    name: str = ""


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
    """Counters since the start and current gauges, for ``/metrics``.

    Attributes:
        messages: by direction, ``in`` and ``out``.
        dropped: messages by reason, one word each.
        events: on the way of messages, by kind: ``repeats``, ``gaps``, ``takeovers`` …
        calls: XML-RPC calls by outcome, ``ok`` or ``fault``.
        faults: by fault code.
        requests: HTTP requests by status.
        queues: messages waiting, by queue (``outbox``, ``plugin:<package>``, ``log`` …).
        bytes: kept or waiting, by place (``outbox_memory``, ``log_backlog``, ``links`` …).
        lagging: readers that do not keep up, by kind (``links_full``, ``packages_behind`` …).
        peers: whether each peer is up, by name.
        connections: open HTTP connections.
        written: bytes written to disk since the start, by file (``log``).
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
    """The interface of a role for its pages. Every method that is not a coroutine is quick and does no I/O."""

    @property
    def role(self) -> str:
        """``relay`` or ``satellite``."""

    @property
    def name(self) -> str:
        """The current name, for people."""

    @property
    def host_id(self) -> str:
        """The current host_id."""

    @property
    def version(self) -> str:
        """Version of co2."""

    def properties(self) -> Mapping[str, Any]:
        """Return the properties of ``co2.get_properties``."""

    def methods(self) -> Sequence[MethodRow]:
        """Return all methods in the registry."""

    def plugins(self) -> Sequence[PackageStatus]:
        """Return every plugin package, also those that failed to load."""

    async def dead_letters(self, package: str, max_letters: int) -> Sequence[DeadLetterRow]:
        """Return the newest dead letters of a package, newest first."""

    async def satellites(self, *, here: bool = False) -> Sequence[SatelliteRow]:
        """Return a relay's satellites as seen from its machine (``here``) or elsewhere; none on a satellite."""

    def away(self, at_most: int) -> Sequence[AwayRow]:
        """Return at most ``at_most`` absent satellites, the last to leave first; none on a satellite."""

    def away_states(self) -> Mapping[str, int]:
        """Return the number of a relay's absent satellites, by state. There may be ten thousand."""

    def readiness(self) -> Readiness:
        """Return the readiness: a satellite is ready when it is registered, a relay when it serves."""

    def numbers(self) -> Numbers:
        """Return the numbers for ``/metrics``."""


class FarSatellites(Protocol):
    """A relay's access to its satellites for their pages; ``host`` is a satellite as a person names it.

    All but :meth:`host_id` and :meth:`name` ask the satellite, which may be hostile: answers are checked for their
    form, but their texts are whatever it likes. ``asker`` is who asks, for the logs. Each method raises PeerError.
    """

    def host_id(self, host: str) -> str:
        """Return its host_id."""

    def name(self, host: str) -> str:
        """Return its name; its origin if it has none."""

    async def packages(self, host: str, after: str, asker: str) -> PackageList:
        """Return the status of its packages behind a name, as many as fit."""

    async def log(self, host: str, package: str, after: int, maximum: int, asker: str) -> LogPart:
        """Return lines of a package's log."""

    async def dead_letters(
        self, host: str, package: str | None, after: int, maximum: int, asker: str, *, newest: bool = False
    ) -> LetterPart:
        """Return dead letters."""

    async def reload(self, host: str, package: str, asker: str, *, fresh: bool = False) -> PackageReport:
        """Load the new code of a package."""

    async def repeat_dead_letter(self, host: str, letter_id: int, asker: str) -> None:
        """Pass a dead letter to its plugin once more."""

    async def drop_dead_letters(self, host: str, up_to: int, package: str | None, asker: str) -> int:
        """Delete dead letters up to an id; return how many."""
