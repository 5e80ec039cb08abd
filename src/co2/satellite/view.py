"""What a satellite shows of itself on its pages and in its metrics."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from co2 import __version__
from co2.plugin.parent.package_log import preview
from co2.plugin.parent.status import PackageStatus
from co2.server.admin.views import http_numbers, method_rows, package_problem, package_rows
from co2.web.view import AwayRow, DeadLetterRow, MethodRow, Numbers, Readiness, SatelliteRow

if TYPE_CHECKING:
    from co2.satellite.satellite import SatelliteRole

__all__ = ["SatelliteView"]


class SatelliteView:
    """Implements :class:`~co2.web.view.HostView` over a satellite."""

    role = "satellite"
    version = __version__

    def __init__(self, satellite: "SatelliteRole") -> None:
        self._satellite = satellite

    @property
    def host_id(self) -> str:
        """The satellite's host_id of now."""
        return str(self._satellite.link.host_id)

    def properties(self) -> Mapping[str, Any]:
        """What co2.get_properties tells."""
        return self._satellite.properties()

    def methods(self) -> Sequence[MethodRow]:
        """Everything in the registry."""
        return method_rows(self._satellite.registry)

    def plugins(self) -> Sequence[PackageStatus]:
        """Every package, also those that are not there or failed to load."""
        return package_rows(self._satellite.packages())

    async def dead_letters(self, package: str, max_letters: int) -> Sequence[DeadLetterRow]:
        """The newest of a package."""
        return [
            DeadLetterRow(one.id, one.at, one.plugin, one.host_id, one.reason, preview(one.message))
            for one in await self._satellite.dead_letters.last(package, max_letters)
        ]

    async def reload(self, package: str) -> None:
        """Have a package run the code that is in its folder now; load one that is not there."""
        plugins = self._satellite.plugins
        loaded = any(row.name == package for row in self._satellite.supervisor.status())
        await (plugins.reload(package) if loaded else plugins.load(package))

    def satellites(self, *, here: bool = False) -> Sequence[SatelliteRow]:
        """A satellite has no such page."""
        return ()

    def away(self, at_most: int) -> Sequence[AwayRow]:
        """A satellite has no such page."""
        return ()

    def away_states(self) -> Mapping[str, int]:
        """A satellite has no such page."""
        return {}

    def readiness(self) -> Readiness:
        """Ready means registered at the relay, and every listed package running."""
        link = self._satellite.link
        problems = [package_problem(row) for row in self.plugins() if row.state != "running"]
        if not link.joined.is_set():
            problems.insert(0, f"no link to {link.url}: {link.last_error}")
        elif link.core.held:
            problems.insert(0, f"{self._satellite.counters()['waiting']} messages wait here: {link.core.held}")
        problems[:0] = self._satellite.disk_problems()
        return Readiness(problems)

    def numbers(self) -> Numbers:
        """Counters and gauges."""
        counters = self._satellite.counters()
        packages = self.plugins()
        return Numbers(
            messages={"in": counters["received"], "out": counters["sent"]},
            dropped={
                "live": counters["live_dropped"],
                "gaps": counters["gaps"],
                "plugins": sum(package.dropped for package in packages),
                "dead_letters": counters["dead_letters"],
            },
            events={
                "repeats": counters["repeats"],
                "gaps": counters["gaps"],
                "send_waits": counters["send_waits"],
                "lost": counters["lost"],
                "dead_letters_gone": counters["dead_letters_gone"],
                "express": counters["express"],
                "express_failed": counters["express_failed"],
            },
            bytes={
                "outbox": counters["waiting_bytes"],
                "outbox_memory": counters["memory_bytes"],
                "outbox_disk": counters["stored_bytes"],
                "links": counters["link_bytes"],
            },
            lagging={key: counters[key] for key in ("packages_behind", "packages_replaying")},
            queues={
                "outbox": counters["waiting"],
                "dead_letters": counters["dead_letters_kept"],
                **{f"plugin:{p.name}": p.waiting for p in packages},
            },
            peers={"relay": self._satellite.link.joined.is_set()},
            **http_numbers(self._satellite.server),
        )
