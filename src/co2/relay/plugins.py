"""The relay plugins of a relay: what messages pass, who is asked when somebody wants to join, what they send."""

import asyncio
import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from co2 import __version__
from co2.config import RelayConfig, plugin_tables
from co2.errors import PeerError, StorageFailed, StorageFull
from co2.host_id import HostId
from co2.plugin.packages.discovery import find_packages, stray_tables
from co2.plugin.packages.spec import PackageSpec
from co2.plugin.parent.status import PackageStatus
from co2.plugin.parent.supervisor import Supervisor
from co2.protocol.relay.filter_chain import InFlight
from co2.protocol.wire.plugin_frames.frames import Host, Publish
from co2.relay.links import MAX_BACKLOG
from co2.relay.split_by_origin import by_first_sender
from co2.server.admin.file_watch import PluginWatch
from co2.server.admin.plugin_control import PluginControl, warn_of_those_that_do_not_run
from co2.server.rpc.method_call import MethodCalls
from co2.tasks import TaskSet

if TYPE_CHECKING:
    from co2.relay.relay import RelayRole

__all__ = ["ADMISSION_TIMEOUT", "RelayNetwork", "RelayPlugins"]

ADMISSION_TIMEOUT = 5.0
"""Seconds that relay plugins get together to say whether somebody may join; then it is let in."""

STORES_FOLDER = "stores"
"""Name, in the state folder, of the folder with what plugins keep in ``self.store``, a file for each package."""

_logger = logging.getLogger("co2.relay")


class RelayNetwork:
    """What relay plugins can ask: any method anywhere, and who is there.

    Args:
        calls: passes calls on.
        hosts: gives who is there.
    """

    def __init__(self, calls: MethodCalls, hosts: Callable[[], list[Host]]) -> None:
        self._calls = calls
        self._hosts = hosts

    async def call(self, method: str, host_id: str, argument: dict[str, Any], timeout: float) -> Any:
        """Call a method of this relay or of a satellite.

        Raises:
            PeerError: what went wrong.
        """
        return await self._calls.for_plugin(method, host_id, argument)

    def hosts(self) -> list[Host]:
        """Give everybody who is there."""
        return self._hosts()


