"""What the plugins of a satellite can ask the network: any method anywhere, and who is there."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from co2.protocol.wire.link_frames import Roster
from co2.protocol.wire.plugin_frames.frames import Host
from co2.server.rpc.method_call import MethodCalls

if TYPE_CHECKING:
    from co2.satellite.link import Link

__all__ = ["OF_THE_RELAY", "KnownHosts", "PluginNetwork"]

OF_THE_RELAY = "relay."
"""Methods whose names begin so are the relay's."""

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


class PluginNetwork:
    """Answers the plugins of a satellite.

    Args:
        link: to the relay.
        calls: passes calls on.
        names: gives (methods, plugins) of this satellite.
    """

    def __init__(self, link: "Link", calls: MethodCalls, names: Callable[[], tuple[list[str], list[str]]]) -> None:
        self._link = link
        self._calls = calls
        self._names = names

    async def call(self, method: str, host_id: str, argument: dict[str, Any], timeout: float) -> Any:
        """Call a method here, on another satellite or on the relay.

        Raises:
            PeerError: what went wrong.
        """
        if not host_id and method.startswith(OF_THE_RELAY):
            return await self._link.call(method, argument, timeout)
        return await self._calls.for_plugin(method, host_id, argument)

    def hosts(self) -> list[Host]:
        """Give the satellites of the network, this one first."""
        mine = self._link.host_id
        own = Host(str(mine), *self._names(), own=True)
        return [own, *(host for host in self._link.hosts if host.host_id.partition("@")[0] != mine.origin)]
