"""The satellite's link: opened by us, so it works from behind NAT, and opened again for ever.

One task reads, one writes; the state machine is :class:`co2.protocol.satellite.SatelliteCore`.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import random
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp

from co2.errors import BadParams, CallTimeout, PeerError, RemoteFault, TooBig, Unreachable, ValueRefused
from co2.host_id import HostId, normal_ip
from co2.protocol import goodbyes
from co2.protocol.link_frames import MAX_LINK_FRAME, SUBPROTOCOL, Call, Deliver, Gap, Result, Roster
from co2.protocol.outbox import Outbox, Segment
from co2.protocol.satellite import (
    CallReceived,
    Delivered,
    Ended,
    GapTold,
    ResultReceived,
    RosterTold,
    SatelliteCore,
    Welcomed,
)
from co2.values import pack_value, unpack_value

__all__ = ["CONNECT_TIMEOUT", "MAX_CALLS", "PING_INTERVAL", "Link", "Receiver", "retry_delays"]

CONNECT_TIMEOUT = 5.0
"""Seconds until the relay must have answered the WebSocket handshake, and then our Hello."""

PING_INTERVAL = 10.0
"""Seconds of silence after which the relay is pinged; half as long again without an answer, and it is dead."""

MAX_BUFFERED = 4 * 1024 * 1024
"""Bytes that wait in the connection before the outbox gives no more; at a quarter it does again."""

_MASK = bytes(4)

MAX_CALLS = 1000
"""Calls to the relay that may be under way; one more is refused."""

_FIRST_RETRY = 0.25
_LONGEST_RETRY = 30.0

_logger = logging.getLogger("co2.satellite")


def retry_delays() -> Iterable[float]:
    """Give seconds to wait before each further try: at once, then doubling up to 30, with jitter, for ever."""
    yield 0.0
    delay = _FIRST_RETRY
    while True:
        yield random.uniform(delay / 2, delay)
        delay = min(delay * 2, _LONGEST_RETRY)


class Receiver(Protocol):
    """Takes what the link brings."""

    def deliver(self, package: str, frame: Deliver, skip: int) -> bool:
        """Give a frame to a package, but for so many messages at its front; tell whether it takes more."""

    def gap(self, package: str, gap: Gap) -> None:
        """Tell a package what it will not get."""

    async def called(self, method: str, argument: Any) -> Any:
        """The relay calls a method of ours."""


class WayOut:
    """Writes to a WebSocket that we have opened, at once and without a task.

    aiohttp's own way to send is a coroutine, which needs a task and a turn of the loop for each live message; so
    frames are written to its transport. They are masked with zeros: masks keep web pages from fooling proxies with
    what they send (RFC 6455, 10.3), and no page speaks here.

    Args:
        web_socket: the WebSocket.
    """

    def __init__(self, web_socket: aiohttp.ClientWebSocketResponse) -> None:
        self.draining = False
        self._protocol = web_socket._writer.protocol
        self._transport = web_socket._writer.transport
        self._transport.set_write_buffer_limits(high=MAX_BUFFERED, low=MAX_BUFFERED // 4)

    @property
    def has_room(self) -> bool:
        """Whether the connection takes more."""
        return not self.draining and self._transport.get_write_buffer_size() < MAX_BUFFERED

    def write(self, frames: list[bytes]) -> None:
        """Write frames, each as a binary message."""
        if not self._transport.is_closing():
            messages: list[bytes] = []
            for data in frames:
                messages += (_message_head(len(data)), data)
            self._transport.writelines(messages)

    async def drain(self, then: Callable[[], None]) -> None:
        """Wait until the other side has read most of it."""
        self.draining = True
        try:
            await self._protocol._drain_helper()
        except ConnectionError:
            return  # the reading side finds out, and why
        finally:
            self.draining = False
        then()


def _message_head(size: int) -> bytes:
    """Write the head of a binary message, masked with zeros (RFC 6455, 5.2)."""
    if size < 126:
        return bytes((0x82, 0x80 | size)) + _MASK
    if size < 65_536:
        return b"\x82\xfe" + size.to_bytes(2, "big") + _MASK
    return b"\x82\xff" + size.to_bytes(8, "big") + _MASK


class Link:
    """The link to the relay, or the attempt to have one.

    Args:
        url: the relay's, without path.
        host_id: proposed to the relay.
        outbox: what waits to be sent.
        receiver: takes what comes.
        names: gives (methods, plugins) that we tell the relay.
        load: brings a segment of the outbox back to memory, and then calls :meth:`work`.
    """

    def __init__(
        self,
        *,
        url: str,
        host_id: HostId,
        outbox: Outbox,
        receiver: Receiver,
        names: Callable[[], tuple[list[str], list[str]]],
        load: Callable[[Segment], None],
    ) -> None:
        self.url = url
        self.core = SatelliteCore(host_id, outbox, names)
        self.joined = asyncio.Event()
        self.relay_ips: frozenset[str] = frozenset()
        self._roster: dict[str, dict[str, Any]] = {}
        self.last_error = "not tried yet"
        self.received = 0
        self.gaps = 0
        self._receiver = receiver
        self._outbox = outbox
        self._load = load
        self._way_out: WayOut | None = None
        self._calls: dict[int, asyncio.Future[Result]] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._retry_after = 0.0
        self._leaving = False
        self._told: dict[str, int] = {}
        self._ended = asyncio.Event()
        self._flushes: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def host_id(self) -> HostId:
        """Ours, with the host part that the relay has observed."""
        return self.core.host_id

    @property
    def roster(self) -> list[dict[str, Any]]:
        """Who is connected, as the relay tells: host_id, methods and plugins of each."""
        return list(self._roster.values())

    async def run(self) -> None:
        """Stay linked for ever; ends by cancellation."""
        delays = iter(retry_delays())
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
        connector = aiohttp.TCPConnector(use_dns_cache=False)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session:
            while True:
                self._retry_after = 0.0
                try:
                    if await self._live(session):
                        delays = iter(retry_delays())
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    self._lost(_what_went_wrong(error))
                await asyncio.sleep(max(next(delays), self._retry_after))

    def publish(self, package: str, plugin: str, channels: Sequence[str] | None, batch: bytes, live: bool) -> None:
        """Send messages of a plugin."""
        if live:
            self.core.publish_live(package, plugin, channels, batch)
        else:
            self.core.publish(package, plugin, channels, batch)
        self.work()

    def work(self) -> None:
        """Write what waits, as far as the connection takes it; the rest stays in the outbox."""
        out = self._way_out
        if out is None:
            return
        while out.has_room and (frames := self.core.taken()):
            out.write(frames)
        if (segment := self._outbox.wanted()) is not None:
            self._load(segment)
        if not out.has_room and not out.draining:
            self._spawn(out.drain(self.work))

    def tell_applied(self) -> None:
        """Tell the relay how far the packages are, where that is news."""
        positions = self.core.positions()
        if positions != self._told:
            self._told = positions
            self.core.tell_applied()
            self.work()

    async def flushed(self) -> None:
        """Wait until everything that was sent so far is on the relay's disk."""
        last = self._outbox.last
        if self._outbox.acked >= last and not len(self._outbox):
            return
        done = asyncio.get_running_loop().create_future()
        self._flushes.append((last, done))
        await done

    async def call(self, method: str, argument: dict[str, Any], timeout: float) -> Any:
        """Call a method of the relay.

        Raises:
            PeerError: what went wrong.
        """
        if self.core.state != "open" or len(self._calls) >= MAX_CALLS:
            why = self.last_error if self.core.state != "open" else "too many calls are under way"
            raise Unreachable(f"the relay at {self.url}: {why}")
        try:
            packed = pack_value(argument)
        except (ValueRefused, TooBig) as error:
            raise BadParams(str(error)) from None
        call_id = next(self._numbers)
        answer = self._calls[call_id] = asyncio.get_running_loop().create_future()
        self.core.call(Call(call_id, method, packed, timeout))
        self.work()
        try:
            async with asyncio.timeout(timeout + 1.0):
                result = await answer
        except TimeoutError:
            raise CallTimeout(method, timeout) from None
        finally:
            del self._calls[call_id]
        if result.code:
            raise RemoteFault(result.code, result.error)
        return unpack_value(result.value)

    async def leave(self, timeout: float) -> None:
        """Say goodbye to the relay, within ``timeout`` seconds; a relay that is away needs none."""
        if self.core.state == "away":
            return
        self._leaving = True
        self.core.end(goodbyes.STOPPING, "the satellite stops")
        self.work()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._ended.wait()

    # ---- one connection --------------------------------------------------------------------------------

    async def _live(self, session: aiohttp.ClientSession) -> bool:
        """Have a link until its end; tell whether the relay said Welcome."""
        async with asyncio.timeout(CONNECT_TIMEOUT):
            self.relay_ips = await self._resolve()
            web_socket = await session.ws_connect(
                f"{self.url}/link",
                protocols=(SUBPROTOCOL,),
                heartbeat=PING_INTERVAL,
                max_msg_size=MAX_LINK_FRAME,
                compress=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
            )
        async with web_socket:
            if web_socket.protocol != SUBPROTOCOL:
                raise aiohttp.ClientError(f"what answers at {self.url} does not speak {SUBPROTOCOL}")
            return await self._talk(web_socket)

    async def _talk(self, web_socket: aiohttp.ClientWebSocketResponse) -> bool:
        self._ended.clear()
        self._way_out = WayOut(web_socket)
        self.core.connected()
        self.work()
        welcomed = False
        try:
            while self.core.state != "away" and (data := await self._next(web_socket, welcomed)) is not None:
                self.core.receive(data)
                welcomed |= self.core.state == "open"
                self._take_events()
        finally:
            self.core.lost("the connection was closed")
            self._take_events()
            self._way_out = None
            self.joined.clear()
            self._ended.set()
        return welcomed

    async def _resolve(self) -> frozenset[str]:
        """Give the addresses of the relay: from there, and from nowhere else, ``notify`` may come."""
        parts = urlsplit(self.url)
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
        return frozenset(normal_ip(str(address[4][0])) for address in found)

    async def _next(self, web_socket: aiohttp.ClientWebSocketResponse, welcomed: bool) -> bytes | None:
        message = await web_socket.receive(None if welcomed else CONNECT_TIMEOUT)
        data: bytes | None = message.data if message.type is aiohttp.WSMsgType.BINARY else None
        return data

    def _take_events(self) -> None:
        events = self.core.events
        while events:
            event = events.popleft()
            match event:
                case Delivered(packages, frame, skip):
                    self.received += 1
                    for package in packages:
                        if not self._receiver.deliver(package, frame, skip):
                            self.core.fell_behind(package)
                case GapTold(packages, gap):
                    self._tell_gap(packages, gap)
                case CallReceived(call):
                    self._spawn(self._answer(call))
                case ResultReceived(result):
                    answer = self._calls.get(result.call_id)
                    if answer is not None and not answer.done():
                        answer.set_result(result)
                case RosterTold(roster):
                    self._learn(roster)
                case Welcomed():
                    self.last_error = ""
                    self.joined.set()
                    _logger.info("linked to %s as %s", event.welcome.relay, self.core.host_id)
                case Ended(reason, text, retry_after):
                    self._retry_after = retry_after
                    if not self._leaving:
                        self._lost(f"{reason}: {text}" if reason else text)
        self._settle_flushes()
        self.work()

    def _learn(self, roster: Roster) -> None:
        if roster.begins:
            self._roster.clear()
        for host_id, methods, plugins in roster.rows:
            row = {"host_id": host_id, "methods": methods, "plugins": plugins}
            self._roster[host_id.partition("@")[0]] = row
        for origin in roster.gone:
            self._roster.pop(origin, None)

    def _tell_gap(self, packages: Iterable[str], gap: Gap) -> None:
        self.gaps += 1
        _logger.warning("gap: messages over %d up to %d will not come: %s", gap.after, gap.next, gap.reason)
        for package in packages:
            self._receiver.gap(package, gap)

    def _settle_flushes(self) -> None:
        while self._flushes and self._outbox.acked >= self._flushes[0][0]:
            done = self._flushes.pop(0)[1]
            if not done.done():
                done.set_result(None)

    async def _answer(self, call: Call) -> None:
        try:
            async with asyncio.timeout(call.timeout):
                value = await self._receiver.called(call.method, unpack_value(call.argument))
            result = Result(call.call_id, pack_value(value))
        except TimeoutError:
            result = Result(call.call_id, b"", CallTimeout.code, f"{call.method}: no answer in time")
        except (ValueRefused, TooBig) as error:
            result = Result(call.call_id, b"", BadParams.code, str(error))
        except PeerError as error:
            result = Result(call.call_id, b"", error.code, str(error)[:4096])
        self.core.answer(result)
        self.work()

    def _lost(self, why: str) -> None:
        text = why[:512]
        if self.joined.is_set() or text != self.last_error:
            _logger.warning("no link to %s: %s; trying on", self.url, text)
        self.last_error = text
        self.joined.clear()
        for answer in self._calls.values():
            if not answer.done():
                answer.set_result(Result(0, b"", Unreachable.code, f"the link to the relay has ended: {text}"))

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("a task of the satellite ended", exc_info=error)


def _what_went_wrong(error: Exception) -> str:
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"what answers there is no relay of co2 (HTTP {error.status})"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return os.strerror(number).lower() if number else str(error.os_error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
