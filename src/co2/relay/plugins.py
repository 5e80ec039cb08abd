"""The relay plugins of a relay: they filter messages, admit hosts, and send messages."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import monotonic

from co2 import __version__
from co2.config import RelayConfig
from co2.errors import PeerError, StorageFailed, StorageFull
from co2.host_id import HostId
from co2.plugin.parent.supervisor import Supervisor
from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.filter_chain import InFlight
from co2.protocol.wire.plugin_frames.frames import Host, Publish
from co2.relay.commit_waiters import CommitWaiters
from co2.relay.link_reader import MAX_BACKLOG
from co2.relay.links import Links
from co2.relay.members import Members
from co2.relay.split_by_origin import by_first_sender
from co2.server.admin.host_plugins import HostPlugins, PluginNetwork
from co2.server.admin.plugin_control import Found
from co2.server.rpc.method_call import MethodCalls
from co2.xmlrpc.registry import Registry

__all__ = ["ADMISSION_TIMEOUT", "RelayPlugins"]

ADMISSION_TIMEOUT = 5.0
"""Seconds in total for relay plugins to decide whether a host may join; after that it may."""

_logger = logging.getLogger("co2.relay")


class RelayPlugins(HostPlugins):
    """Carries the packages in ``plugin_list``.

    Attributes:
        published: number of messages that plugins have sent.
        lost: number of messages of plugins that the log had no room for.

    Args:
        config: the relay's.
        state: its state folder.
        host_id: its own.
        core: appends the plugins' messages.
        links: handles the resulting events.
        members: the connected members.
        waiters: wait for the disk.
        calls: passes on calls of plugins.
        registry: gets the methods of plugins.
    """

    def __init__(
        self,
        config: RelayConfig,
        state: Path,
        *,
        host_id: HostId,
        core: RelayCore,
        links: Links,
        members: Members,
        waiters: CommitWaiters,
        calls: MethodCalls,
        registry: Registry,
    ) -> None:
        super().__init__(config, state, registry, _logger)
        self._host_id = host_id
        self._core = core
        self._links = links
        self._members = members
        self._waiters = waiters
        self._sent: dict[str, set[asyncio.Future[None]]] = {}
        self._failed: dict[str, StorageFull] = {}
        self.lost = 0
        self.published = 0
        self._is_losing = False
        self._carry_with(
            Supervisor(
                self._specs,
                settings=config,
                var_dict={"role": "relay", "host_id": str(host_id), "relay": "", "version": __version__},
                host_id=lambda: str(host_id),
                address=lambda: (host_id.ip, host_id.port),
                on_publish=self._publish,
                flushed=self._flushed,
                on_methods_changed=self._methods_changed,
                network=PluginNetwork(calls, self._hosts),
                order=config.plugin_list or (),
            )
        )

    def transit(self) -> Counter[str]:
        """Return counts of the messages through the relay plugins, in total."""
        counts: Counter[str] = Counter()
        for row in self.supervisor.status():
            counts.update(row.transit)
        return counts

    async def refusal(self, host: HostId, methods: Sequence[str], plugins: Sequence[str]) -> str:
        """Ask every admitting plugin whether a host may join; return the reason why not, '' if it may."""
        asked = Host(str(host), [*methods], [*plugins])
        deadline = monotonic() + ADMISSION_TIMEOUT
        for package, plugin in self.supervisor.admitting():
            try:
                left = max(0.0, round(deadline - monotonic(), 2))
                why = await self.supervisor.admit(package, plugin, asked, left)
            except PeerError as error:
                _logger.error("%s is admitted without an answer of the plugin: %s", host, error)
                continue
            if why:
                _logger.warning("%s may not join: %s: %s", host, plugin, why)
                return f"{plugin}: {why}"
        return ""

    def hosts_changed(self, joined: Sequence[Host], left: Sequence[Host]) -> None:
        """Report to plugins which hosts have joined and left."""
        self.supervisor.hosts_changed(joined, left)

    def _find(self, names: Sequence[str] | None) -> Found:
        return super()._find((self._config.plugin_list or ()) if names is None else names)

    def _hosts(self) -> list[Host]:
        return [member.as_host() for member in self._members]

    def _methods_changed(self) -> None:
        self._core.filter_chain.set_filters(self.supervisor.stages())
        self._core.asks = bool(self.supervisor.admitting())
        super()._methods_changed()

    # messages of plugins

    def _publish(self, package: str, frame: Publish, count: int) -> None:
        """Pass on a plugin's messages to the filters behind it; they have no numbers, and leave from the disk."""
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
            self._core.filter_chain.enter(in_flight, behind)
        self._links.driver.flush()
        if self._links.is_held_up and not self.supervisor.paused:
            self.supervisor.pause_sending(
                f"more than {MAX_BACKLOG} bytes wait for the relay's disk or its plugins"
            )

    def has_room(self) -> None:
        """Resume the plugins' sends: the backlog has reached the disk."""
        if self.supervisor.paused:
            self.supervisor.resume_sending()

    def _append(self, package: str, origin: str, done: "asyncio.Future[None]", through: InFlight) -> None:
        try:
            entry = self._core.append_unnumbered(origin, through)
        except StorageFull as error:
            self.lost += through.count
            if not self._is_losing:
                _logger.error("%s: its messages are lost until there is room again: %s", package, error)
            self._is_losing = True
            self._failed[package] = error
            done.set_result(None)
            return
        self._is_losing = False
        self.published += entry.count
        self._tasks.start(self._kept(package, entry.position, done))

    async def _kept(self, package: str, position: int, done: "asyncio.Future[None]") -> None:
        try:
            await self._waiters.on_disk(position)
        except StorageFailed as error:
            self._failed[package] = error
        finally:
            done.set_result(None)

    async def _flushed(self, package: str) -> None:
        """Wait until all that a package has sent is on disk; raise the error of messages that are lost, once."""
        if under_way := tuple(self._sent.get(package, ())):
            await asyncio.wait(under_way)
        if (failed := self._failed.pop(package, None)) is not None:
            raise failed
