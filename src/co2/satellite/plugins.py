"""The plugins of a satellite, as many as its relay can be told of, and their queries to the network."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from co2 import __version__
from co2.config import SatelliteConfig
from co2.plugin.parent.supervisor import Supervisor
from co2.protocol.wire.host_names import (
    MAX_NAME,
    MAX_NAMES,
    MAX_NAMES_SIZE,
    MAX_PACKAGES,
    fitting_names,
    fitting_packages,
)
from co2.protocol.wire.plugin_frames.frames import Host
from co2.satellite.link import Link
from co2.satellite.satellite import SatelliteRole
from co2.server.admin.host_plugins import HostPlugins, PluginNetwork
from co2.server.admin.plugin_control import Found
from co2.server.rpc.method_call import MethodCalls
from co2.xmlrpc.registry import Registry

__all__ = ["OF_THE_RELAY", "SatellitePlugins"]

OF_THE_RELAY = "relay."
"""Prefix of the names of the relay's methods."""

ONE_TOO_MANY = (
    f"a satellite carries at most {MAX_PACKAGES} packages with {MAX_NAMES_SIZE} bytes of names in total, and "
    "this one exceeds that limit; start another satellite for it"
)
"""Why a package is not loaded: the relay could not be told of it."""

_logger = logging.getLogger("co2.satellite")


class SatelliteNetwork(PluginNetwork):
    """The network as a satellite's plugins query it, including the relay's own methods.

    Args:
        link: to the relay.
        calls: passes on calls.
        plugins: of this satellite, which is a host of the network, too.
    """

    def __init__(self, link: Link, calls: MethodCalls, plugins: "SatellitePlugins") -> None:
        super().__init__(calls, self._all_hosts)
        self._link = link
        self._plugins = plugins

    async def call(self, method: str, host_id: str, argument: dict[str, Any], timeout: float) -> Any:
        """Call a method here, on another satellite or on the relay.

        Raises:
            PeerError: the call failed.
        """
        if not host_id and method.startswith(OF_THE_RELAY):
            return await self._link.call(method, argument, timeout)
        return await super().call(method, host_id, argument, timeout)

    def _all_hosts(self) -> list[Host]:
        mine = self._link.host_id
        own = Host(str(mine), *self._plugins.names(), own=True, name=self._link.core.name)
        return [own, *(host for host in self._link.hosts if host.host_id.partition("@")[0] != mine.origin)]


class SatellitePlugins(HostPlugins):
    """Carries the packages of a satellite.

    Args:
        config: the satellite's.
        state: its state folder.
        satellite: sends the plugins' messages.
        calls: passes on calls of plugins.
        registry: gets the methods of plugins.
    """

    def __init__(
        self,
        config: SatelliteConfig,
        state: Path,
        satellite: SatelliteRole,
        *,
        calls: MethodCalls,
        registry: Registry,
    ) -> None:
        super().__init__(config, state, registry, _logger)
        fitting = fitting_packages([spec.name for spec in self._specs])
        self.not_found += [(spec.name, ONE_TOO_MANY) for spec in self._specs[fitting:]]
        del self._specs[fitting:]
        self._satellite = satellite
        self._names_left_out = 0
        link = satellite.link
        self._carry_with(
            Supervisor(
                self._specs,
                settings=config,
                var_dict={
                    "role": "satellite",
                    "host_id": str(link.host_id),
                    "relay": config.relay,
                    "version": __version__,
                },
                host_id=lambda: str(link.host_id),
                address=lambda: (link.host_id.ip, link.host_id.port),
                on_publish=satellite.publish,
                on_methods_changed=self._methods_changed,
                on_start=satellite.package_starts,
                on_room=satellite.has_room,
                on_dead_letter=satellite.dead_letters.take,
                flushed=lambda _package: link.flushed(),
                network=SatelliteNetwork(link, calls, self),
                clock=satellite.clock,
                next_number=link.core.next_number,
            )
        )

    @property
    def expected(self) -> list[str]:
        """Names of the packages that are loaded at the start."""
        return [spec.name for spec in self._specs]

    async def start(self, port: int) -> None:
        """Load all packages; return when each is up or has failed."""
        folder = self._config.plugin_dir
        if self._config.plugin_list is None and not folder.is_dir() and not self._specs:
            _logger.warning(
                "this satellite has no plugins: there is no folder %s; choose another with --plugin-dir DIR, "
                "or a bundled package with --plugin NAME",
                folder,
            )
        await super().start(port)

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of methods and plugins for other hosts, as many as fit."""
        plugins = [plugin.name for row in self.supervisor.status() for plugin in row.plugins]
        names = fitting_names(methods := sorted(self.supervisor.methods), plugins)
        left_out = len(methods) + len(plugins) - len(names[0]) - len(names[1])
        if left_out != self._names_left_out:
            self._names_left_out = left_out
            for problem in self.problems():
                _logger.error("%s", problem)
        return names

    def problems(self) -> list[str]:
        """Return the names that do not fit, as one line; empty if all fit."""
        if not self._names_left_out:
            return []
        return [
            f"{self._names_left_out} names of methods and plugins are not announced to other hosts: a host may "
            "have "
            f"{MAX_NAMES} of each, {MAX_NAMES_SIZE} bytes in total, and {MAX_NAME} characters in one; move some "
            "of "
            "the packages to another satellite"
        ]

    def _find(self, names: Sequence[str] | None) -> Found:
        found, problems = super()._find(names)
        if names is not None:
            loaded = [row.name for row in self.supervisor.status()]
            for spec in [spec for spec in found if spec.name not in loaded]:
                loaded.append(spec.name)
                if fitting_packages(loaded) < len(loaded):
                    loaded.remove(spec.name)
                    found.remove(spec)
                    problems.append((spec.name, ONE_TOO_MANY))
                    _logger.error("plugin package %s is not loaded: %s", spec.name, ONE_TOO_MANY)
        return found, problems

    def _methods_changed(self) -> None:
        super()._methods_changed()
        self._satellite.packages_changed()
