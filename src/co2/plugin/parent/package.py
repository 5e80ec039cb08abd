"""One plugin package, at the satellite: messages and calls go in, and its children's frames come out."""

import dataclasses
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

from co2.errors import PluginFailed
from co2.plugin.child.progress import CALLBACKS, RELAYING
from co2.plugin.packages.spec import PackageSpec, PluginSettings
from co2.plugin.parent.calls_in import CallsIn, Question
from co2.plugin.parent.calls_out import NetworkQueries
from co2.plugin.parent.delivery import Delivery
from co2.plugin.parent.delivery_queue import GapRange, QueuedBatch
from co2.plugin.parent.filter_stage import STUCK, FilterStage, PackageFilters
from co2.plugin.parent.gates import Gates
from co2.plugin.parent.generation import Generation
from co2.plugin.parent.lifecycle import Lifecycle
from co2.plugin.parent.package_log import PackageLog
from co2.plugin.parent.process import Child
from co2.plugin.parent.status import PackageStatus
from co2.plugin.parent.watchdog import Slow
from co2.protocol.wire.batch import batch_count
from co2.protocol.wire.plugin_frames.frames import (
    Admit,
    Applied,
    Ask,
    AskHosts,
    Call,
    ChildFrame,
    DeadLetter,
    Describe,
    Flow,
    Flush,
    Host,
    MethodInfo,
    PluginInfo,
    Publish,
    Record,
    Result,
    Transited,
)

__all__ = ["Hub", "Package"]


class Hub(Protocol):
    """The supervisor as a package needs it."""

    @property
    def paused(self) -> str:
        """Why plugins may not send now; '' if they may."""

    @property
    def network(self) -> NetworkQueries:
        """The network that plugins may query."""

    def published(self, package: "Package", frame: Publish, count: int) -> None:
        """Pass on a frame with ``count`` messages that a plugin sent, in order."""

    def flushed(self, package: "Package") -> Awaitable[None]:
        """Wait until all that the package has published so far is acknowledged."""

    def methods_changed(self) -> None:
        """Announce that the methods or plugins of a package have changed."""

    def dead_letter(self, package: "Package", letter: DeadLetter) -> None:
        """Keep a message that a plugin did not accept."""

    def has_room(self, package: "Package") -> None:
        """Report that a full package has room for messages from the network again."""


