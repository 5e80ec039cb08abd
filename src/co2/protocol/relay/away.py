"""The satellites that are away: which ones a relay has had, and since when they are gone."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from co2.host_id import HostId
from co2.sources import source_of

__all__ = [
    "MAX_AWAY",
    "MAX_AWAY_AT_ONE_ADDRESS",
    "MAX_AWAY_NAMES",
    "MAX_NAMES_MEMORY",
    "MAX_NAMES_MEMORY_OF_ONE",
    "Absence",
    "Away",
    "AwayBook",
    "fitting_claims",
]

MAX_AWAY = 10_000
"""Satellites that are remembered; the one that has been away longest is forgotten first."""

MAX_AWAY_AT_ONE_ADDRESS = 500
"""Limit of absent satellites of one source (:mod:`co2.sources`): invented ones displace no others."""

MAX_AWAY_NAMES = 16 * 1024
"""Characters of names of methods and plugins that are remembered of one satellite; further ones are left out."""

MAX_NAMES_MEMORY = 32 * 1024 * 1024
"""Approximate bytes of all names of absent satellites; beyond it the names of the first to leave are forgotten."""

MAX_NAMES_MEMORY_OF_ONE = MAX_NAMES_MEMORY // 4
"""Limit of these bytes for one source."""

_NAME_COST = 128
"""Bytes of memory that a name takes besides its characters, in a list and in a table."""


class Away(msgspec.Struct):
    """The last known state of an absent satellite.

    Attributes:
        origin: the random part of its host_id.
        host_id: its last one.
        seen_at: wall time when it was last connected, by the clock of that time: a label.
        stopped: it said Goodbye; else it was lost.
        methods: names of its callable methods.
        plugins: names of its plugins.
        claims: the number with which it claimed each name of a method that it has or had: a later claim has a
            larger one.
        left_at: monotonic second when it was last connected; None if that was before this start.
    """

    origin: str
    host_id: str
    seen_at: float
    stopped: bool = False
    methods: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    claims: dict[str, int] = {}
    left_at: float | None = None

    @property
    def state(self) -> str:
        """``stopped`` for one that said Goodbye, else ``away``."""
        return "stopped" if self.stopped else "away"

    @property
    def ip(self) -> str:
        """Address of its last connection."""
        return HostId.parse(self.host_id).ip


class Absence(NamedTuple):
    """How long a satellite has been away. The wall clock decides nothing here: it may be wrong, and jump.

    Attributes:
        seconds: since it was connected, at least: if that was before this start, since this start.
        seen_at: wall time when it was last connected, by the current clock; if that was before this start, by the
            clock of that time.
        before_start: it was last connected before this start.
    """

    seconds: float
    seen_at: float
    before_start: bool


class AwayBook:
    """The absent satellites; the present ones are known too, so that they are remembered if this relay crashes.

    Args:
        known: satellites of earlier runs, in the order in which they left. All of them are away.
        wall: wall time, for labels only.
        now: monotonic seconds.
    """

    def __init__(
        self,
        known: Iterable[Away] = (),
        wall: Callable[[], float] = lambda: 0.0,
        now: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._wall = wall
        self._now = now
        self._begun = now()
        self._claimed = 0
        self._here: dict[str, Away] = {}
        self._away: dict[str, Away] = {}
        self._stopped: set[str] = set()  # those of them that said Goodbye
        self._by_method: dict[str, tuple[str, ...]] = {}  # origins in order; a dict each would be 4 times as large
        self._at: dict[str, dict[str, None]] = {}  # by source, in order
        self._named: dict[str, int] = {}  # bytes of its names by origin, in order
        self._named_of: dict[str, dict[str, None]] = {}  # the same origins, by source
        self._memory = 0
        self._memory_of: Counter[str] = Counter()
        self._changes: dict[str, Away | None] = {}
        self._on_disk: set[str] = set()
        self._on_disk_before: set[str] = set()  # of the changes that are being written
        for one in known:
            self._on_disk.add(one.origin)
            self._claimed = max(self._claimed, *one.claims.values(), 0)
            self._put(one)

    def __len__(self) -> int:
        return len(self._away)

    @property
    def here(self) -> frozenset[str]:
        """Origins of the present satellites."""
        return frozenset(self._here)

    def rows(self) -> list[Away]:
        """Return the absent satellites, the last to leave first."""
        return list(reversed(self._away.values()))

    def states(self) -> dict[str, int]:
        """Return the number of absent satellites by state."""
        stopped = len(self._stopped)
        counts = {"away": len(self._away) - stopped, "stopped": stopped}
        return {state: count for state, count in counts.items() if count}

    def get(self, origin: str) -> Away | None:
        """Return the absent satellite of an origin, None if there is none."""
        return self._away.get(origin)

    def having(self, method: str) -> list[Away]:
        """Return the absent satellites that had a method, the last to leave first."""
        return [self._away[origin] for origin in reversed(self._by_method.get(method, ()))]

    def since(self, one: Away) -> float:
        """Return the monotonic second since which a satellite is away; this start if it was away before."""
        return self._begun if one.left_at is None else one.left_at

    def absence(self, one: Away) -> Absence:
        """Return how long a satellite has been away."""
        seconds = max(0.0, self._now() - self.since(one))
        if one.left_at is None:
            return Absence(seconds, one.seen_at, True)
        return Absence(seconds, self._wall() - seconds, False)

    def next_claim(self) -> int:
        """Return the number for a new claim: larger than all before it, those of earlier starts too."""
        self._claimed += 1
        return self._claimed

    def joined(
        self,
        host_id: HostId,
        methods: Sequence[str],
        plugins: Sequence[str],
        claims: Mapping[str, int] | None = None,
    ) -> bool:
        """Note that a satellite is present, or has new names; return whether that must be written to disk.

        Args:
            host_id: its own.
            methods: names.
            plugins: names.
            claims: by name of a method, of former methods too; those of its current methods first.
        """
        methods, plugins = _fitting(methods, plugins)
        before = self._here.get(host_id.origin)
        kept = fitting_claims(claims or {})
        new = Away(host_id.origin, str(host_id), self._wall(), False, methods, plugins, kept)
        if (gone := self._away.get(host_id.origin)) is not None:
            self._take_out(gone)
        self._here[host_id.origin] = new
        if before is not None and (before.host_id, before.methods, before.plugins) == (
            new.host_id,
            methods,
            plugins,
        ):
            return False
        self._changes[new.origin] = new
        return True

    def left(self, origin: str, *, stopped: bool, ago: float = 0.0) -> None:
        """Note that a satellite has left.

        Args:
            origin: of the satellite.
            stopped: it said Goodbye.
            ago: seconds since the last sign of it.
        """
        one = self._here.pop(origin, None)
        if one is not None:
            one.seen_at, one.stopped = self._wall() - ago, stopped
            one.left_at = self._now() - ago
            self._changes.pop(origin, None)  # satellites are written in the order in which they left
            self._changes[origin] = one
            self._put(one)

    def forget(self, origin: str) -> bool:
        """Forget an absent satellite; return whether there was one."""
        one = self._away.get(origin)
        if one is None:
            return False
        self._take_out(one)
        if origin in self._on_disk:
            self._changes[origin] = None
        else:
            self._changes.pop(origin, None)  # else satellites that come and go endlessly leave something each time
        return True

    def take_changes(self, most: int) -> dict[str, Away | None]:
        """Return the changes to write to disk, by origin; None for a forgotten satellite.

        Args:
            most: limit of their number.
        """
        taken = dict(list(self._changes.items())[:most])
        self._on_disk_before = self._on_disk & taken.keys()
        for origin, one in taken.items():
            del self._changes[origin]
            (self._on_disk.add if one is not None else self._on_disk.discard)(origin)
        return {origin: None if one is None else msgspec.structs.replace(one) for origin, one in taken.items()}

    def give_back(self, changes: dict[str, Away | None]) -> None:
        """Restore changes that the disk refused; newer changes take precedence."""
        self._on_disk.difference_update(changes)
        self._on_disk |= self._on_disk_before
        self._changes = {
            origin: one
            for origin, one in {**changes, **self._changes}.items()
            if one is not None or origin in self._on_disk
        }

    @property
    def has_changes(self) -> bool:
        """Whether there are changes to write to disk."""
        return bool(self._changes)

    def _put(self, one: Away) -> None:
        source = source_of(one.ip)
        self._away[one.origin] = one
        (self._stopped.add if one.stopped else self._stopped.discard)(one.origin)
        same = self._at.setdefault(source, {})
        same[one.origin] = None
        self._put_names(one, source)
        if len(same) > MAX_AWAY_AT_ONE_ADDRESS:
            self.forget(next(iter(same)))
        elif len(self._away) > MAX_AWAY:
            self.forget(next(iter(self._away)))

    def _take_out(self, one: Away) -> None:
        source = source_of(one.ip)
        del self._away[one.origin]
        self._stopped.discard(one.origin)
        same = self._at[source]
        del same[one.origin]
        if not same:
            del self._at[source]
        self._take_out_names(one, source)

    def _put_names(self, one: Away, source: str) -> None:
        """Index a satellite by its methods; if names take too much memory, those of others are forgotten."""
        for method in set(one.methods):
            self._by_method[method] = (*self._by_method.get(method, ()), one.origin)
        if cost := sum(_NAME_COST + len(name) for name in (*one.methods, *one.plugins, *one.claims)):
            self._named[one.origin] = cost
            self._named_of.setdefault(source, {})[one.origin] = None
            self._memory += cost
            self._memory_of[source] += cost
        while self._memory_of[source] > MAX_NAMES_MEMORY_OF_ONE:
            self._forget_names(next(iter(self._named_of[source])))
        while self._memory > MAX_NAMES_MEMORY:
            self._forget_names(next(iter(self._named)))

    def _forget_names(self, origin: str) -> None:
        one = self._away[origin]
        self._take_out_names(one, source_of(one.ip))
        one.methods = one.plugins = ()
        one.claims = {}
        self._changes[origin] = one

    def _take_out_names(self, one: Away, source: str) -> None:
        for method in set(one.methods):
            origins = tuple(origin for origin in self._by_method.pop(method, ()) if origin != one.origin)
            if origins:
                self._by_method[method] = origins
        cost = self._named.pop(one.origin, 0)
        if cost:
            self._named_of[source].pop(one.origin)
            self._memory -= cost
            self._memory_of[source] -= cost
        if not self._memory_of[source]:
            del self._memory_of[source]
            self._named_of.pop(source, None)


def fitting_claims(claims: Mapping[str, int]) -> dict[str, int]:
    """Return as many claims as are remembered of one satellite, the first ones."""
    left = MAX_AWAY_NAMES
    kept = {}
    for name, number in claims.items():
        left -= len(name)
        if left < 0:
            break
        kept[name] = number
    return kept


def _fitting(methods: Sequence[str], plugins: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return as many names as are remembered, each once."""
    left = MAX_AWAY_NAMES
    found: list[tuple[str, ...]] = []
    for names in (methods, plugins):
        kept = []
        for name in dict.fromkeys(names):
            left -= len(name)
            if left < 0:
                break
            kept.append(name)
        found.append(tuple(kept))
    return found[0], found[1]