class RelayPlugins:
    """Carries the packages that ``plugin_list`` names.

    Attributes:
        not_found: (name, problem) of packages that are not there.
        supervisor: carries the others.
        control: loads, reloads and unloads them.
        lost: messages that plugins have sent and the log had no room for.

    Args:
        config: the relay's.
        state: its state folder.
        relay: the relay.
        host_id: its own.
        calls: passes calls of plugins on.
        changed: called when there are other methods than before.
    """

    def __init__(
        self,
        config: RelayConfig,
        state: Path,
        relay: "RelayRole",
        *,
        host_id: HostId,
        calls: MethodCalls,
        changed: Callable[[], None],
    ) -> None:
        self._config = config
        self._relay = relay
        self._host_id = host_id
        self._stores = state / STORES_FOLDER
        self._changed = changed
        self._sent: dict[str, set[asyncio.Future[None]]] = {}
        self._failed: dict[str, StorageFull | StorageFailed] = {}
        specs, self.not_found = self._find(None)
        self._specs = specs
        self.lost = 0
        self._is_losing = False
        self._stores.mkdir(mode=0o700, exist_ok=True)
        self.supervisor = Supervisor(
            specs,
            settings=config,
            var_dict={"role": "relay", "host_id": str(host_id), "relay": "", "version": __version__},
            host_id=lambda: str(host_id),
            address=lambda: (host_id.ip, host_id.port),
            on_publish=self._publish,
            flushed=self._flushed,
            on_methods_changed=self._methods_changed,
            network=RelayNetwork(calls, self._hosts),
            order=config.plugin_list or (),
        )
        self.control = PluginControl(self.supervisor, self._find, config.exit_timeout, self.not_found)
        self._tasks = TaskSet(_logger, "a task of the relay plugins")

    async def start(self) -> None:
        """Load all; return when each is up or has failed."""
        for name, problem in self.not_found:
            _logger.error("plugin package %s is not loaded: %s", name, problem)
        for spec in self._specs:
            if spec.note:
                _logger.warning("plugin package %s: %s", spec.name, spec.note)
        for stray in stray_tables(self._config):
            _logger.warning("%s: %s", self._config.config_file, stray)
        await self.supervisor.start()
        warn_of_those_that_do_not_run(self.status(), self._host_id.port)
        if self._config.watch:
            also = [path for path in (self._config.config_file,) if path is not None]
            watch = PluginWatch(self._config.plugin_dir.absolute(), self.control.reload_changed, *also)
            self._tasks.start(watch.run(), "watch of plugins")

    async def stop(self) -> None:
        """Every ``__exit__``, last sends."""
        await self.supervisor.stop(self._config.exit_timeout)
        await self._tasks.stop()

    def status(self) -> list[PackageStatus]:
        """Tell how each package is, also those that were not found."""
        missing = [PackageStatus(name=name, state="failed", last_error=why) for name, why in self.not_found]
        return self.supervisor.status() + missing

    def transit(self) -> Counter[str]:
        """Give what became of messages on their way, all plugins together."""
        counts: Counter[str] = Counter()
        for row in self.supervisor.status():
            counts.update(row.transit)
        return counts

    async def refusal(self, host: HostId, methods: Sequence[str], plugins: Sequence[str]) -> str:
        """Ask every plugin that wants to be asked whether a host may join; give why not, '' where it may."""
        asked = Host(str(host), [*methods], [*plugins])
        deadline = self._relay.now() + ADMISSION_TIMEOUT
        for package, plugin in self.supervisor.admitting():
            try:
                left = max(0.0, round(deadline - self._relay.now(), 2))
                why = await self.supervisor.admit(package, plugin, asked, left)
            except PeerError as error:
                _logger.error("%s is let in: %s", host, error)
                continue
            if why:
                _logger.warning("%s may not join: %s: %s", host, plugin, why)
                return f"{plugin}: {why}"
        return ""

    def hosts_changed(self, joined: Sequence[Host], left: Sequence[Host]) -> None:
        """Tell plugins who has joined and left."""
        self.supervisor.hosts_changed(joined, left)

    def _find(self, names: Sequence[str] | None) -> tuple[list[PackageSpec], list[tuple[str, str]]]:
        tables, limits = plugin_tables(self._config.config_file)
        config = dataclasses.replace(self._config, plugin_config=tables, plugin_limits=limits)
        listed = names if names is not None else (config.plugin_list or ())
        found, problems = find_packages(config, listed)
        return [dataclasses.replace(spec, store=self._stores / f"{spec.name}.db") for spec in found], problems

    def _hosts(self) -> list[Host]:
        return [member.as_host() for member in self._relay.members]

    def _methods_changed(self) -> None:
        core = self._relay.links.core
        core.filter_chain.set_filters(self.supervisor.stages())
        core.asks = bool(self.supervisor.admitting())
        self._changed()

    # what they send

    def _publish(self, package: str, frame: Publish, count: int) -> None:
        """Pass on what a plugin sends, behind itself in the chain; it has no number, and leaves from the disk."""
        names = None if frame.channels is None else tuple(frame.channels)
        behind = self.supervisor.stage_of(package, frame.plugin)
        for origin, part, messages in by_first_sender(frame.batch, count):
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            under_way = self._sent.setdefault(package, set())
            under_way.add(done)
            done.add_done_callback(under_way.discard)
            in_flight = InFlight(
                str(self._host_id),
                (self._host_id.ip, self._host_id.port),
                part,
                messages,
                names,
                partial(self._append, package, origin or self._host_id.origin, done),
            )
            self._relay.links.core.filter_chain.enter(in_flight, behind)
        self._relay.links.flush()
        if self._relay.links.backlog > MAX_BACKLOG and not self.supervisor.paused:
            self.supervisor.pause_sending(
                f"more than {MAX_BACKLOG} bytes wait for the relay's disk or its plugins"
            )

    def has_room(self) -> None:
        """What waited for the disk has got there: plugins may send again."""
        if self.supervisor.paused:
            self.supervisor.resume_sending()

    def _append(self, package: str, origin: str, done: "asyncio.Future[None]", through: InFlight) -> None:
        try:
            entry = self._relay.links.core.append_unnumbered(origin, through)
        except (StorageFull, StorageFailed) as error:
            self.lost += through.count
            if not self._is_losing:
                _logger.error("%s: what it sends is lost until there is room again: %s", package, error)
            self._is_losing = True
            self._failed[package] = error
            done.set_result(None)
            return
        self._is_losing = False
        self._relay.published += entry.count
        self._tasks.start(self._kept(package, entry.position, done))

    async def _kept(self, package: str, position: int, done: "asyncio.Future[None]") -> None:
        try:
            await self._relay.waiters.on_disk(position)
        except StorageFailed as error:
            self._failed[package] = error
        finally:
            done.set_result(None)

    async def _flushed(self, package: str) -> None:
        """Wait until all that a package has sent is on disk; it is told once of what has not got there."""
        if under_way := tuple(self._sent.get(package, ())):
            await asyncio.wait(under_way)
        if (failed := self._failed.pop(package, None)) is not None:
            raise failed