class Package:
    """One package and the children that carry it, one after the other.

    Args:
        spec: the package.
        settings: limits of plugin packages.
        var_dict: variables for its plugins.
        hub: the supervisor.

    Attributes:
        name: of the package.
        lifecycle: loads it, restarts it, changes its code.
        filters: the messages on their way through its relay plugins.
    """

    def __init__(self, spec: PackageSpec, settings: PluginSettings, var_dict: Mapping[str, Any], hub: Hub) -> None:
        self.name = spec.name
        self._settings = settings
        self._hub = hub
        self._package_log = PackageLog(spec.name)
        self._sent = self._letters = 0
        self._delivery = Delivery(lambda: hub.has_room(self))
        self._calls_in = CallsIn(spec.name, self._can_take)
        self.filters = PackageFilters()
        self.lifecycle = Lifecycle(
            spec,
            settings,
            {**var_dict, "package": spec.name},
            package_log=self._package_log,
            gates=Gates(self._delivery, self._calls_in, self.filters),
            took=self._took,
            paused=lambda: hub.paused,
            changed=hub.methods_changed,
            dead_letter=self._keep,
        )

    @property
    def state(self) -> str:
        """The state, as in :class:`~co2.plugin.parent.status.PackageStatus`."""
        return self.lifecycle.state

    @property
    def plugins(self) -> Sequence[PluginInfo]:
        """Its plugins, loaded now or last."""
        return self.lifecycle.current.plugins if self.lifecycle.current is not None else ()

    @property
    def methods(self) -> Mapping[str, MethodInfo]:
        """Its ``x_`` methods, by name."""
        return self.lifecycle.current.methods if self.lifecycle.current is not None else {}

    @property
    def times(self) -> bool:
        """Whether it wants to know when the relay got its messages."""
        return self.lifecycle.current is not None and self.lifecycle.current.times

    @property
    def durable(self) -> bool:
        """Whether it resumes at its last position after a restart of its satellite."""
        return self.lifecycle.current is not None and self.lifecycle.current.durable

    def log(self, after: int, max_rows: int) -> list[dict[str, Any]]:
        """Return the last lines of its log, those with a number above ``after``."""
        return self._package_log.tail.rows(after, max_rows)

    def close(self) -> None:
        """Close its log: the package has ended for good."""
        self._package_log.close()

    # frames of its children

    def _took(self, one: Generation, frame: ChildFrame) -> None:
        match frame:
            case Publish():
                count = batch_count(frame.batch)
                self._sent += count
                self._hub.published(self, frame, count)
            case Transited():
                if one is self.lifecycle.current:
                    self.filters.answered(frame)
            case Flush():
                one.flush(frame, self._hub.flushed(self))
            case Applied():
                if one is self.lifecycle.current:
                    self._delivery.done(frame.last)
                    self.lifecycle.accounting.forget_deaths(frame.last)
            case DeadLetter():
                self._keep(frame)
            case Result():
                self._calls_in.answer(frame.call_id, frame.value, frame.error, refused=frame.refused)
            case Ask() | AskHosts():
                one.calls_out.take(one.child, frame, self._hub.network)
            case Record():
                self._package_log.take(frame)

    def _keep(self, letter: DeadLetter) -> None:
        self._letters += 1
        self._hub.dead_letter(self, letter)

    # messages

    @property
    def receives(self) -> bool:
        """Whether it is or will be carried, and any of its plugins receives, as far as is known."""
        lifecycle = self.lifecycle
        if lifecycle.state in ("failed", "stopped") or lifecycle.stopping:
            return False
        return lifecycle.current is None or lifecycle.current.receives

    def wants(self, channels: Sequence[str] | None, sender: str = "") -> bool:
        """Return whether any plugin except ``sender`` wants messages of these channels, as far as is known."""
        one = self.lifecycle.current
        return self.receives and (not sender if one is None else one.wanted.wants(channels, sender))

    def deliver(self, source: str, queued: QueuedBatch) -> None:
        """Queue a batch for the package, and send the child as much as it may have."""
        self._delivery.deliver(source, queued)

    def deliver_from_network(self, queued: QueuedBatch) -> bool:
        """Queue a batch from the network; return whether there is room for more.

        If there is none, the relay's log keeps further messages until :meth:`Hub.has_room` is called.
        """
        return self._delivery.deliver_from_network(queued)

    def next_delivery(self, room: int) -> tuple[Child, int] | None:
        """Return the child that gets the next batch at once, and the number of that batch; None if unsure.

        Args:
            room: bytes of the batch, at most.
        """
        one, number = self.lifecycle.running, self._delivery.next_number(room)
        return (one.child, number) if one is not None and number else None

    def next_passed(self, stage: FilterStage) -> tuple[Child, int] | None:
        """Return the child that gets the next message to filter at once, and its number; None if unsure."""
        one, number = self.lifecycle.running, stage.next_number
        return (one.child, number) if one is not None and number else None

    @property
    def sender(self) -> Child | None:
        """The only child that can send for it; None if unsure."""
        one = self.lifecycle.running
        return one.child if one is not None and self.lifecycle.accounting.alive == [one] else None

    def gap(self, source: str, gap: GapRange) -> None:
        """Queue a gap: messages of this source that will not come."""
        self._delivery.gap(source, gap)

    def position(self, log_id: str) -> int:
        """Return the position of the last message in this log that it is done with; 0 for none."""
        return self._delivery.position(log_id)

    @property
    def standing(self) -> tuple[str, int]:
        """The log, and the position in it, of the last message that it is done with; ('', 0) for none."""
        return self._delivery.standing

    def flow(self, why: str) -> None:
        """Make its plugins' sends wait for the reason ``why``; '' ends the wait."""
        if (one := self.lifecycle.running) is not None:
            one.send(Flow(not why, why))

    def hosts_changed(self, joined: Sequence[Host], left: Sequence[Host]) -> None:
        """Send its plugins the hosts that have joined and left the network."""
        for one in self.lifecycle.accounting.alive:
            one.calls_out.tell(one.child, joined, left)

    # calls

    async def call(self, method: str, argument: Mapping[str, Any], timeout: float) -> Any:
        """Call an ``x_`` method.

        Raises:
            BadParams: the argument cannot be packed, or the method does not accept it.
            PluginFailed: it raised, died, is not running, or too many calls wait.
            CallTimeout: no answer within ``timeout`` seconds.
        """
        return await self._calls_in.call(method, argument, timeout)

    async def repeat(self, letter: DeadLetter, timeout: float) -> None:
        """Pass a dead letter to its plugin again; return when the plugin has taken it.

        Raises:
            PluginFailed: it raised again, died, is not there, or too many calls wait.
            CallTimeout: it is not done within ``timeout`` seconds.
        """
        if self.lifecycle.stopping:
            raise PluginFailed(f"{letter.plugin}.receive: the plugin package {self.name} is {self.state}")
        await self._calls_in.repeat(letter, timeout)

    async def admit(self, plugin: str, host: Host, timeout: float) -> str:
        """Ask a relay plugin whether a host may join; return the reason why not, '' if it may.

        Raises:
            PluginFailed: it raised, died, is not running, or too many calls wait.
            CallTimeout: no answer within ``timeout`` seconds.
        """
        return await self._calls_in.admit(plugin, host, timeout)

    async def describe(self, what: str, method: str, timeout: float) -> Any:
        """Return a schema: of the ``method`` of that name, or the ``config`` or ``sends`` of the package.

        Raises:
            PluginFailed: it cannot be made, the plugin host died or is not running, or too many calls wait.
            CallTimeout: no answer within ``timeout`` seconds.
        """
        return await self._calls_in.describe(what, method, timeout)

    def _can_take(self, frame: Question) -> bool:
        if isinstance(frame, Call | Describe):
            return not frame.method or frame.method in self.methods
        if isinstance(frame, Admit):
            return any(plugin.name == frame.plugin and plugin.admits for plugin in self.plugins)
        return any(plugin.name == frame.plugin and plugin.receives for plugin in self.plugins)

    # watchdog

    def look(self, now: float) -> None:
        """Warn about slow plugins, kill those past the deadline; called several times a second."""
        self._package_log.tell(now, self._delivery.waiting.dropped, self._unkept)
        for one in self.lifecycle.accounting.alive:
            one.child.tick()
        current = self.lifecycle.current
        if current is None or current.watchdog is None or current.ended.done():
            return
        for plugin, why in self.filters.look(now, current.activity):
            self._package_log.error(f"{plugin}: relay {why}: messages bypass it until it has caught up")
            if why == STUCK and self.lifecycle.on_trial:
                current.stumble(f"{plugin}.relay {why}")
        for slow in current.watchdog.look(now):
            what = f"{slow.plugin}: {self._what(slow)}"
            if not slow.late:
                self._package_log.logger.warning(
                    "%s has been running for %.1f s and blocks everything else in this plugin: "
                    "move long work to a thread",
                    what,
                    slow.seconds,
                )
            elif not current.child.can_kill:
                self._package_log.error(
                    f"{what} takes longer than {self._settings.receive_deadline:g} s; "
                    "with isolation 'thread' it cannot be ended"
                )
            elif not self.lifecycle.stopping:
                current.kill_slow(slow, what)

    def _what(self, slow: Slow) -> str:
        if slow.call_id >= RELAYING:
            return "relay"
        if slow.call_id >= CALLBACKS:
            return "a function called by every(), joined or left"
        return "receive" if slow.inside else (self._calls_in.method(slow.call_id) or "an x_ method")

    @property
    def _unkept(self) -> int:
        return self.lifecycle.accounting.counters.earlier.unkept + sum(
            one.applied.unkept for one in self.lifecycle.accounting.alive
        )

    def status(self) -> PackageStatus:
        """Return its status."""
        lifecycle = self.lifecycle
        counters, one = lifecycle.accounting.counters, lifecycle.current
        watchdog = one.watchdog if one is not None else None
        carrying = (
            one
            if one in lifecycle.accounting.alive
            else (lifecycle.accounting.alive[-1] if lifecycle.accounting.alive else None)
        )
        return PackageStatus(
            name=self.name,
            state=lifecycle.state,
            pid=carrying.child.pid if carrying is not None else None,
            plugins=tuple(self.plugins),
            restarts=counters.restarts,
            last_error=self._package_log.last_error,
            last_error_age=self._package_log.last_error_age,
            received=self._delivery.received,
            sent=self._sent,
            failed=counters.earlier.failed + sum(one.applied.failed for one in lifecycle.accounting.alive),
            dead_letters=self._letters + self._unkept,
            letters_unkept=self._unkept,
            dropped=self._delivery.waiting.dropped,
            send_waits=counters.earlier.waited + sum(one.applied.waited for one in lifecycle.accounting.alive),
            waiting=len(self._delivery),
            slowest=round(max(counters.slowest, watchdog.slowest if watchdog is not None else 0.0), 3),
            hangs=round(watchdog.hangs, 3) if watchdog is not None else 0.0,
            load=one.number if one is not None else counters.loads,
            code=one.code if one is not None else "",
            reloads=dict(counters.reloads),
            refused=lifecycle.refused and lifecycle.state == "running",
            limits=lifecycle.spec.all_limits(self._settings),
            transit=dataclasses.asdict(self.filters.counts) if self.filters.stages else {},
        )
