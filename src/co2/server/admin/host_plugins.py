"""The plugin packages of a host, from start to stop, for both roles."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from co2.config import HostConfig, plugin_tables
from co2.plugin.packages.discovery import find_packages, stray_tables
from co2.plugin.parent.status import PackageStatus
from co2.plugin.parent.supervisor import Supervisor
from co2.protocol.wire.plugin_frames.frames import Host
from co2.server.admin.file_watch import PluginWatch
from co2.server.admin.plugin_control import Found, PluginControl, warn_of_those_that_do_not_run
from co2.server.admin.plugin_methods import plugin_entries
from co2.server.rpc.method_call import MethodCalls
from co2.tasks import TaskSet
from co2.xmlrpc.registry import Registry

__all__ = ["STORES_FOLDER", "HostPlugins", "PluginNetwork"]

STORES_FOLDER = "stores"
"""Name of the folder in the state folder for the values of ``self.store``, one file for each package."""


class HostPlugins:
    """Finds, loads, watches and stops the packages of a host; a role handles their messages.

    A role creates the supervisor, with its own callbacks, and passes it to :meth:`_carry_with`.

    Args:
        config: of the host.
        state: its state folder.
        registry: gets the methods of plugins.
        logger: of the role.

    Attributes:
        not_found: (name, problem) of packages that are not loaded.
        supervisor: carries the other packages.
        control: loads, reloads and unloads packages.
    """

    supervisor: Supervisor
    control: PluginControl

    def __init__(self, config: HostConfig, state: Path, registry: Registry, logger: logging.Logger) -> None:
        self._config = config
        self._registry = registry
        self._stores = state / STORES_FOLDER
        self._logger = logger
        self._specs, self.not_found = self._find(None)
        self._tasks = TaskSet(logger, "a task of the plugins")

    def _carry_with(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.control = PluginControl(supervisor, self._find, self._config.exit_timeout, self.not_found)

    async def start(self, port: int) -> None:
        """Load all packages; return when each is up or has failed.

        Args:
            port: of the host, for commands in log lines.
        """
        for name, problem in self.not_found:
            self._logger.error("plugin package %s is not loaded: %s", name, problem)
        for spec in self._specs:
            if spec.note:
                self._logger.warning("plugin package %s: %s", spec.name, spec.note)
        for stray in stray_tables(self._config):
            self._logger.warning("%s: %s", self._config.config_file, stray)
        await self.supervisor.start()
        warn_of_those_that_do_not_run(self.status(), port)
        if self._config.watch:
            also = [path for path in (self._config.config_file,) if path is not None]
            watch = PluginWatch(self._config.plugin_dir.absolute(), self.control.reload_changed, *also)
            self._tasks.start(watch.run(), "watch of plugins")

    async def stop(self) -> None:
        """Stop every package in an orderly way, including ``__exit__`` and last sends."""
        await self.supervisor.stop(self._config.exit_timeout)
        await self._tasks.stop()

    def status(self) -> list[PackageStatus]:
        """Return the status of each package, including those that were not found."""
        missing = [PackageStatus(name=name, state="failed", last_error=why) for name, why in self.not_found]
        return [*self.supervisor.status(), *missing]

    def _find(self, names: Sequence[str] | None) -> Found:
        """Find packages, with the current tables of the configuration file.

        Args:
            names: of the packages; None for all in the configuration.
        """
        tables, limits = plugin_tables(self._config.role, self._config.config_file)
        config = dataclasses.replace(self._config, plugin_config=tables, plugin_limits=limits)
        found, problems = find_packages(config, names)
        return [dataclasses.replace(spec, store=self._stores / f"{spec.name}.db") for spec in found], problems

    def _methods_changed(self) -> None:
        """Update the registry after a change of plugins or their methods."""
        self._registry.replace_group("plugins", plugin_entries(self.supervisor))


class PluginNetwork:
    """The network as plugins query it: methods of any host, and the hosts in it.

    Args:
        calls: passes on calls.
        hosts: returns the hosts, one's own first.
    """

    def __init__(self, calls: MethodCalls, hosts: Callable[[], list[Host]]) -> None:
        self._calls = calls
        self._hosts = hosts

    async def call(self, method: str, host_id: str, argument: dict[str, Any], timeout: float) -> Any:
        """Call a method on this host or another one.

        Raises:
            PeerError: the call failed.
        """
        return await self._calls.for_plugin(method, host_id, argument)

    def hosts(self) -> list[Host]:
        """Return the hosts of the network."""
        return self._hosts()
