"""The satellite's data for its pages and metrics."""

from collections.abc import Sequence

from co2.plugin.parent.package_log import preview
from co2.satellite.satellite import SatelliteRole
from co2.server.admin.views import http_numbers, package_problem
from co2.server.host import RoleHost, RoleView
from co2.web.view import DeadLetterRow, Numbers, Readiness

__all__ = ["SatelliteView"]


class SatelliteView(RoleView):
    """The view of a satellite.

    Args:
        host: the host to show.
        satellite: its role.
    """

    role = "satellite"

    def __init__(self, host: RoleHost, satellite: SatelliteRole) -> None:
        super().__init__(host)
        self._satellite = satellite

    async def dead_letters(self, package: str, max_letters: int) -> Sequence[DeadLetterRow]:
        """Return the newest dead letters of a package."""
        return [
            DeadLetterRow(one.id, one.at, one.plugin, one.host_id, one.reason, preview(one.message))
            for one in await self._satellite.dead_letters.last(package, max_letters)
        ]

    def readiness(self) -> Readiness:
        """Return the problems; none means registered at the relay, and every listed package running."""
        link = self._satellite.link
        problems = [package_problem(row) for row in self.plugins() if row.state != "running"]
        if not link.joined.is_set():
            problems.insert(0, f"no link to {link.url}: {link.last_error}")
        elif link.core.held:
            problems.insert(0, f"{self._host.counters()['waiting']} messages wait here: {link.core.held}")
        problems[:0] = self._satellite.problems()
        return Readiness(problems)

    def numbers(self) -> Numbers:
        """Return counters and gauges."""
        counters = self._host.counters()
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
            **http_numbers(self._host.server),
        )
