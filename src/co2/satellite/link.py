"""The satellite's link: opened by the satellite, so that it works behind NAT, and reopened without end.

The state machine is :class:`co2.protocol.satellite.core.SatelliteCore`, driven by
:class:`co2.protocol.satellite.driver.SatelliteDriver`.
"""

import asyncio
import contextlib
import logging
import os
import random
import secrets
import shlex
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from co2.errors import BadParams, RemoteFault, TooBig, Unreachable, ValueRefused
from co2.host_id import HostId, normal_ip
from co2.host_name import host_label
from co2.logs import TOLD, LineBudgets
from co2.pending_replies import PendingReplies
from co2.protocol.satellite.core import (
    CallReceived,
    Delivered,
    Ended,
    GapTold,
    Held,
    NumbersTaken,
    ResultReceived,
    RosterTold,
    SatelliteCore,
    SnapshotCame,
    SnapshotRefused,
    Welcomed,
)
from co2.protocol.satellite.driver import SatelliteDriver
from co2.protocol.satellite.events import Event
from co2.protocol.satellite.outbox import Outbox, Segment
from co2.protocol.wire import close_reasons
from co2.protocol.wire.gap_reasons import gap_words
from co2.protocol.wire.link_frames import Call, Gap, Result
from co2.protocol.wire.package_health import Health
from co2.protocol.wire.plugin_frames.frames import Host
from co2.satellite.health import HealthNews
from co2.satellite.known_hosts import KnownHosts
from co2.satellite.websocket_client import dial
from co2.server.link.websocket_transport import WebSocketTransport, joined
from co2.server.rpc.link_calls import MAX_TEXT, answer_call
from co2.server.rpc.results import Results
from co2.tasks import TaskSet
from co2.values import pack_value

__all__ = ["BUSY_MAX", "CONNECT_TIMEOUT", "MAX_CALLS", "RECONNECT_MAX", "Link", "LinkReceiver", "retry_delays"]

CONNECT_TIMEOUT = 5.0
"""Seconds for the relay to answer the WebSocket handshake, and then the Hello."""

MAX_CALLS = 1000
"""Calls to the relay that may be under way; further calls are refused."""

RECONNECT_MAX = 2.0
"""Default of the longest pause between two tries, in seconds."""

BUSY_MAX = 30.0
"""The same if the relay answers but refuses the link, as when too many satellites return at once."""

_FIRST_RETRY = 0.25

_WHAT_HELPS = (
    "; does the relay run there, on an address that this machine can reach "
    "(`co2 relay --bind 0.0.0.0`; by default it listens on 127.0.0.1)?"
)

_logger = logging.getLogger("co2.satellite")


def retry_delays(longest: float = RECONNECT_MAX) -> Iterator[float]:
    """Yield the seconds to wait before each further try: at once, then doubling with jitter, without end.

    Args:
        longest: seconds of the longest pause; each pause is between half and all of its maximum.
    """
    yield 0.0
    delay = min(_FIRST_RETRY, longest)
    while True:
        yield random.uniform(delay / 2, delay)
        delay = min(delay * 2, longest)


class LinkReceiver(Protocol):
    """Handles the link's events."""

    def deliver(self, package: str, delivered: Delivered) -> bool:
        """Deliver messages to a package; return whether it has room for more."""

    def snapshot(self, came: SnapshotCame) -> bool:
        """Deliver last values to a package; return whether it has room for more."""

    def gap(self, package: str, gap: Gap) -> None:
        """Report a gap to a package."""

    async def called(self, method: str, argument: Any) -> Any:
        """Call a method of this satellite for the relay."""

    async def asked(self, asker: str, method: str, argument: Any) -> Any:
        """Do what the relay asks for somebody at its own machine (:mod:`co2.protocol.wire.relay_requests`)."""

    def hosts_changed(self, joined: Sequence[Host], left: Sequence[Host]) -> None:
        """Handle the hosts that have joined or changed, and those that have left, including this satellite."""


