"""The satellite as a host: its server, its methods, its pages."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from co2.config import SatelliteConfig
from co2.errors import Denied, NoSuchMethod
from co2.host_id import HostId
from co2.protocol.wire.host_names import names_size
from co2.satellite.notify_endpoint import NotifyEndpoint
from co2.satellite.plugins import OF_THE_RELAY, SatellitePlugins
from co2.satellite.satellite import SatelliteRole
from co2.satellite.view import SatelliteView
from co2.server.door.answers import DoorAnswer, DoorRequest
from co2.server.express import loop as express
from co2.server.express.satellite_forecast import SatelliteForecast
from co2.server.host import CALL_TIMEOUT, RoleHost
from co2.server.http.limits import Limits
from co2.server.process.fd_limit import SPARE_FILES, allow_files
from co2.server.process.local_address import host_url, local_ip
from co2.server.process.run import Foundation
from co2.server.rpc.method_call import is_reserved
from co2.xmlrpc.registry import Caller

__all__ = ["SatelliteHost"]

NETWORK_NAMES = 256 * 1024
"""Bytes of method names of other hosts in co2.get_properties."""

_logger = logging.getLogger("co2.satellite")


class SatelliteHost(RoleHost):
    """Wires the satellite, its plugins, its methods and the server.

    Args:
        config: checked configuration.
        foundation: state folder and listening socket.
    """

    plugins: SatellitePlugins
    _config: SatelliteConfig

    def __init__(self, config: SatelliteConfig, foundation: Foundation) -> None:
        super().__init__(config, foundation)
        state = foundation.state
        self.satellite = SatelliteRole(config, state, foundation.port, self.dispatch)
        self.plugins = SatellitePlugins(
            config, state.path, self.satellite, calls=self.calls, registry=self.registry
        )
        self.satellite.carry(self.plugins)
        link, packages = self.satellite.link, self.plugins.supervisor.packages
        express.use(
            lambda: SatelliteForecast(link.core, packages, lambda: link.driver.wire, link.renumber),
            self.satellite.clock,
        )
        self.registry.add(
            "notify",
            self.satellite.notify_endpoint.notify,
            help=NotifyEndpoint.notify.__doc__ or "",
            signatures=[["boolean", "struct"]],
        )
        self.satellite.dead_letters.add_methods(self.registry)
        self._serve(
            SatelliteView(self, self.satellite),
            door={"/api/hosts": self._hosts},
            elsewhere=f"ask its relay, {config.relay}",
        )

    @property
    def host_id(self) -> HostId:
        """The host_id, with the address that the relay has observed."""
        return self.satellite.link.host_id

    @property
    def name(self) -> str:
        """The name that the relay has given; before that, the one of the configuration."""
        return self.satellite.link.core.name

    @property
    def ready_line(self) -> str:
        """``ready satellite <host_id> <url>``; the URL has the address that it listens on."""
        url = host_url(local_ip(self._config.bind, "192.0.2.1"), self.host_id.port)
        return f"ready satellite {self.host_id} {url}"

    async def start(self) -> None:
        """Serve and load plugins; the relay may be away."""
        allow_files(Limits().max_connections + SPARE_FILES)
        await self.server.start(self._sock)
        await self.satellite.start()
        await self.plugins.start(self.host_id.port)

    async def stop(self) -> None:
        """Stop plugins, send their last messages, say goodbye to the relay, and end."""
        await self.plugins.stop()
        await self.satellite.stop()
        await self.server.stop()
        self.routes.long.close()

    def problems(self) -> list[str]:
        """Return faults that need attention besides packages that do not run, one line each."""
        return [*self.satellite.problems(), *self.plugins.problems()]

    def _own_properties(self) -> dict[str, Any]:
        config, link = self._config, self.satellite.link
        return {
            "relay": config.relay,
            "registered": link.joined.is_set(),
            "relay_error": link.last_error,
            "network": _within(NETWORK_NAMES, link.roster),
            "limits": {
                "outbox_max": config.outbox_max,
                "receive_deadline": config.receive_deadline,
                "send_timeout": config.send_timeout,
                "plugin_memory": config.plugin_memory,
            },
        }

    def _own_counters(self) -> dict[str, int]:
        satellite, packages = self.satellite, self.plugins.supervisor.status()
        link, outbox, letters = satellite.link, satellite.outbox, satellite.dead_letters
        return {
            "received": satellite.notify_endpoint.received + link.frames,
            "repeats": satellite.notify_endpoint.repeats + link.core.repeats,
            "gaps": satellite.notify_endpoint.gaps + link.gaps,
            "sent": outbox.acked_messages,
            "live_dropped": link.core.live_dropped,
            "waiting": len(outbox),
            "waiting_bytes": outbox.bytes,
            "memory_bytes": outbox.memory_bytes,
            "stored_bytes": outbox.stored_bytes,
            "send_waits": sum(row.send_waits for row in packages),
            "link_bytes": link.buffered,
            "packages_behind": link.core.count("behind"),
            "packages_replaying": link.core.count("replaying"),
            "lost": outbox.lost,
            "dead_letters": sum(row.dead_letters for row in packages),
            "dead_letters_kept": letters.kept,
            "dead_letters_gone": letters.gone + sum(row.letters_unkept for row in packages),
        }

    def _methods_elsewhere(self) -> Iterator[tuple[str, Sequence[str]]]:
        for row in self.satellite.link.roster:
            if row["host_id"] != str(self.host_id):
                yield row["host_id"], row["methods"]

    async def _hosts(self, request: DoorRequest) -> DoorAnswer:
        """List the hosts of the network, as ``co2.get_properties`` does."""
        told = {"relay": self._config.relay, "hosts": _within(NETWORK_NAMES, self.satellite.link.roster)}
        return DoorAnswer(await self.routes.long.write(told) + b"\n")

    async def _call_elsewhere(
        self, host: str | None, method: str, argument: dict[str, Any], caller: Caller
    ) -> Any:
        link = self.satellite.link
        if method.startswith(OF_THE_RELAY):
            raise Denied(
                f"{method} must be called at the relay itself, {self._config.relay}, not through a satellite"
            )
        if host is None:
            # Only plugins' methods are looked up: a host's own would be another host's, with effects there.
            known = any(method in host.methods for host in link.hosts)
            if is_reserved(method) or not (known or ("." in method and link.joined.is_set())):
                raise NoSuchMethod(method)
        passed_on = {**argument, "method_name": method}
        if host is not None:
            passed_on["host_id"] = host
        # Without a host_id the relay looks it up: it has plugin methods, too, and knows who has just joined or
        # left.
        return await link.call("method_call", passed_on, CALL_TIMEOUT, written=caller.takes_xml)


def _within(size: int, roster: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the roster rows; names of methods are left out beyond ``size`` bytes."""
    rows = []
    for row in roster:
        size -= names_size(row["methods"]) + 8 * len(row["methods"])
        told = row["methods"] if size >= 0 else []
        left_out = {} if size >= 0 else {"left_out": len(row["methods"])}
        rows.append({"name": row["name"], "host_id": row["host_id"], "methods": told, **left_out})
    return rows
