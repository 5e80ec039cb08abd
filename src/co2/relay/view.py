"""The relay's data for its pages and metrics."""

from collections.abc import Iterator, Mapping, Sequence

from co2.relay.members import Member
from co2.relay.relay import RelayRole
from co2.relay.satellite_page import satellite_page
from co2.server.admin.views import http_numbers, package_problem
from co2.server.host import RoleHost, RoleView
from co2.web.text import reach
from co2.web.view import AwayRow, Numbers, Readiness, SatelliteRow

__all__ = ["RelayView"]

_EVENTS = (
    *("repeats", "gaps", "takeovers", "impostors", "links_gave_way", "reused_numbers", "damaged"),
    *("clock_jumps", "express", "express_failed"),
)
"""Counters that the metrics page shows as events."""


_LAGGING = ("links_full", "links_held", "links_waiting", "packages_behind", "packages_replaying")
"""Counters of links and packages that lag."""


class RelayView(RoleView):
    """The view of a relay.

    Args:
        host: the host to show.
        relay: its role.
        ip: an address of its machine, preferably one that other machines can reach.
    """

    role = "relay"

    def __init__(self, host: RoleHost, relay: RelayRole, ip: str) -> None:
        super().__init__(host)
        self._relay = relay
        self._ip = ip

    async def satellites(self, *, here: bool = False) -> Sequence[SatelliteRow]:
        """Return the registered satellites."""
        return await self._host.turns.collect(self._rows(here=here))

    def _rows(self, *, here: bool) -> Iterator[SatelliteRow]:
        relay = self._relay
        for member in list(relay.members):
            if relay.members.get(member.host_id.origin) is not member:
                continue  # it has left since the first row
            now = relay.now()
            page, no_page = self._page_of(member, here=here)
            called = (member.name or member.host_id.origin) if here and member.peer is not None else ""
            yield SatelliteRow(
                name=member.name,
                host_id=str(member.host_id),
                ip=member.host_id.ip,
                port=member.host_id.port if member.kind != "watcher" else 0,
                kind=member.kind,
                state=relay.state_of(member),
                age=now - member.registered_at,
                silence=relay.silence_of(member),
                lag=max(0, relay.log.last - member.position),
                sent=member.delivered,
                plugins=member.plugins,
                methods=member.methods,
                last_error=member.last_error,
                page=page,
                no_page=no_page,
                through_relay=f"/satellites/{called}/" if called else "",
                reach=reach(called, self.host_id) if called else "",
                packages=member.health(now),
            )

    def away(self, at_most: int) -> Sequence[AwayRow]:
        """Return the satellites that are away, the latest first."""
        book, names = self._relay.away, self._relay.core.names
        return [
            AwayRow(one.host_id, one.state, *book.absence(one), plugins=one.plugins, name=names.get(one.origin))
            for one in book.rows()[:at_most]
        ]

    def away_states(self) -> Mapping[str, int]:
        """Return the number of satellites that are away, by state."""
        return self._relay.away.states()

    def readiness(self) -> Readiness:
        """Return the problems: no room for satellites, a fault of the host, or plugins that do not run."""
        members = self._relay.members
        problems = [package_problem(row) for row in self.plugins() if row.state != "running"]
        if len(members) >= members.max_sats:
            problems.insert(0, f"full: {members.max_sats} satellites are registered, as many as max_sats allows")
        return Readiness([*self._host.problems(), *problems])

    def numbers(self) -> Numbers:
        """Return counters and gauges."""
        relay = self._relay
        counters = self._host.counters()
        return Numbers(
            messages={"in": counters["relayed"], "out": counters["delivered"]},
            dropped={
                "refused": counters["refused"],
                "gaps": counters["gaps"],
                "live": counters["live_dropped"],
                "satellites_dropped": counters["dropped_satellites"],
                "plugins": counters["dropped_by_plugins"],
                "lost": counters["lost_of_plugins"],
            },
            events={key: counters[key] for key in _EVENTS},
            queues={
                "log": counters["position"] - counters["on_disk"],
                "largest_lag": max((relay.log.last - member.position for member in relay.members), default=0),
            },
            bytes={
                "log": counters["log_bytes"],
                "log_backlog": counters["backlog_bytes"],
                "links": counters["link_bytes"],
                "passage": counters["passage_bytes"],
            },
            lagging={
                **{key: counters[key] for key in _LAGGING},
                "disk_full": int(bool(self._host.problems())),
            },
            written={"log": counters["bytes_written"]},
            **http_numbers(self._host.server),
        )

    def _page_of(self, member: Member, *, here: bool) -> tuple[str, str]:
        """Return the URL of a satellite's page, as :func:`~co2.relay.satellite_page.satellite_page`."""
        if member.peer is None:
            return "", ""  # a program other than co2 has no known page
        return satellite_page(member.host_id, member.peer.listens, self._ip, here=here)
