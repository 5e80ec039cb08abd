"""The parent of all plugin hosts of a satellite: it passes their messages on, and delivers messages to them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from co2.errors import BadParams, LoadError, NoSuchMethod, PluginFailed
from co2.plugin.packages.spec import PackageSpec, PluginSettings
from co2.plugin.parent.calls_out import NetworkQueries, NoNetwork
from co2.plugin.parent.delivery import NETWORK
from co2.plugin.parent.delivery_queue import Envelope, GapRange, QueuedBatch
from co2.plugin.parent.filter_stage import FilterStage
from co2.plugin.parent.status import PackageStatus
from co2.plugin.parent.watchdog import TICK
from co2.protocol.wire.batch import batch_count
from co2.protocol.wire.plugin_frames.frames import DeadLetter, Host, MethodInfo, Publish
from co2.tasks import TaskSet

if TYPE_CHECKING:
    from co2.plugin.parent.package import Package

__all__ = ["OnPublish", "PackageSpec", "PackageStatus", "PluginSettings", "Supervisor"]

OnPublish = Callable[[str, Publish, int], None]
"""Called with the package, the frame that one of its plugins sent, and the number of messages in it."""

_logger = logging.getLogger("co2.plugins")


class Supervisor:
    """Carries plugin packages, each in a child of its own. Use it from one event loop.

    Args:
        specs: the packages.
        settings: limits, as in the satellite's configuration.
        var_dict: variables for plugins.
        host_id: returns the current host_id of this host, for messages between siblings.
        address: returns the current (ip, port), likewise.
        on_publish: called with each frame for the network, in order; must not block.
        flushed: returns an awaitable that is done when all that a package has published so far is acknowledged.
        on_start: called before the first load of a package; from then on it gets the messages of its siblings.
        on_room: called with a full package that has room for messages from the network again.
        on_methods_changed: called when :attr:`methods` or the plugins have changed.
        network: the network that plugins can query; None for none.
        on_dead_letter: called with package and letter for each message that a plugin did not accept; must not
            block.
        order: names of packages in the order in which they filter messages; others follow in the order of loading.
        clock: returns the time, for messages between siblings.
    """

    def __init__(
        self,
        specs: Sequence[PackageSpec],
        *,
        settings: PluginSettings,
        var_dict: Mapping[str, Any],
        host_id: Callable[[], str],
        address: Callable[[], tuple[str, int]],
        on_publish: OnPublish,
        flushed: Callable[[str], Awaitable[None]],
        on_methods_changed: Callable[[], None],
        on_start: Callable[[], None] = lambda: None,
        on_room: Callable[[str], None] = lambda package: None,
        on_dead_letter: Callable[[str, DeadLetter], None] = lambda package, letter: None,
        network: NetworkQueries | None = None,
        order: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
        next_number: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        self.paused = ""
        self._clock = clock
        self._next_number = next_number
        self.network = network or NoNetwork()
        self._settings = settings
        self._host_id = host_id
        self._address = address
        self._on_publish = on_publish
        self._flushed = flushed
        self._on_methods_changed = on_methods_changed
        self._on_start = on_start
        self._on_room = on_room
        self._on_dead_letter = on_dead_letter
        self._first = specs
        self._var_dict = var_dict
        self._packages: dict[str, Package] = {}
        self._unloaded: dict[str, tuple[str, int]] = {}
        self._order = {name: place for place, name in enumerate(order)}
        self._tasks = TaskSet(_logger, "a task of the supervisor")
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    async def start(self) -> None:
        """Start every package; return when each is up or has failed, at most ``load_timeout`` later."""
        if self._settings.isolation == "thread" and self._first:
            _logger.warning(
                "isolation is 'thread': plugins share the satellite's process; one that hangs cannot be stopped, "
                "and one that crashes ends the satellite"
            )
        settled = [asyncio.create_task(self._carry(spec).lifecycle.settled.wait()) for spec in self._first]
        self._tasks.start(self._watch_plugins(), "plugin watchdog")
        if settled:
            _, late = await asyncio.wait(settled, timeout=self._settings.load_timeout)
            for task in late:
                task.cancel()

    async def stop(self, timeout: float) -> None:
        """Stop all packages at once; ``__exit__`` runs within ``timeout`` seconds, last sends are passed on."""
        self._stopping = True
        await asyncio.gather(*(package.lifecycle.stop(timeout) for package in self._packages.values()))
        if self._lives:
            await asyncio.wait(self._lives.values())
        for package in self._packages.values():
            package.close()
        await self._tasks.stop()

    async def load(self, spec: PackageSpec) -> None:
        """Load another package; one that has failed or is parked is tried again.

        Raises:
            LoadError: the package cannot be loaded, or runs already.
        """
        package = self._packages.get(spec.name)
        if package is not None and package.state in ("failed", "parked"):
            await package.lifecycle.reload(spec)
        elif package is not None:
            raise LoadError(spec.name, f"it is already loaded ({package.state}); reload it to use new code")
        elif self._stopping:
            raise LoadError(spec.name, "the satellite is stopping")
        else:
            # Its first load answers the caller, like every later one.
            await self._carry(spec).lifecycle.reload(spec)

    async def unload(self, name: str, timeout: float) -> None:
        """Stop a package in an orderly way, ``__exit__`` within ``timeout`` seconds, and remove it.

        Raises:
            LoadError: it is not loaded.
        """
        package = self._packages.get(name)
        if package is None:
            raise LoadError(name, "it is not loaded")
        await package.lifecycle.stop(timeout)
        await asyncio.wait([self._lives[name]])
        if self._packages.get(name) is package:
            package.close()
            if package.durable:
                self._unloaded[name] = package.standing  # where it resumes when it is loaded again
            del self._packages[name], self._lives[name]
            _logger.info("%s: unloaded", name)
            self.methods_changed()

    async def reload(self, spec: PackageSpec, *, fresh: bool = False) -> None:
        """Load the current code and configuration of a package; one that has failed or is parked is tried again.

        Args:
            spec: the package, as configured now.
            fresh: hand nothing over to the new code.

        Raises:
            LoadError: the new code cannot be loaded, or the package is not loaded. A running package stays as it
                was.
        """
        package = self._packages.get(spec.name)
        if package is None:
            raise LoadError(spec.name, "it is not loaded")
        await package.lifecycle.reload(spec, fresh=fresh)

    def keep(self, name: str) -> None:
        """Record that the folder has the running code again, after newer code was refused."""
        if (package := self._packages.get(name)) is not None:
            package.lifecycle.keep()

    def _carry(self, spec: PackageSpec) -> "Package":
        from co2.plugin.parent.package import Package  # most relays carry none

        self._on_start()
        package = self._packages[spec.name] = Package(spec, self._settings, self._var_dict, self)
        self._lives[spec.name] = self._tasks.start(package.lifecycle.run(), f"plugin package {spec.name}")
        return package

    def deliver(
        self,
        host_id: str,
        client_address: tuple[str, int],
        channels: Sequence[str] | None,
        batch: bytes,
        skip: int = 0,
    ) -> None:
        """Deliver a batch of one sender to all packages that want any of its channels.

        Args:
            host_id: the sender's.
            client_address: (ip, port) of its connection, as its relay saw it.
            channels: of its messages, '' for none; None if unknown.
            batch: the messages.
            skip: number of messages at its front that were delivered before.

        Raises:
            BadRequest: it is not a batch.
        """
        queued = QueuedBatch(Envelope(host_id, client_address), batch, batch_count(batch), skip)
        for package in self._packages.values():
            if package.wants(channels):
                package.deliver(NETWORK, queued)

    def deliver_to(self, package: str, queued: QueuedBatch) -> bool:
        """Queue a batch for a package that wants it; return whether there is room for more.

        If there is none, ``on_room`` is called when there is again.
        """
        carried = self._packages.get(package)
        return carried is None or not carried.receives or carried.deliver_from_network(queued)

    def wants_times(self, package: str) -> bool:
        """Return whether a package wants to know when the relay got its messages."""
        carried = self._packages.get(package)
        return carried is not None and carried.times

    def gap(self, after: int, following: int, reason: str) -> None:
        """Report to all packages that messages from the network will not come.

        Args:
            after: position of the last message before the gap.
            following: position of the first one after it.
            reason: the cause.
        """
        for package in self._packages:
            self.gap_to(package, GapRange(after, following, (reason,)))

    def gap_to(self, package: str, gap: GapRange) -> None:
        """Report to a package that messages from the network will not come."""
        carried = self._packages.get(package)
        if carried is not None and carried.receives:
            carried.gap(NETWORK, gap)

    def positions(self, log_id: str) -> dict[str, int]:
        """Return the position of each durable package in this log, also of unloaded ones.

        Packages that are done with no message in it are left out.
        """
        unloaded = {
            name: position for name, (log, position) in self._unloaded.items() if log == log_id and position
        }
        return unloaded | {
            package.name: position
            for package in self._packages.values()
            if package.durable and (position := package.position(log_id))
        }

    def hosts_changed(self, joined: Sequence[Host], left: Sequence[Host]) -> None:
        """Send the hosts that have joined and left to the plugins that want them."""
        for package in self._packages.values():
            package.hosts_changed(joined, left)

    def has_room(self, package: "Package") -> None:
        """Report that a package has room for messages from the network again."""
        self._on_room(package.name)

    def pause_sending(self, why: str = "the satellite's outbox is full") -> None:
        """Make plugins' sends wait until :meth:`resume_sending`, because the outbox is full. Calls continue.

        Args:
            why: the reason in OutboxFull; a further call changes it.
        """
        self._flow(why)

    def resume_sending(self) -> None:
        """End the wait of plugins' sends: the outbox has room again."""
        self._flow("")

    async def call(self, method: str, argument: Mapping[str, Any]) -> Any:
        """Call a plugin's ``x_`` method.

        Args:
            method: ``<package>.<module>.<method>``.
            argument: a dictionary with the key ``data``.

        Raises:
            NoSuchMethod: no plugin has it.
            BadParams: no key ``data``, or an argument that cannot be packed.
            PluginFailed: it raised, its plugin host died or is not running, or its result cannot be packed.
            CallTimeout: no answer in time.
        """
        package = self._packages.get(method.partition(".")[0])
        if package is None or method not in package.methods:
            raise NoSuchMethod(method)
        if not isinstance(argument, Mapping) or "data" not in argument:
            raise BadParams(f"{method} takes one dictionary with the key 'data'")
        # The watchdog ends a call at its deadline; this limit is for one that waits behind others.
        return await package.call(method, argument, self._settings.receive_deadline + 1.0)

    async def describe_method(self, method: str) -> Mapping[str, Any]:
        """Return ``parameters``, ``result`` and ``danger`` of a plugin's ``x_`` method.

        Raises:
            NoSuchMethod: no plugin has it.
            PluginFailed: its plugin host died or is not running, or there is no schema.
            CallTimeout: no answer in time.
        """
        package = self._packages.get(method.partition(".")[0])
        if package is None or method not in package.methods:
            raise NoSuchMethod(method)
        found: Mapping[str, Any] = await package.describe("method", method, self._settings.receive_deadline + 1.0)
        return found

    async def describe(self, package: str, what: str) -> Any:
        """Return a schema of a package.

        Args:
            package: its name.
            what: ``config`` or ``sends``.

        Raises:
            LoadError: it is not loaded.
            PluginFailed: its plugin host died or is not running, or there is no schema.
            CallTimeout: no answer in time.
        """
        carried = self._packages.get(package)
        if carried is None:
            raise LoadError(package, "it is not loaded")
        return await carried.describe(what, "", self._settings.receive_deadline + 1.0)

    async def repeat(self, package: str, letter: DeadLetter) -> None:
        """Pass a dead letter to its plugin again, marked ``repeat: True``; return when the plugin has taken it.

        Args:
            package: its name.
            letter: the letter, as ``on_dead_letter`` got it.

        Raises:
            PluginFailed: it raised again, its plugin host died or is not running, or there is no such plugin.
            CallTimeout: no answer in time.
        """
        carried = self._packages.get(package)
        if carried is None:
            raise PluginFailed(f"{letter.plugin}.receive: no plugin package {package} is loaded")
        await carried.repeat(letter, self._settings.receive_deadline + 1.0)

    def stages(self) -> list[FilterStage]:
        """Return the filter stages for messages through a relay, in order."""
        return [stage for package in self._chain() for stage in package.filters.stages]

    def _chain(self) -> "list[Package]":
        return sorted(self._packages.values(), key=lambda one: self._order.get(one.name, len(self._order)))

    def stage_of(self, package: str, plugin: str) -> FilterStage | None:
        """Return the stage after which a plugin's messages enter: its own, or the last one up to its package."""
        last: FilterStage | None = None
        for carried in self._chain():
            stages = carried.filters.stages
            last = stages[-1] if stages else last
            if carried.name == package:
                return next((stage for stage in stages if stage.plugin == plugin), last)
        return last

    def admitting(self) -> list[tuple[str, str]]:
        """Return (package, plugin) of the plugins that decide who may join a relay, in order."""
        return [
            (package.name, plugin.name)
            for package in self._chain()
            if package.state == "running"
            for plugin in package.plugins
            if plugin.admits
        ]

    async def admit(self, package: str, plugin: str, host: Host, timeout: float) -> str:
        """Ask a relay plugin whether a host may join; return the reason why not, '' if it may.

        Raises:
            PluginFailed: it raised, or its plugin host died or is not running.
            CallTimeout: no answer within ``timeout`` seconds.
        """
        carried = self._packages.get(package)
        return await carried.admit(plugin, host, timeout) if carried is not None else ""

    def log(self, name: str, after: int, max_rows: int) -> list[dict[str, Any]] | None:
        """Return the last lines of a package's log; None if it is not loaded."""
        package = self._packages.get(name)
        return package.log(after, max_rows) if package is not None else None

    def spec(self, name: str) -> PackageSpec | None:
        """Return the spec with which a package was loaded last; None if it is not loaded."""
        package = self._packages.get(name)
        return package.lifecycle.spec if package is not None else None

    @property
    def methods(self) -> Mapping[str, MethodInfo]:
        """All ``x_`` methods, by name."""
        return {
            name: method
            for package in self._packages.values()
            if package.state != "failed"
            for name, method in package.methods.items()
        }

    @property
    def packages(self) -> "Mapping[str, Package]":
        """All packages, by name."""
        return self._packages

    def status(self) -> list[PackageStatus]:
        """Return the status of each package."""
        return [package.status() for package in self._packages.values()]

    def published(self, package: "Package", frame: Publish, count: int) -> None:
        """Pass on a plugin's frame: to its siblings at once, and to the network.

        Args:
            package: of the plugin.
            frame: as the plugin host sent it.
            count: number of messages in it.
        """
        run, number = (0, 0) if frame.live else self._next_number()
        for other in self._packages.values():
            sender = frame.plugin if other is package else ""
            # A durable one gets them from the relay, with a position to resume at.
            if other.wants(frame.channels, sender) and not other.durable:
                at = self._clock() if other.times else 0.0
                envelope = Envelope(self._host_id(), self._address(), sender, at)
                other.deliver(package.name, QueuedBatch(envelope, frame.batch, count, cause=number, run=run))
        self._on_publish(package.name, frame, count)

    def flushed(self, package: "Package") -> Awaitable[None]:
        """Wait until all that a package has published so far is acknowledged."""
        return self._flushed(package.name)

    def dead_letter(self, package: "Package", letter: DeadLetter) -> None:
        """Pass a dead letter on."""
        self._on_dead_letter(package.name, letter)

    def methods_changed(self) -> None:
        """Report that a package's methods have changed."""
        try:
            self._on_methods_changed()
        except Exception:
            _logger.exception("the new methods of plugins could not be announced")

    def _flow(self, why: str) -> None:
        if why == self.paused:
            return
        self.paused = why
        for package in self._packages.values():
            package.flow(why)

    async def _watch_plugins(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            for package in self._packages.values():
                try:
                    package.look(now)
                except Exception:
                    _logger.exception("watching %s failed", package.name)
