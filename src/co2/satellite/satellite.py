"""The satellite: carries plugins, sends what they send, gives them what others sent."""

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from co2 import __version__
from co2.config import SatelliteConfig, plugin_tables
from co2.errors import Denied, NoSuchMethod
from co2.host_id import HostId
from co2.plugin.packages.discovery import find_packages, stray_tables
from co2.plugin.packages.spec import PackageSpec
from co2.plugin.parent.delivery_queue import Envelope, GapRange, QueuedBatch
from co2.plugin.parent.status import PackageStatus
from co2.plugin.parent.supervisor import Supervisor
from co2.protocol.satellite.core import Delivered
from co2.protocol.satellite.outbox import MEMORY, Outbox
from co2.protocol.wire.host_names import (
    MAX_NAME,
    MAX_NAMES,
    MAX_NAMES_SIZE,
    MAX_PACKAGES,
    fitting_names,
    fitting_packages,
    names_size,
)
from co2.protocol.wire.link_frames import Gap
from co2.protocol.wire.plugin_frames.frames import DeadLetter, Host, Publish
from co2.satellite.dead_letters import DeadLetters
from co2.satellite.forecast import Forecaster
from co2.satellite.health import health_of
from co2.satellite.link import Link
from co2.satellite.notify_endpoint import NotifyEndpoint
from co2.satellite.outbox_disk import OutboxDisk
from co2.satellite.plugin_network import OF_THE_RELAY, PluginNetwork
from co2.satellite.view import SatelliteView
from co2.server.admin.file_watch import PluginWatch
from co2.server.admin.plugin_control import PluginControl, package_row, warn_of_those_that_do_not_run
from co2.server.admin.plugin_methods import plugin_entries
from co2.server.express import loop as express
from co2.server.http.limits import Limits
from co2.server.http.server import HttpServer
from co2.server.process.fd_limit import SPARE_FILES, allow_files
from co2.server.process.info import hardware, software
from co2.server.process.local_address import host_url, local_ip
from co2.server.process.run import Foundation
from co2.server.rpc.method_call import MethodCalls, is_reserved
from co2.store.cursors import Cursors
from co2.tasks import TaskSet
from co2.web.buttons import make_buttons
from co2.web.pages import make_pages
from co2.xmlrpc.introspection import add_introspection
from co2.xmlrpc.registry import Caller, Registry

__all__ = ["CALL_TIMEOUT", "LAST_SENDS", "SatelliteRole"]

CALL_TIMEOUT = 30.0
"""Seconds that a call passed on to another host may take."""

OUTBOX_FILE = "outbox.db"
"""Name, in the state folder, of the file in which messages wait that the relay has not acknowledged."""

CURSORS_FILE = "cursors.json"
"""Name, in the state folder, of the file that says how far durable packages are."""

DEAD_LETTERS_FILE = "dead_letters.db"
"""Name, in the state folder, of the file of messages that plugins did not take."""

STORES_FOLDER = "stores"
"""Name, in the state folder, of the folder with what plugins keep in ``self.store``, a file for each package."""

CURSOR_INTERVAL = 0.5
"""Seconds between two looks at how far durable packages are."""

APPLIED_TICKS = 10
"""Every so many looks the relay is told how far the packages are."""

NETWORK_NAMES = 256 * 1024
"""Bytes of the names of others' methods that co2.get_properties tells."""

LAST_SENDS = 1.0
"""Seconds in which what plugins sent last goes out when the satellite stops."""

ONE_TOO_MANY = (
    f"a satellite carries at most {MAX_PACKAGES} packages, with {MAX_NAMES_SIZE} bytes of names together, and "
    "this one is beyond; start another satellite for it"
)
"""Why a package is not loaded that the relay could not be told of."""

_logger = logging.getLogger("co2.satellite")