class Link:
    """The link to the relay, or the attempt to open one.

    Args:
        url: the relay's, without path.
        host_id: proposed to the relay.
        outbox: messages to send.
        receiver: handles the link's events.
        names: returns (methods, plugins) for the relay.
        load: see :class:`~co2.protocol.satellite.driver.SatelliteDriver`.
        reconnect_max: seconds of the longest pause between two tries to reach a relay that is away.
        folder: the state folder, named in messages to people.
        token: of the state folder.
        wish: name that the host wishes for.
        moved: called when the messages of a run are renumbered into another: (run, other run, number
            subtracted from each).

    Attributes:
        core: the state machine.
        driver: drives it, and has the connection; :meth:`SatelliteDriver.flush` it after each use of the core.
    """

    def __init__(
        self,
        *,
        url: str,
        host_id: HostId,
        outbox: Outbox,
        receiver: LinkReceiver,
        names: Callable[[], tuple[list[str], list[str]]],
        load: Callable[[Segment], None],
        reconnect_max: float = RECONNECT_MAX,
        folder: Path | None = None,
        token: str = "",
        wish: str = "",
        moved: Callable[[int, int, int], None] = lambda _epoch, _other, _shift: None,
    ) -> None:
        self.url = url
        self.core = SatelliteCore(host_id, outbox, names, token, wish)
        self.driver: SatelliteDriver[WebSocketTransport] = SatelliteDriver(
            self.core,
            handle=self._handle,
            join=lambda frames: joined(frames, masked=True),
            load=load,
            processed=self._settle_flushes,
        )
        self.joined = asyncio.Event()
        self.relay_ips: frozenset[str] = frozenset()
        self.hosts = KnownHosts(receiver.hosts_changed)
        self.last_error = "not tried yet"
        self._away_at = time.monotonic()
        self._what_helps = _WHAT_HELPS
        self._warned = False
        self.frames = 0
        self.gaps = 0
        self._lines = LineBudgets()
        self._receiver = receiver
        self._outbox = outbox
        self._moved = moved
        self._reconnect_max = reconnect_max
        self._folder = folder
        self._calls: PendingReplies[Result] = PendingReplies(MAX_CALLS)
        self._results = Results()
        self._tasks = TaskSet(_logger, "a task of the satellite")
        self._retry_after = 0.0
        self._leaving = False
        self._told: dict[str, int] = {}
        self._health = HealthNews()
        self._ended = asyncio.Event()
        self._settled = asyncio.Event()
        self._welcomed = False
        self._answered = False
        self._flushes: dict[asyncio.Future[None], int] = {}

    @property
    def host_id(self) -> HostId:
        """The host_id, with the address that the relay has observed."""
        return self.core.host_id

    @property
    def label(self) -> str:
        """The name and host_id, as in texts for people."""
        return host_label(self.core.name, self.core.host_id)

    @property
    def roster(self) -> list[dict[str, Any]]:
        """The connected satellites, as reported by the relay: name, host_id, methods and plugins of each."""
        return [
            {"name": one.name, "host_id": one.host_id, "methods": one.methods, "plugins": one.plugins}
            for one in self.hosts
        ]

    @property
    def standing(self) -> str:
        """The state of the relay in words, for callers that wait for it."""
        if self.core.held:
            return f"the relay at {self.url} is connected but accepts no messages now: {self.core.held}"
        if self.joined.is_set():
            return f"the relay at {self.url} is connected but accepts messages more slowly than they are sent"
        away_for = time.monotonic() - self._away_at  # the wall clock may have been wrong then
        since = time.strftime("%H:%M:%S", time.localtime(time.time() - away_for))
        return f"the relay at {self.url} has been away since {since} ({self.last_error})"

    @property
    def buffered(self) -> int:
        """Bytes that wait for the relay to read them."""
        return 0 if self.driver.wire is None else self.driver.wire.buffered

    async def run(self) -> None:
        """Keep the link open until :meth:`leave`, or until it is cancelled."""
        longest = self._reconnect_max
        absent, busy = retry_delays(longest), retry_delays(max(longest, BUSY_MAX))
        while not self._leaving:
            self._retry_after = 0.0
            delays = busy
            try:
                if await self._live():
                    absent, busy = retry_delays(longest), retry_delays(max(longest, BUSY_MAX))
                    delays = absent
            except (Unreachable, OSError, TimeoutError) as error:
                nobody_answers = isinstance(error, OSError) and not isinstance(error, socket.gaierror)
                self._lost(_what_went_wrong(error), self._what_helps if nobody_answers else "")
                if not (self._answered or isinstance(error, Unreachable | ConnectionResetError)):
                    delays = absent  # no relay is there: further tries cost only us
            if not self._leaving:
                await asyncio.sleep(max(next(delays), self._retry_after))

    def renumber(self) -> None:
        """Number further messages in another run: the relay already has the next number of this one."""
        self._outbox.renew(secrets.randbits(63) | 1)

    def _send_again(self, old: int, seq: int) -> None:
        """Renumber the waiting messages of a run into a new one: another host has used its numbers."""
        new = secrets.randbits(63) | 1
        shift = self._outbox.renumber(new, old)
        self._moved(old, new, shift)
        _logger.error(
            "the relay has message %d of this satellite's run, which was never sent: another host used its "
            "numbers; "
            "%d waiting messages are sent with new numbers", seq, len(self._outbox),
        )  # fmt: skip

    def tell_applied(self) -> None:
        """Report the positions of the packages to the relay, if they have changed."""
        positions = self.core.positions()
        if positions != self._told:
            self._told = positions
            self.core.tell_applied()
            self.driver.flush()

    def tell_health(self, health: list[Health], listens: str) -> None:
        """Report the health of the packages to the relay, if it has changed on this link."""
        if self.joined.is_set() and self._health.is_new(health):
            self.core.tell_health(health, listens)
            self.driver.flush()

    async def flushed(self) -> None:
        """Wait until everything that was sent so far is on the relay's disk."""
        if not len(self._outbox):
            return
        done = asyncio.get_running_loop().create_future()
        self._flushes[done] = self._outbox.done + len(self._outbox)
        try:
            await done
        finally:
            self._flushes.pop(done, None)  # the caller may be gone

    async def call(self, method: str, argument: dict[str, Any], timeout: float, *, written: bool = False) -> Any:
        """Call a method of the relay; with ``written`` the result goes out as XML (:meth:`Results.value_of`).

        Raises:
            PeerError: the call failed.
        """
        if self.core.state != "open" or not self._calls.has_room():
            why = self.last_error if self.core.state != "open" else "too many calls are in progress"
            raise Unreachable(f"the relay at {self.url}: {why}")
        try:
            packed = pack_value(argument)
        except (ValueRefused, TooBig) as error:
            raise BadParams(str(error)) from None
        call_id = self._calls.begin(method)
        self.core.call(Call(call_id, method, packed, timeout))
        self.driver.flush()
        result = await self._calls.wait(call_id, timeout, grace=1.0)
        if result.code:
            raise RemoteFault(result.code, result.error[:MAX_TEXT])
        return await self._results.value_of(result.value, f"the relay at {self.url}", written=written)

    async def leave(self, timeout: float) -> None:
        """Send a Goodbye to the relay, within ``timeout`` seconds, unless it is away."""
        self._results.close()
        if self.core.state == "away":
            return
        self._leaving = True
        self.core.end(close_reasons.STOPPING, "the satellite is stopping")
        self.driver.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._ended.wait()

    # ---- one connection --------------------------------------------------------------------------------

    async def _live(self) -> bool:
        """Open a link and serve it until its end; return whether the relay sent a Welcome."""
        self._answered = False
        async with asyncio.timeout(CONNECT_TIMEOUT):
            wire, rest = await dial(self.url, await self._resolve())
        self._answered = True
        self._ended.clear()
        self._settled.clear()
        self._welcomed = False
        self.driver.connected(wire)
        wire.carry(self, rest)
        self.driver.flush()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._settled.wait()
            await self._ended.wait()
        finally:
            wire.release()
            self.ended("given up")
            wire.close()
        return self._welcomed

    def received(self, frames: list[bytes | memoryview], more: bool = False) -> None:
        """Handle frames of the relay."""
        self.driver.received(frames)

    def filled(self) -> None:
        """Do nothing: the driver checks whether the connection is full."""

    def drained(self) -> None:
        """Continue writing: the connection has room again."""
        self.driver.flush()

    def ended(self, why: str) -> None:
        """Handle the end of the connection."""
        self.driver.lost(why)
        self._away()
        self._ended.set()
        self._settled.set()

    async def _resolve(self) -> list[str]:
        """Return the addresses of the relay; ``notify`` is accepted from them only."""
        parts = urlsplit(self.url)
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
        addresses = [str(address[4][0]) for address in found]
        self.relay_ips = frozenset(map(normal_ip, addresses))
        return addresses

    def _handle(self, event: Event) -> None:
        match event:
            case Delivered() as delivered:
                self.frames += 1
                for package in delivered.packages:
                    if not self._receiver.deliver(package, delivered):
                        self.core.fell_behind(package)
            case GapTold(packages, gap):
                self._tell_gap(packages, gap)
            case SnapshotCame() | SnapshotRefused():
                self._begin_package(event)
            case Held(text):
                self._tell_held(text)
            case CallReceived(call):
                self._tasks.start(self._answer(call))
            case ResultReceived(result):
                self._calls.answer(result.call_id, result)
            case RosterTold(roster):
                self.hosts.learn(roster)
            case Welcomed():
                self.last_error = ""
                self._welcomed = True
                self._health.forget()
                self.joined.set()
                self._settled.set()
                self._tell_linked(event.welcome.relay)
            case NumbersTaken(epoch, seq):
                self._send_again(epoch, seq)
            case Ended() as end:
                self._link_ended(end)

    def _link_ended(self, end: Ended) -> None:
        self._retry_after = end.retry_after
        if not self._leaving:
            here = ""
            if end.reason == close_reasons.CLONED and self._folder is not None:
                # With the folder, so that it can be pasted as it is: without, it may mean another satellite's.
                here = f" (for this one: co2 state new-id --state {shlex.quote(str(self._folder.absolute()))})"
            self._lost(f"{end.reason}: {end.text}{here}" if end.reason else end.text)

    def _begin_package(self, event: SnapshotCame | SnapshotRefused) -> None:
        if isinstance(event, SnapshotRefused):
            text = "%s begins without last values: the relay at %s is of a version that gives none"
            _logger.warning(text, event.package, self.url)
        elif not self._receiver.snapshot(event):
            self.core.fell_behind(event.package)

    def _tell_gap(self, packages: Iterable[str], gap: Gap) -> None:
        self.gaps += 1
        self._lines.tell(_logger)
        self._lines.log(
            _logger, logging.WARNING, "the relay", "gap: %s", gap_words(gap.after, gap.next, gap.reason)
        )
        for package in packages:
            self._receiver.gap(package, gap)

    def _tell_held(self, text: str) -> None:
        if text:
            _logger.warning("%s accepts no messages for now, they wait here: %s", self.url, text)
        else:
            waiting = len(self._outbox)
            words = "1 waiting message" if waiting == 1 else f"{waiting} waiting messages"
            _logger.warning("%s has room again: sending %s", self.url, words)

    def _settle_flushes(self) -> None:
        while self._flushes and self._outbox.done >= self._flushes[done := next(iter(self._flushes))]:
            del self._flushes[done]
            if not done.done():
                done.set_result(None)

    async def _answer(self, call: Call) -> None:
        called = partial(self._receiver.asked, call.asker) if call.asker else self._receiver.called
        self.core.answer(await answer_call(call, called))
        self.driver.flush()

    def _tell_linked(self, relay: str) -> None:
        """Log that the link is open, at the level at which its loss was logged."""
        where = f"{relay} at {self.url}"
        if self._warned:
            away = time.monotonic() - self._away_at
            _logger.warning("linked to %s as %s, after %.1f s without a link", where, self.label, away)
        else:
            _logger.info("linked to %s as %s", where, self.label, extra=TOLD)
        self._warned = False
        self._what_helps = ""  # the relay has been reached

    def _lost(self, why: str, what_helps: str = "") -> None:
        text = why[:512]
        if self.joined.is_set() or text != self.last_error:
            _logger.warning("no link to %s: %s; retrying%s", self.url, text, what_helps)
            self._warned = True
            if what_helps:
                self._what_helps = ""  # once is enough
        self.last_error = text
        self._away()
        why = f"the link to the relay has ended: {text}"
        self._calls.fail_all(lambda _method: RemoteFault(Unreachable.code, why[:MAX_TEXT]))

    def _away(self) -> None:
        if self.joined.is_set():
            self._away_at = time.monotonic()
            self.joined.clear()


def _what_went_wrong(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
