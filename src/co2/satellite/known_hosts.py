"""The satellites of the network, as reported by the relay."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat

from co2.protocol.wire.link_frames import Roster
from co2.protocol.wire.plugin_frames.frames import Host

__all__ = ["KnownHosts"]

OnChange = Callable[[Sequence[Host], Sequence[Host]], None]


class KnownHosts:
    """The satellites of the network, as last reported by the relay; each change is passed on.

    When a link begins, the relay reports all of them anew, in parts. Earlier ones stay until the report is
    complete; then those that it did not name are removed.

    Args:
        on_change: called with the hosts that have joined or changed, and those that have left.
    """

    def __init__(self, on_change: OnChange) -> None:
        self._on_change = on_change
        self._rows: dict[str, Host] = {}
        self._unconfirmed: set[str] = set()

    def __iter__(self) -> Iterator[Host]:
        return iter(self._rows.values())

    def learn(self, roster: Roster) -> None:
        """Update the table from a roster frame."""
        if roster.begins:
            self._unconfirmed = set(self._rows)
        joined = []
        names = chain(roster.names, repeat(""))  # a relay older than names sends none
        for (host_id, methods, plugins), name in zip(roster.rows, names, strict=False):
            host, origin = Host(host_id, methods, plugins, name=name), host_id.partition("@")[0]
            self._unconfirmed.discard(origin)
            if self._rows.get(origin) != host:
                self._rows[origin] = host
                joined.append(host)
        gone = list(roster.gone)
        if roster.ends:
            gone += self._unconfirmed
            self._unconfirmed = set()
        left = [self._rows.pop(origin) for origin in gone if origin in self._rows]
        if joined or left:
            self._on_change(joined, left)