class SatelliteRole:
    """Wires plugin hosts, outbox, membership, intake and the server.

    Args:
        config: checked configuration.
        foundation: state folder and listening socket.
    """

    def __init__(self, config: SatelliteConfig, foundation: Foundation) -> None:
        self.config = config
        self.registry = Registry()
        self._sock = foundation.sock
        self._started = time.monotonic()
        self._tasks = TaskSet(_logger, "a task of the satellite")
        self._stores = foundation.state.path / STORES_FOLDER
        found, self.not_found = find_packages(config)
        fitting = fitting_packages([spec.name for spec in found])
        self.not_found += [(spec.name, ONE_TOO_MANY) for spec in found[fitting:]]
        self._specs = self._with_stores(found[:fitting])
        # A run of its own each time: a restored or copied state folder cannot use a number unseen.
        epoch = secrets.randbits(63) | 1
        self._full = ""
        self._names_left_out = 0
        self.outbox = Outbox(epoch, config.outbox_max, self._outbox_full, self._outbox_has_room, time.monotonic)
        self._outbox_disk = OutboxDisk(self.outbox, foundation.state.path / OUTBOX_FILE, self._work)
        self.link = Link(
            url=config.relay,
            host_id=HostId(foundation.state.origin, local_ip(config.bind, "127.0.0.1"), foundation.port),
            outbox=self.outbox,
            receiver=self,
            names=self._names,
            load=self._outbox_disk.load,
            reconnect_max=config.reconnect_max,
            folder=foundation.state.path,
            token=foundation.state.secret,
            moved=self._outbox_disk.moved,
        )
        self.dead_letters = DeadLetters(foundation.state.path / DEAD_LETTERS_FILE, self._repeat)
        self._calls = MethodCalls(self.registry, self._is_me, self._call_elsewhere)
        self.supervisor = Supervisor(
            self._specs,
            settings=config,
            var_dict=self._var_dict(),
            host_id=lambda: str(self.link.host_id),
            address=lambda: (self.link.host_id.ip, self.link.host_id.port),
            on_publish=self._publish,
            on_methods_changed=self._methods_changed,
            on_room=self._has_room,
            on_dead_letter=self.dead_letters.take,
            flushed=lambda _package: self.link.flushed(),
            network=PluginNetwork(self.link, self._calls, self._names),
        )
        self.plugins = PluginControl(self.supervisor, self._find, config.exit_timeout, self.not_found)
        self._forecaster = Forecaster(self.link, self.supervisor)
        if config.express:
            express.use(self._forecaster)
        self._subscribed: dict[str, bool] = {}
        self._cursors = Cursors.open(foundation.state.path / CURSORS_FILE)
        self._unsaved = ""
        self.link.core.log_id, self.link.core.run = self._cursors.log_id, self._cursors.run
        self.link.core.receipt = self._cursors.receipt
        # Durable packages are told of from the first Hello on, though they load later: that they have read in
        # another log, or further than this one goes, is found out there.
        self._not_loaded = {spec.name for spec in self._specs} & self._cursors.positions.keys()
        for package in sorted(self._not_loaded):
            self.link.core.subscribe(package, durable=True, position=self._cursors.positions[package])
            self.link.core.fell_behind(package)
        if self._cursors.replaced:
            _logger.error("durable plugins begin anew: %s", self._cursors.replaced)
        self.notify_endpoint = NotifyEndpoint(
            foundation.state.origin,
            lambda: self.link.relay_ips,
            self._closed_to_notify,
            self.supervisor.deliver,
            self.supervisor.gap,
        )
        self._add_methods()
        view = SatelliteView(self)
        self.server = HttpServer(
            registry=self.registry,
            pages=make_pages(view),
            buttons=make_buttons(view),
            limits=Limits(),
            allowed_hosts=config.allowed_hosts,
            access_log=logging.getLogger("co2.access"),
        )

    @property
    def ready_line(self) -> str:
        """``ready satellite <host_id> <url>``; the URL is where it listens, whatever address the relay sees."""
        host_id = self.link.host_id
        return f"ready satellite {host_id} {host_url(local_ip(self.config.bind, '192.0.2.1'), host_id.port)}"

    async def start(self) -> None:
        """Serve, load plugins; the relay need not be there."""
        allow_files(Limits().max_connections + SPARE_FILES)
        await self.server.start(self._sock)
        self._outbox_disk.start()
        await self.dead_letters.start()
        for name, problem in self.not_found:
            _logger.error("plugin package %s is not loaded: %s", name, problem)
        for spec in self._specs:
            if spec.note:
                _logger.warning("plugin package %s: %s", spec.name, spec.note)
        folder = self.config.plugin_dir
        if self.config.plugin_list is None and not folder.is_dir():
            _logger.warning(
                "this satellite carries no plugin: there is no folder %s; --plugin-dir DIR names another, "
                "--plugin NAME a package that comes with co2",
                folder,
            )
        for stray in stray_tables(self.config):
            _logger.warning("%s: %s", self.config.config_file, stray)
        self._tasks.start(self.link.run())
        self._tasks.start(self._keep_cursors())
        await self.supervisor.start()
        warn_of_those_that_do_not_run(self.packages(), self.link.host_id.port)
        if self.config.watch:
            also = [path for path in (self.config.config_file,) if path is not None]
            watch = PluginWatch(self.config.plugin_dir.absolute(), self.plugins.reload_changed, *also)
            self._tasks.start(watch.run())

    async def hangup(self) -> None:
        """Reload every package whose code has changed."""
        await self.plugins.reload_changed()

    async def stop(self) -> None:
        """No new deliveries, every ``__exit__``, last sends, goodbye, end."""
        await self.supervisor.stop(self.config.exit_timeout)
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
        await self.server.stop()

    def properties(self, *, here: bool = False) -> dict[str, Any]:
        """Return what co2.get_properties tells; ``here`` says that it is told to somebody on this machine."""
        config, link = self.config, self.link
        return {
            "role": "satellite",
            "host_id": str(link.host_id),
            "version": __version__,
            "uptime": round(time.monotonic() - self._started, 3),
            "relay": config.relay,
            "registered": link.joined.is_set(),
            "relay_error": link.last_error,
            "software": software(),
            "hardware": hardware(),
            "plugins": [package_row(row, here=here) for row in self.packages()],
            "network": _within(NETWORK_NAMES, link.roster),
            "counters": self.counters(),
            "problems": self.problems(),
            "limits": {
                "outbox_max": config.outbox_max,
                "receive_deadline": config.receive_deadline,
                "send_timeout": config.send_timeout,
                "plugin_memory": config.plugin_memory,
            },
        }

    def packages(self) -> list[PackageStatus]:
        """Return how every package is, also those that were not found."""
        missing = [PackageStatus(name=name, state="failed", last_error=why) for name, why in self.not_found]
        return [*self.supervisor.status(), *missing]

    def counters(self) -> dict[str, int]:
        """Give the numbers that say how messages fared."""
        packages = self.supervisor.status()
        return {
            "received": self.notify_endpoint.received + self.link.frames,
            "repeats": self.notify_endpoint.repeats + self.link.core.repeats,
            "gaps": self.notify_endpoint.gaps + self.link.gaps,
            "sent": self.outbox.acked_messages,
            "live_dropped": self.link.core.live_dropped,
            "waiting": len(self.outbox),
            "waiting_bytes": self.outbox.bytes,
            "memory_bytes": self.outbox.memory_bytes,
            "stored_bytes": self.outbox.stored_bytes,
            "send_waits": sum(row.send_waits for row in packages),
            "link_bytes": self.link.buffered,
            "packages_behind": self.link.core.count("behind"),
            "packages_replaying": self.link.core.count("replaying"),
            "lost": self.outbox.lost,
            "dead_letters": sum(row.dead_letters for row in packages),
            "dead_letters_kept": self.dead_letters.kept,
            "dead_letters_gone": self.dead_letters.gone + sum(row.letters_unkept for row in packages),
            **express.counts()._asdict(),
        }

    def _var_dict(self) -> dict[str, Any]:
        return {
            "role": "satellite",
            "host_id": str(self.link.host_id),
            "relay": self.config.relay,
            "version": __version__,
        }

    def _names(self) -> tuple[list[str], list[str]]:
        plugins = [plugin.name for row in self.supervisor.status() for plugin in row.plugins]
        names = fitting_names(methods := sorted(self.supervisor.methods), plugins)
        left_out = len(methods) + len(plugins) - len(names[0]) - len(names[1])
        if left_out != self._names_left_out:
            self._names_left_out = left_out
            for problem in self._names_problem():
                _logger.error("%s", problem)
        return names

    def _names_problem(self) -> list[str]:
        if not self._names_left_out:
            return []
        return [
            f"{self._names_left_out} of the names of methods and plugins here are told to nobody: a host may have "
            f"{MAX_NAMES} of each, {MAX_NAMES_SIZE} bytes of all, and {MAX_NAME} characters of one; have some of "
            "the packages carried by another satellite"
        ]

    def _find(self, names: Sequence[str] | None) -> tuple[list[PackageSpec], list[tuple[str, str]]]:
        """Find packages, with the tables of the configuration file as they are now."""
        tables, limits = plugin_tables(self.config.config_file)
        config = dataclasses.replace(self.config, plugin_config=tables, plugin_limits=limits)
        found, problems = find_packages(config, names)
        if names is not None:
            loaded = [row.name for row in self.supervisor.status()]
            for spec in [spec for spec in found if spec.name not in loaded]:
                loaded.append(spec.name)
                if fitting_packages(loaded) < len(loaded):
                    loaded.remove(spec.name)
                    found.remove(spec)
                    problems.append((spec.name, ONE_TOO_MANY))
                    _logger.error("plugin package %s is not loaded: %s", spec.name, ONE_TOO_MANY)
        return self._with_stores(found), problems

    def _with_stores(self, specs: Sequence[PackageSpec]) -> list[PackageSpec]:
        return [dataclasses.replace(spec, store=self._stores / f"{spec.name}.db") for spec in specs]

    async def _repeat(self, package: str, letter: DeadLetter) -> None:
        await self.supervisor.repeat(package, letter)

    def _work(self) -> None:
        self.link.work()

    def _publish(self, package: str, frame: Publish, count: int) -> None:
        self.link.publish(package, frame, count)
        if not frame.live:
            self._forecaster.note(package, frame, count)
        self._outbox_disk.watch()

    def _closed_to_notify(self) -> str:
        if self.link.joined.is_set():
            return "this satellite has a link to its relay, and takes messages from there only"
        if not self.config.accept_notify:
            return (
                "this satellite takes messages over its link only; accept_notify = true in co2.toml lets notify in"
            )
        return ""

    # ---- what the link brings --------------------------------------------------------------------------

    def deliver(self, package: str, delivered: Delivered) -> bool:
        """Give a package what was delivered; return whether it takes more."""
        frame = delivered.frame
        own = frame.host_id.partition("@")[0] == self.link.host_id.origin and frame.sender == package
        envelope = Envelope(frame.host_id, frame.client_address, frame.plugin if own else "")
        position = frame.position if frame.package else 0
        return self.supervisor.deliver_to(
            package,
            QueuedBatch(envelope, frame.batch, delivered.count, delivered.skip, position, self.link.core.log_id),
        )

    def gap(self, package: str, gap: Gap) -> None:
        """Tell a package what it will not get."""
        log_id = self.link.core.log_id
        self.supervisor.gap_to(package, GapRange(gap.after, gap.next + 1, (gap.reason,), log_id=log_id))

    async def called(self, method: str, argument: Any) -> Any:
        """The relay calls a method of ours, for whoever asked it to."""
        caller = Caller(min(self.link.relay_ips, default="127.0.0.1"), 0, relayed=True)
        return await self.registry.dispatch(method, [argument] if argument else [], caller)

    def hosts_changed(self, joined: Sequence[Host], left: Sequence[Host]) -> None:
        """The network has changed: plugins may want to know of others than this satellite."""
        others = [
            [host for host in hosts if not self._is_me(HostId.parse(host.host_id))] for hosts in (joined, left)
        ]
        if any(others):
            self.supervisor.hosts_changed(*others)

    async def _keep_cursors(self) -> None:
        """Write down, now and then, how far durable packages are, and tell the relay of all."""
        for tick in itertools.count(1):
            await asyncio.sleep(CURSOR_INTERVAL)
            if self.supervisor.paused:
                self._tell_why_full()
            self._tell_health()
            if tick % APPLIED_TICKS == 0:
                self.link.tell_applied()
            if self.link.joined.is_set():
                await self._save_cursors()

    def _tell_health(self) -> None:
        """Tell the relay how the packages are, where that is news."""
        if self.link.joined.is_set():
            health = health_of(self.packages(), self.dead_letters.kept)
            self.link.tell_health(health, self.config.bind)

    async def _save_cursors(self) -> None:
        """Write down how far durable packages are. Where the disk does not take that, all else goes on."""
        now = (self.link.core.log_id, self.link.core.run, self._positions())
        if not self._cursors.differ(*now):
            return
        why = ""
        try:
            await asyncio.to_thread(self._cursors.save, *now, self.link.core.receipt)
        except OSError as error:
            why = error.strerror or type(error).__name__
        if why != self._unsaved:
            self._unsaved = why
            if why:
                _logger.error("how far durable plugins are cannot be written down, it is tried again: %s", why)
            else:
                _logger.warning("how far durable plugins are is written down again")

    def _positions(self) -> dict[str, int]:
        """Give how far durable packages are; one that got nothing yet is where it began."""
        core = self.link.core
        return {**core.durable_beginnings(), **self.supervisor.positions(core.log_id)}

    def problems(self) -> list[str]:
        """Return what somebody should see to besides packages that do not run, one line each."""
        return [*self.disk_problems(), *self._names_problem()]

    def disk_problems(self) -> list[str]:
        """Return what the disk of this satellite does not take, one line each."""
        unsaved = f"how far durable plugins are cannot be written down: {self._unsaved}" if self._unsaved else ""
        return [found for found in (self._outbox_disk.problem, self.dead_letters.problem, unsaved) if found]

    def _outbox_full(self) -> None:
        limit = self.config.outbox_max
        if self.outbox.bytes > limit:
            self._full = f"outbox_max, {limit} bytes, is reached by what waits at the satellite"
        else:
            self._full = f"{MEMORY} bytes at the satellite wait for its disk, which is slow or has no room"
        self._tell_why_full()

    def _tell_why_full(self) -> None:
        """Tell plugins that must wait what they wait for, as it is now."""
        self.supervisor.pause_sending(f"{self._full}; {self.link.standing}")

    def _outbox_has_room(self) -> None:
        self.supervisor.resume_sending()

    def _has_room(self, package: str) -> None:
        """A package that could take no more has room again."""
        self.link.core.catch_up(package)
        self.link.work()

    def _add_methods(self) -> None:
        add_introspection(self.registry, lambda caller: self.properties(here=caller.is_local))
        self.registry.add(
            "method_call",
            self._calls.method_call,
            help=MethodCalls.method_call.__doc__ or "",
            signatures=[["any", "struct"]],
            aliases=("web.method_call",),
        )
        self.registry.add(
            "notify",
            self.notify_endpoint.notify,
            help=NotifyEndpoint.notify.__doc__ or "",
            signatures=[["boolean", "struct"]],
        )
        self.dead_letters.add_methods(self.registry)
        self.plugins.add_methods(self.registry)

    def _methods_changed(self) -> None:
        self.registry.replace_group("plugins", plugin_entries(self.supervisor))
        core = self.link.core
        positions = {**self._cursors.positions, **self.supervisor.positions(core.log_id)}
        before, self._subscribed = self._subscribed, {}
        for row in self.supervisor.status():
            receivers = [plugin for plugin in row.plugins if plugin.receives]
            if receivers:
                everything = any(not plugin.channels for plugin in receivers)
                channels = sorted({channel for plugin in receivers for channel in plugin.channels})
                durable = any(plugin.durable for plugin in receivers)
                # One that becomes durable while it runs has had what came up to now.
                goes_on = durable and row.name not in before
                position = positions.get(row.name) if goes_on else None
                core.subscribe(row.name, None if everything else channels, durable=durable, position=position)
                self._subscribed[row.name] = durable
                if row.name in self._not_loaded:
                    self._not_loaded.discard(row.name)
                    core.catch_up(row.name)
            elif row.name in self._not_loaded and row.state != "starting":
                self._not_loaded.discard(row.name)
                core.unsubscribe(row.name)
        for name in before.keys() - self._subscribed.keys():
            core.unsubscribe(name)
        core.names_changed()
        self._tell_health()
        self.link.work()

    def _is_me(self, host_id: HostId) -> bool:
        return host_id.origin == self.link.host_id.origin

    async def _call_elsewhere(
        self, host_id: HostId | None, method: str, argument: dict[str, Any], caller: Caller
    ) -> Any:
        if method.startswith(OF_THE_RELAY):
            raise Denied(f"{method} is called at the relay itself, {self.config.relay}, not through a satellite")
        if host_id is None:
            # Only a plugin's method is looked for: a host's own would be another host's, and do something there.
            known = self._is_known(method)
            if is_reserved(method) or not (known or ("." in method and self.link.joined.is_set())):
                raise NoSuchMethod(method)
        passed_on = {**argument, "method_name": method}
        if host_id is not None:
            passed_on["host_id"] = str(host_id)
        # Without a host_id the relay looks: its plugins have methods, and it knows who has just joined or is away.
        return await self.link.call("method_call", passed_on, CALL_TIMEOUT, written=caller.port != 0)

    def _is_known(self, method: str) -> bool:
        """Return whether another satellite has a method, as far as this one has been told."""
        return any(method in host.methods for host in self.link.hosts)


def _within(size: int, roster: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return who is there, with the names of methods as far as these many bytes go; the others are left out."""
    rows = []
    for row in roster:
        size -= names_size(row["methods"]) + 8 * len(row["methods"])
        told = row["methods"] if size >= 0 else []
        left_out = {} if size >= 0 else {"left_out": len(row["methods"])}
        rows.append({"host_id": row["host_id"], "methods": told, **left_out})
    return rows
