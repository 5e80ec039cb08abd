"""The satellite: sends the messages of its plugins, and delivers messages to them."""

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from co2.config import SatelliteConfig
from co2.host_id import HostId
from co2.plugin.parent.delivery_queue import Envelope, GapRange, QueuedBatch
from co2.plugin.parent.snapshot_batches import left_out_words, snapshot_batches
from co2.plugin.parent.status import PackageStatus
from co2.plugin.parent.supervisor import Supervisor
from co2.protocol.satellite.core import Delivered, SnapshotCame
from co2.protocol.satellite.outbox import MEMORY, Outbox
from co2.protocol.wire.link_frames import Gap
from co2.protocol.wire.plugin_frames.frames import DeadLetter, Host, Publish
from co2.satellite.dead_letters import DeadLetters
from co2.satellite.health import health_of
from co2.satellite.link import Link
from co2.satellite.notify_endpoint import NotifyEndpoint
from co2.satellite.outbox_disk import OutboxDisk
from co2.satellite.relay_requests import PackageControl, RelayRequests
from co2.satellite.subscriptions import Subscriptions
from co2.server.express.message_clock import MessageClock
from co2.server.process.local_address import local_ip
from co2.store.state_folder import StateFolder
from co2.tasks import TaskSet
from co2.xmlrpc.registry import Caller

__all__ = ["APPLIED_TICKS", "CURSOR_INTERVAL", "LAST_SENDS", "OUTBOX_FILE", "Plugins", "SatelliteRole"]

OUTBOX_FILE = "outbox.db"
"""Name of the file in the state folder for messages that the relay has not acknowledged."""

CURSORS_FILE = "cursors.json"
"""Name of the file in the state folder for the positions of durable packages."""

DEAD_LETTERS_FILE = "dead_letters.db"
"""Name of the file in the state folder for messages that plugins did not accept."""

CURSOR_INTERVAL = 0.5
"""Seconds between two checks of the positions of durable packages."""

APPLIED_TICKS = 10
"""Number of checks after which the positions are reported to the relay."""

LAST_SENDS = 1.0
"""Seconds for the plugins' last messages to be sent when the satellite stops."""

_logger = logging.getLogger("co2.satellite")


