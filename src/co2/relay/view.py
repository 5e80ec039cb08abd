"""What a relay shows of itself on its pages and in its metrics."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from co2 import __version__
from co2.plugin.parent.status import PackageStatus
from co2.server.admin.views import http_numbers, method_rows, package_problem, package_rows
from co2.web.view import AwayRow, DeadLetterRow, MethodRow, Numbers, Readiness, SatelliteRow

if TYPE_CHECKING:
    from co2.relay.host import RelayHost

__all__ = ["RelayView"]

_EVENTS = (
    *("repeats", "gaps", "takeovers", "impostors", "links_gave_way", "reused_numbers", "damaged"),
    *("clock_jumps", "express", "express_failed"),
)
"""Counters that the metrics page has as events."""


_LAGGING = ("links_full", "links_held", "links_waiting", "packages_behind", "packages_replaying")
"""Counters of who does not keep up."""


class RelayView:
    """Implements :class:`~co2.web.view.HostView` over a relay."""

    role = "relay"
    version = __version__

    def __init__(self, host: "RelayHost") -> None:
        self._host = host

    @property
    def host_id(self) -> str:
        """The relay's host_id."""
        return str(self._host.host_id)

    def properties(self) -> Mapping[str, Any]:
        """What co2.get_properties tells."""
        return self._host.properties()

    def methods(self) -> Sequence[MethodRow]:
        """Everything in the registry."""
        return method_rows(self._host.registry)

    def plugins(self) -> Sequence[PackageStatus]:
        """Every package of relay plugins, also those that are not there or failed to load."""
        return package_rows(self._host.plugins.status())

    async def dead_letters(self, _package: str, _max_letters: int) -> Sequence[DeadLetterRow]:
        """It has none: a message that a relay plugin does not take goes on."""
        return ()

    async def reload(self, package: str) -> None:
        """Have a package run the code that is in its folder now; load one that is not there."""
        plugins = self._host.plugins
        loaded = any(row.name == package for row in plugins.supervisor.status())
        await (plugins.control.reload(package) if loaded else plugins.control.load(package))

    def satellites(self, *, here: bool = False) -> Sequence[SatelliteRow]:
        """Who is registered."""
        relay = self._host.relay
        now = relay.now()
        rows = []
        for member in relay.members:
            page, no_page = self._host.page_of(member, here=here)
            rows.append(
                SatelliteRow(
                    host_id=str(member.host_id),
                    ip=member.host_id.ip,
                    port=member.host_id.port if member.kind != "fetching" else 0,
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
                    packages=member.health(now),
                )
            )
        return rows

    def away(self, at_most: int) -> Sequence[AwayRow]:
        """Satellites that were here and are not, the last who went first."""
        book = self._host.relay.away
        return [
            AwayRow(one.host_id, one.state, *book.absence(one), plugins=one.plugins)
            for one in book.rows()[:at_most]
        ]

    def away_states(self) -> Mapping[str, int]:
        """How many satellites were here and are not, by state."""
        return self._host.relay.away.states()

    def readiness(self) -> Readiness:
        """A relay that answers is ready; one that is full says so, and one whose plugins do not run."""
        members = self._host.relay.members
        problems = [package_problem(row) for row in self.plugins() if row.state != "running"]
        if len(members) >= members.max_sats:
            problems.insert(0, f"full: {members.max_sats} satellites are registered, which is max_sats")
        if problem := self._host.log.problem:
            problems.insert(0, problem)
        return Readiness(problems)

    def numbers(self) -> Numbers:
        """Counters and gauges."""
        relay = self._host.relay
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
                "disk_full": int(bool(self._host.log.problem)),
            },
            written={"log": counters["bytes_written"]},
            **http_numbers(self._host.server),
        )
