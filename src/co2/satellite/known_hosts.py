"""The satellites of the network, as a satellite's relay has told them."""

from collections.abc import Callable, Iterator, Sequence

from co2.protocol.wire.link_frames import Roster
from co2.protocol.wire.plugin_frames.frames import Host

__all__ = ["KnownHosts"]

OnChange = Callable[[Sequence[Host], Sequence[Host]], None]


class KnownHosts:
    """The satellites of the network, as the relay told last, and what that changes for those who watch.

    When a link begins the relay tells all of it anew, in parts. What was known before stays until it has told
    everything: only then those that it did not name are gone.

    Args:
        on_change: takes those that have come or tell something else, and those that have left.
    """

    def __init__(self, on_change: OnChange) -> None:
        self._on_change = on_change
        self._rows: dict[str, Host] = {}
        self._unconfirmed: set[str] = set()

    def __iter__(self) -> Iterator[Host]:
        return iter(self._rows.values())

    def learn(self, roster: Roster) -> None:
        """Take what the relay tells."""
        if roster.begins:
            self._unconfirmed = set(self._rows)
        joined = []
        for host_id, methods, plugins in roster.rows:
            host, origin = Host(host_id, methods, plugins), host_id.partition("@")[0]
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
