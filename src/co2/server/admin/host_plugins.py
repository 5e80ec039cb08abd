"""The plugin packages of a host, from start to stop: what both roles do about them."""

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
"""Name, in the state folder, of the folder with what plugins keep in ``self.store``, a file for each package."""


class HostPlugins:
    """Finds, loads, watches and stops the packages of a host; a role says what becomes of what they send.

    A role makes the supervisor, with its own callbacks, and hands it to :meth:`_carry_with`.

    Args:
        config: of the host.
        state: its state folder.
        registry: gets the methods of plugins.
        logger: of the role.

    Attributes:
        not_found: (name, problem) of packages that are not loaded.
        supervisor: carries the others.
        control: loads, reloads and unloads them.
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
            port: of the host, for what a person is told to type.
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
        """End every package in good order, ``__exit__`` and last sends included."""
        await self.supervisor.stop(self._config.exit_timeout)
        await self._tasks.stop()

    def status(self) -> list[PackageStatus]:
        """Return how each package is, also those that were not found."""
        missing = [PackageStatus(name=name, state="failed", last_error=why) for name, why in self.not_found]
        return [*self.supervisor.status(), *missing]

    def _find(self, names: Sequence[str] | None) -> Found:
        """Find packages, with the tables of the configuration file as they are now.

        Args:
            names: find these; None for all that the configuration lists.
        """
        tables, limits = plugin_tables(self._config.config_file)
        config = dataclasses.replace(self._config, plugin_config=tables, plugin_limits=limits)
        found, problems = find_packages(config, names)
        return [dataclasses.replace(spec, store=self._stores / f"{spec.name}.db") for spec in found], problems

    def _methods_changed(self) -> None:
        """Take in that plugins or their methods are others than before."""
        self._registry.replace_group("plugins", plugin_entries(self.supervisor))


class PluginNetwork:
    """What plugins can ask the network: any method anywhere, and who is there.

    Args:
        calls: passes calls on.
        hosts: returns who is there, one's own host first.
    """

    def __init__(self, calls: MethodCalls, hosts: Callable[[], list[Host]]) -> None:
        self._calls = calls
        self._hosts = hosts

    async def call(self, method: str, host_id: str, argument: dict[str, Any], timeout: float) -> Any:
        """Call a method on this host or another one.

        Raises:
            PeerError: what went wrong.
        """
        return await self._calls.for_plugin(method, host_id, argument)

    def hosts(self) -> list[Host]:
        """Return who is there."""
        return self._hosts()