class Plugins(Protocol):
    """The plugins as a satellite needs them."""

    @property
    def supervisor(self) -> Supervisor:
        """The parent of their hosts."""

    @property
    def control(self) -> PackageControl:
        """Loads new code of a package."""

    @property
    def expected(self) -> list[str]:
        """Names of the packages that are loaded at the start."""

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of methods and plugins for other hosts."""

    def status(self) -> list[PackageStatus]:
        """Return the status of each package."""


class SatelliteRole:
    """The satellite's part between its plugins and its relay: outbox, link, subscriptions.

    It is the receiver of its link, see :class:`~co2.satellite.link.LinkReceiver`.

    Args:
        config: checked configuration.
        state: the state folder.
        port: that the host listens on.
        dispatch: calls a method of this satellite for another host: (method, argument, caller).

    Attributes:
        outbox: messages that wait for the relay.
        link: to the relay.
        dead_letters: messages that plugins did not accept.
        clock: of messages between its plugins.
        notify_endpoint: handles messages of a relay without a link; set with the plugins.
    """

    def __init__(
        self,
        config: SatelliteConfig,
        state: StateFolder,
        port: int,
        dispatch: Callable[[str, Any, Caller], Awaitable[Any]],
    ) -> None:
        self._config = config
        self._dispatch = dispatch
        self._plugins: Plugins
        self._supervisor: Supervisor
        self._tasks = TaskSet(_logger, "a task of the satellite")
        self._full = ""
        self.clock = MessageClock()
        # A new run each time: a restored or copied state folder cannot reuse a number unnoticed.
        epoch = secrets.randbits(63) | 1
        self.outbox = Outbox(epoch, config.outbox_max, self._outbox_full, self._outbox_has_room, time.monotonic)
        self._outbox_disk = OutboxDisk(self.outbox, state.path / OUTBOX_FILE, self._flush)
        self.link = Link(
            url=config.relay,
            host_id=HostId(state.origin, local_ip(config.bind, "127.0.0.1"), port),
            outbox=self.outbox,
            receiver=self,
            names=self._names,
            load=self._outbox_disk.load,
            reconnect_max=config.reconnect_max,
            folder=state.path,
            token=state.secret,
            wish=config.name,
            moved=self._outbox_disk.moved,
        )
        self.dead_letters = DeadLetters(state.path / DEAD_LETTERS_FILE, self._repeat)
        self._subscriptions = Subscriptions(self.link.core, state.path / CURSORS_FILE)

    def carry(self, plugins: Plugins) -> None:
        """Connect these plugins; to be called once, before :meth:`start`."""
        self._plugins, self._supervisor = plugins, plugins.supervisor
        self.notify_endpoint = NotifyEndpoint(
            self.link.host_id.origin,
            lambda: self.link.relay_ips,
            self._closed_to_notify,
            plugins.supervisor.deliver,
            plugins.supervisor.gap,
        )
        self._requests = RelayRequests(
            self._config.managed,
            control=plugins.control,
            status=plugins.status,
            log=plugins.supervisor.log,
            letters=self.dead_letters,
        )
        self._subscriptions.expect(plugins.expected)

    async def start(self) -> None:
        """Start the link to the relay, which may be away."""
        self._outbox_disk.start()
        await self.dead_letters.start()
        self._tasks.start(self.link.run())
        self._tasks.start(self._look_after())

    async def stop(self) -> None:
        """Send the last messages, say goodbye, and end; the plugins have stopped before."""
        await self._requests.stop()
        await self.dead_letters.close()
        await self._save_cursors()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SENDS):
                await self.link.flushed()
        if len(self.outbox):
            left = len(self.outbox)
            waits = "message waits" if left == 1 else "messages wait"
            _logger.warning("%d %s on disk for the relay, until the next start", left, waits)
        await self.link.leave(0.5)
        await self._outbox_disk.close()
        await self._tasks.stop()

    def problems(self) -> list[str]:
        """Return the faults of this satellite's disk, one line each."""
        found = (self._outbox_disk.problem, self.dead_letters.problem, self._subscriptions.problem)
        return [problem for problem in found if problem]

    # ---- from its plugins --------------------------------------------------------------------------------

    def publish(self, package: str, frame: Publish, count: int) -> None:
        """Send a plugin's frame."""
        self.link.driver.publish(package, frame, count)
        self._outbox_disk.watch()

    def has_room(self, package: str) -> None:
        """Deliver the messages that a full package missed: it has room again."""
        self.link.core.catch_up(package)
        self.link.driver.flush()

    def package_starts(self) -> None:
        """Remember what plugins send: a package that starts gets it at once, and no older last value later."""
        self.link.core.remember_sent(wanted=True)

    def packages_changed(self) -> None:
        """Update the subscriptions, and report names and health to the relay."""
        self._subscriptions.update(self._supervisor.status(), self._positions())
        self._remember_sent()
        self.link.core.names_changed()
        self._tell_health()
        self.link.driver.flush()

    def _remember_sent(self) -> None:
        starting = any(row.state == "starting" for row in self._supervisor.status())
        self.link.core.remember_sent(wanted=starting or self.link.core.waits_for_values)

    # ---- from the link -----------------------------------------------------------------------------------

    def deliver(self, package: str, delivered: Delivered) -> bool:
        """Deliver messages to a package; return whether it has room for more."""
        frame = delivered.frame
        own = frame.host_id.partition("@")[0] == self.link.host_id.origin and frame.sender == package
        at = frame.at if self._supervisor.wants_times(package) else 0.0
        envelope = Envelope(frame.host_id, frame.client_address, frame.plugin if own else "", at)
        core = self.link.core
        queued = QueuedBatch(
            envelope,
            frame.batch,
            delivered.count,
            delivered.skip,
            frame.position if frame.package else 0,
            core.log_id,
            cause=frame.position if core.causes else 0,
        )
        return self._supervisor.deliver_to(package, queued)

    def snapshot(self, came: SnapshotCame) -> bool:
        """Deliver last values to a package; return whether it has room for more."""
        self._remember_sent()
        has_room = True
        times = self._supervisor.wants_times(came.package)
        for queued in snapshot_batches(came.package, came.values, self.link.host_id.origin, times=times):
            has_room = self._supervisor.deliver_to(came.package, queued)
        if came.left_out:
            self._supervisor.gap_to(came.package, GapRange(reasons=(left_out_words(came.left_out),)))
        return has_room

    def gap(self, package: str, gap: Gap) -> None:
        """Report a gap to a package."""
        log_id = self.link.core.log_id
        self._supervisor.gap_to(package, GapRange(gap.after, gap.next + 1, (gap.reason,), log_id=log_id))

    async def called(self, method: str, argument: Any) -> Any:
        """Call a method of this satellite for the relay, which passes on the call of another host."""
        caller = Caller(min(self.link.relay_ips, default="127.0.0.1"), 0, relayed=True)
        return await self._dispatch(method, argument, caller)

    async def asked(self, asker: str, method: str, argument: Any) -> Any:
        """Do what the relay asks for somebody at its own machine."""
        return await self._requests.answer(asker, method, argument)

    def hosts_changed(self, joined: Sequence[Host], left: Sequence[Host]) -> None:
        """Report to plugins which other satellites have joined and left the network."""
        mine = self.link.host_id.origin
        others = [
            [host for host in hosts if HostId.parse(host.host_id).origin != mine] for hosts in (joined, left)
        ]
        if any(others):
            self._supervisor.hosts_changed(*others)

    # ---- regular tasks -----------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        """Save the positions of durable packages regularly, and report positions and health to the relay."""
        for tick in itertools.count(1):
            await asyncio.sleep(CURSOR_INTERVAL)
            self.clock.look()
            if self._supervisor.paused:
                self._tell_why_full()
            self._tell_health()
            if tick % APPLIED_TICKS == 0:
                self.link.tell_applied()
            if self.link.joined.is_set():
                await self._save_cursors()

    def _tell_health(self) -> None:
        """Report the health of the packages to the relay, if it has changed."""
        if self.link.joined.is_set():
            health = health_of(self._plugins.status(), self.dead_letters.kept)
            self.link.tell_health(health, self._config.bind)

    async def _save_cursors(self) -> None:
        await self._subscriptions.save(self._positions())

    def _positions(self) -> dict[str, int]:
        """Return the positions of durable packages in the current log."""
        return self._supervisor.positions(self.link.core.log_id)

    def _names(self) -> tuple[list[str], list[str]]:
        return self._plugins.names()

    def _flush(self) -> None:
        self.link.driver.flush()

    # ---- room --------------------------------------------------------------------------------------------

    def _outbox_full(self) -> None:
        limit = self._config.outbox_max
        if self.outbox.bytes > limit:
            self._full = f"the messages that wait at the satellite have reached outbox_max, {limit} bytes"
        else:
            self._full = f"{MEMORY} bytes at the satellite wait for its disk, which is slow or has no room"
        self._tell_why_full()

    def _tell_why_full(self) -> None:
        """Report to waiting plugins what they wait for, as it is now."""
        self._supervisor.pause_sending(f"{self._full}; {self.link.standing}")

    def _outbox_has_room(self) -> None:
        self._supervisor.resume_sending()

    def _closed_to_notify(self) -> str:
        if self.link.joined.is_set():
            return "this satellite has a link to its relay and accepts messages only over it"
        if not self._config.accept_notify:
            return (
                "this satellite accepts messages only over its link; accept_notify = true in co2.toml allows "
                "notify"
            )
        return ""

    async def _repeat(self, package: str, letter: DeadLetter) -> None:
        await self._supervisor.repeat(package, letter)
