"""One HTTP connection: requests cut out of the stream, answered one at a time and in order.

    HEAD ──head──▶ BODY ──body──▶ BUSY ──answer──▶ HEAD …
      │              │
      └──refused─────┴──▶ LINGER ──▶ closed

Whatever is refused is answered, and then the connection is closed once the sender had time to read why. XML-RPC
is read, called and written right here, without a task where the handler is a plain function.
"""

import asyncio
import contextlib
import enum
import math
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from time import monotonic
from typing import Any, cast

from co2.host_id import normal_ip
from co2.server.express.fair_selector import put_behind, put_first
from co2.server.express.transports import has_unread, let_go, send_without_delay
from co2.server.http.access_log import AccessLog
from co2.server.http.answer_turns import AnswerTurns
from co2.server.http.chunked_body import ChunkedBody
from co2.server.http.connections import Connections
from co2.server.http.gate import Gate, Request
from co2.server.http.limits import Limits
from co2.server.http.link_upgrade import LINK_PATH, LinkUpgrade
from co2.server.http.pages import PageServer
from co2.server.http.refused import Refused
from co2.server.http.request_head import broken_line
from co2.server.http.response_head import CONTINUE, ResponseHeads, page_head
from co2.server.rpc.endpoint import Endpoint, RpcAnswer
from co2.web.page import PageAnswer
from co2.xmlrpc.registry import Caller

__all__ = ["PIECE", "Connection", "Service"]

PIECE = 64 * 1024
"""Bytes of an answer that are handed to the transport at once."""

_NOTHING = memoryview(b"")
_NO_LINGER = struct.pack("ii", 1, 0)
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Service:
    """What all connections of a server share."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    gate: Gate
    endpoint: Endpoint
    pages: PageServer
    connections: Connections
    access_log: AccessLog
    heads: ResponseHeads
    turns: AnswerTurns
    link_upgrade: LinkUpgrade | None


class State(enum.Enum):
    """What a connection waits for."""

    HEAD = enum.auto()
    BODY = enum.auto()
    BUSY = enum.auto()
    LINGER = enum.auto()
    CLOSED = enum.auto()


# Read on every packet; as globals they are found without going through the enum's machinery.
_HEAD, _BODY, _BUSY, _LINGER, _CLOSED = State


class Connection(asyncio.Protocol):
    """The protocol of one connection.

    Args:
        service: of the server.

    Attributes:
        caller: the other end; known once the connection is made.
        deadline: when :meth:`check` acts, on the monotonic clock.
    """

    __slots__ = (
        "_buffer",
        "_chunks",
        "_descriptor",
        "_ending",
        "_eof",
        "_over_loopback",
        "_paused_reading",
        "_paused_writing",
        "_quiet",
        "_request",
        "_rest",
        "_scanned",
        "_service",
        "_since",
        "_state",
        "_task",
        "_transport",
        "_whole",
        "caller",
        "deadline",
    )

    def __init__(self, service: Service) -> None:
        self._service = service
        self._state = _HEAD
        self._buffer = bytearray()
        self._scanned = 0
        self._since = 0.0
        self._chunks: ChunkedBody | None = None
        self._ending = False
        self._eof = False
        self._quiet = (0.0, math.inf)
        self._over_loopback = True
        self._paused_reading = False
        self._paused_writing = False
        self._descriptor = -1
        self._whole, self._rest = b"", _NOTHING
        self._task: asyncio.Task[Callable[[], RpcAnswer]] | asyncio.Task[PageAnswer] | None = None
        self._transport: asyncio.Transport
        self._request: Request
        self.caller = Caller("", 0)
        self.deadline = math.inf

    # ---- what the transport tells ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in."""
        self._transport = cast(asyncio.Transport, transport)
        send_without_delay(transport)
        peer = transport.get_extra_info("peername") or ("0.0.0.0", 0)  # noqa: S104 - gone already, a label only
        address = str(peer[0])
        self.caller = Caller(normal_ip(address) if ":" in address else address, int(peer[1]))
        own = str((transport.get_extra_info("sockname") or ("127.0.0.1", 0))[0])
        self._over_loopback = own.startswith("127.") or (":" in own and ip_address(normal_ip(own)).is_loopback)
        self._since = monotonic()
        self.deadline = self._since + self._service.limits.head_timeout
        self._service.connections.add(self)
        if (sock := transport.get_extra_info("socket")) is not None:
            self._descriptor = sock.fileno()
            # Anybody may ask for much from many of them; messages that come over links do not wait for that.
            put_behind(self._service.loop, self._descriptor)

    def data_received(self, data: bytes) -> None:
        """Take bytes as they come."""
        buffer = self._buffer
        state = self._state
        if state is _HEAD:
            if not buffer and not self._paused_writing:  # else the answer's deadline holds, and who waits is it
                self._quiet = self._since, self.deadline
                self._since = monotonic()
                self.deadline = self._since + self._service.limits.head_timeout
            buffer += data
            self._advance()
        elif state is _BODY:
            buffer += data
            self._advance()
        elif state is _BUSY:
            buffer += data
            self._hold_back()

    def eof_received(self) -> bool:
        """The other side sends no more: with half a request it is told so; else the connection ends.

        While an answer is under way it waits for that: whoever closes its sending side behind a request, as
        ``nc -N`` does, would not know otherwise that its message was taken.
        """
        self._eof = True
        if self._state is _BUSY or self._paused_writing:
            return True
        self._end_of_input()
        return self._state is _LINGER

    def _end_of_input(self) -> None:
        """Act on the end of what comes, where nothing is under way any more."""
        if self._state is _BODY or (self._state is _HEAD and self._buffer):
            self._refuse(Refused(400, "the connection ends in the middle of a request"))
        elif self._state is _HEAD and not self._paused_writing:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End whatever is under way."""
        self._state = _CLOSED
        self._let_go_of_rest()
        put_first(self._service.loop, self._descriptor)
        let_go(self._transport)
        self._service.connections.remove(self)
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The other side reads too slowly: no more requests are served until it has caught up."""
        self._paused_writing = True
        limits = self._service.limits
        waiting = self._transport.get_write_buffer_size()
        self.deadline = monotonic() + limits.write_timeout + (waiting + len(self._rest)) / limits.write_rate
        # Until the last piece of an answer has been given to the transport all of it is kept.
        self._service.connections.unsent.hold(self, waiting + (len(self._whole) if self._rest else 0))

    def resume_writing(self) -> None:
        """The other side has caught up."""
        self._paused_writing = False
        if self._rest:
            deadline = self.deadline
            self._write_on()
            if self._paused_writing:
                self.deadline = deadline  # of the whole answer: with each piece that is read nobody gets more time
                return
        self._service.connections.unsent.release(self)
        if self._state is _CLOSED:
            self._transport.close()
        elif self._state is _HEAD:
            self._ready()
            self._go_on()
        elif self._state is _BODY:  # it was told to go on with that
            self.deadline = self._since + self._service.limits.body_timeout
            self._read_on()
            self._go_on()
        elif self._state is _BUSY:
            self.deadline = math.inf

    # ---- what the table asks ---------------------------------------------------------------------------

    @property
    def idle_since(self) -> float | None:
        """When the last answer had left; None while something is under way."""
        idle = self._state is _HEAD and not self._buffer and not self._paused_writing
        return self._since if idle else None

    def check(self, now: float) -> None:
        """Act on a deadline or a rate that is not kept."""
        if now >= self.deadline:
            is_quiet = self._state is _HEAD and not self._buffer and not self._paused_writing
            if is_quiet and not self._eof and has_unread(self._descriptor):
                self.deadline = now + self._service.limits.head_timeout  # it is our turn, not its
            elif self._paused_writing:
                self.drop("slow", "it does not read its answer")
            elif self._state is _BODY or (self._state is _HEAD and self._buffer):
                self._refuse(Refused(408, "the request takes too long"))
            elif self._state is _HEAD:
                self._close()
            else:
                self._reset()
        elif self._state is _BODY:
            limits = self._service.limits
            taken = now - self._since
            if taken > limits.body_grace and self._received() < taken * limits.body_rate:
                self._refuse(Refused(408, f"a body comes with at least {limits.body_rate} bytes a second"))

    def drop(self, reason: str, text: str) -> None:
        """End the connection at once, without an answer."""
        self._state = _CLOSED
        self._service.connections.remove(self)
        self._service.access_log.dropped_one(self.caller, reason, text)
        self._reset()

    def end_after_answer(self) -> None:
        """Serve nothing more: close now or, where an answer is under way, after it."""
        self._ending = True
        if self._state is not _BUSY:
            self._close()

    # ---- from bytes to requests ------------------------------------------------------------------------

    def _advance(self) -> None:
        """Serve what is complete, until something is missing or under way."""
        try:
            while self._buffer and not self._paused_writing:
                if self._state is _HEAD:
                    if not self._read_head():
                        break
                elif self._state is not _BODY:
                    break
                if self._state is _BODY and not self._read_body():
                    break
                if (
                    self._state is _HEAD
                    and self._buffer
                    and self._service.turns.is_over
                    and not self._paused_writing
                ):
                    self._state = _BUSY  # with those who wait for their turn
                    self.deadline = math.inf
                    self._service.turns.do(self._have_turn)
        except Refused as refused:
            self._refuse(refused)
        self._hold_back()

    def _have_turn(self) -> None:
        """Serve what has come behind requests that took all of a turn."""
        if self._state is not _BUSY or self._transport.is_closing():
            return
        self._state = _HEAD
        if self._ending:
            self._close()
            return
        self._ready()
        self._go_on()

    def _go_on(self) -> None:
        """Serve what has come meanwhile."""
        self._advance()
        if self._task is not None:
            self._service.turns.use_up()  # what it takes is seen only when it has begun
        if self._eof and not self._paused_writing:
            self._end_of_input()

    def _read_head(self) -> bool:
        buffer = self._buffer
        service = self._service
        if buffer.startswith(b"\r\n"):
            del buffer[:2]  # what some clients send after a body; RFC 9112, 2.2
            self._scanned = 0
            if not buffer:  # no request has begun: this gives nobody more time
                self._since, self.deadline = self._quiet
                return False
        end = buffer.find(_END_OF_HEAD, self._scanned)
        if end < 0:
            self._check_unfinished_head()
            return False
        request = self._request = service.gate.admit(bytes(buffer[:end]), self._over_loopback)
        del buffer[: end + 4]
        self._scanned = 0
        if request.is_page:
            self._serve_page(request)
            return False
        self._state = _BODY
        if request.head.chunked:
            self._chunks = ChunkedBody(service.limits)
        if request.head.chunked or len(buffer) < (request.head.length or 0):
            self._since = monotonic()
            self.deadline = self._since + service.limits.body_timeout
            if request.head.expects and not buffer:
                self._transport.write(CONTINUE)
        return True

    def _check_unfinished_head(self) -> None:
        buffer = self._buffer
        limits = self._service.limits
        if len(buffer) > limits.max_head:
            raise Refused(431, f"a head of more than {limits.max_head} bytes")
        if len(buffer) > limits.max_line + 2:
            if buffer.find(b"\r\n", 0, limits.max_line + 2) < 0:
                raise Refused(414, f"a request line of more than {limits.max_line} bytes")
            if len(buffer) - buffer.rfind(b"\r\n") - 2 > limits.max_line:
                raise Refused(431, f"a header line of more than {limits.max_line} bytes")
        if broken_line(buffer, max(0, self._scanned)):
            raise Refused(400, "a bare CR, a bare LF or a NUL")
        self._scanned = max(0, len(buffer) - 3)

    def _read_body(self) -> bool:
        buffer = self._buffer
        if self._chunks is None:
            length = self._request.head.length or 0
            if len(buffer) < length:
                self._service.connections.unread.hold(self, len(buffer))
                return False
            body = bytes(buffer[:length])
            del buffer[:length]
        else:
            if not self._chunks.feed(buffer):
                self._service.connections.unread.hold(self, self._received())
                return False
            body = bytes(self._chunks.body)
            self._chunks = None
        self._call(body)
        return True

    def _received(self) -> int:
        return len(self._buffer) + (len(self._chunks.body) if self._chunks is not None else 0)

    def _hold_back(self) -> None:
        """While one request is answered, or its answer is not read, only so much of the next ones is read."""
        if self._state is not _BUSY and not self._paused_writing:
            return
        if self._paused_reading or self._transport.is_closing():
            return
        if len(self._buffer) > self._service.limits.max_pipelined:
            self._paused_reading = True
            self._transport.pause_reading()

    # ---- from requests to answers ----------------------------------------------------------------------

    def _call(self, body: bytes) -> None:
        service = self._service
        service.connections.proven(self)
        service.connections.unread.release(self)
        self._state = _BUSY
        self._since = monotonic()
        self.deadline = math.inf
        request = self._request
        answer = service.endpoint.answer(body, self._caller_of(request), request.charset)
        if isinstance(answer, RpcAnswer):
            began = self._since
            self._reply(answer)
            service.turns.spend(began)
        else:
            task: asyncio.Task[Callable[[], RpcAnswer]] = service.loop.create_task(cast(Any, answer))
            self._task = task
            task.add_done_callback(self._answered)

    def _caller_of(self, request: Request) -> Caller:
        """Return who asks: whoever is at the other end, unless it asks for others."""
        if not request.relayed and not request.proxied:
            return self.caller
        return replace(self.caller, relayed=request.relayed, proxied=request.proxied)

    def _answered(self, task: "asyncio.Task[Callable[[], RpcAnswer]]") -> None:
        self._task = None
        if not task.cancelled():
            self._service.turns.do(lambda: self._write_answer(task.result()))

    def _write_answer(self, write: Callable[[], RpcAnswer]) -> None:
        if self._state is not _BUSY or self._transport.is_closing():
            return  # nobody is there to read the answer
        self._reply(write())
        self._go_on()

    def _reply(self, answer: RpcAnswer) -> None:
        service = self._service
        keep = self._request.head.keep and not self._ending
        head = service.heads.head(200, len(answer.body), keep)
        self._write(head, answer.body, keep, f"POST {answer.method or '-'}", 200)

    def _write(self, head: bytes, body: bytes, keep: bool, what: str, status: int) -> None:
        """Send an answer, and go on with the connection or close it."""
        self._state = _HEAD
        if len(body) <= PIECE:
            self._transport.write(head + body)
        else:
            self._whole, self._rest = body, memoryview(body)
            self._transport.write(head)
            self._write_on()
        self._service.access_log.answered(self.caller, what, status, len(body), monotonic() - self._since)
        if keep:
            self._ready()
        else:
            self._close()

    def _let_go_of_rest(self) -> None:
        self._whole, self._rest = b"", _NOTHING

    def _write_on(self) -> None:
        """Write as much of a long answer as the transport takes: it copies what it has to keep, all in one go."""
        transport = self._transport
        while self._rest and not self._paused_writing:
            if transport.is_closing():  # the connection has ended meanwhile: it would log a line for each piece
                self._let_go_of_rest()
                return
            piece, self._rest = bytes(self._rest[:PIECE]), self._rest[PIECE:]
            if not self._rest:
                self._let_go_of_rest()
            transport.write(piece)  # of its own: a part of the answer would keep all of it

    def _serve_page(self, request: Request) -> None:
        service = self._service
        service.connections.proven(self)
        if request.head.path == LINK_PATH:
            assert service.link_upgrade is not None
            service.link_upgrade.check(request.head)
            self._hand_over(request)
            return
        self._state = _BUSY
        self._since = monotonic()
        self.deadline = math.inf
        self._task = task = service.loop.create_task(service.pages.answer(request.head, self._caller_of(request)))
        task.add_done_callback(self._page_answered)

    def _page_answered(self, task: "asyncio.Task[PageAnswer]") -> None:
        self._task = None
        if not task.cancelled():
            self._service.turns.do(lambda: self._write_page(task.result()))

    def _write_page(self, page: PageAnswer) -> None:
        if self._state is not _BUSY or self._transport.is_closing():
            return  # nobody is there to read the page
        head = self._request.head
        keep = head.keep and not self._ending
        body = b"" if head.method == "HEAD" else page.body
        self._write(page_head(page, keep), body, keep, f"{head.method} {head.path}", page.status)
        self._go_on()

    def _hand_over(self, request: Request) -> None:
        """Let a connection become a link: it is none of ours any more."""
        service = self._service
        assert service.link_upgrade is not None
        service.connections.remove(self)
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._state = _CLOSED
        self.deadline = math.inf
        status = service.link_upgrade.admit(self._transport, request.head, rest)
        service.access_log.answered(self.caller, f"GET {LINK_PATH}", status, 0, 0.0)

    def _ready(self) -> None:
        """Wait for the next request."""
        if self._paused_writing or self._state is not _HEAD:
            return
        limits = self._service.limits
        self._since = monotonic()
        self._quiet = self._since, self._since + limits.idle_timeout
        self.deadline = self._since + limits.head_timeout if self._buffer else self._quiet[1]
        self._read_on()

    def _read_on(self) -> None:
        """Read again, where so much had been read ahead that nothing more was."""
        if self._paused_reading:
            self._paused_reading = False
            self._transport.resume_reading()

    def _refuse(self, refused: Refused) -> None:
        service = self._service
        if refused.fault is not None:
            body = service.endpoint.fault("", refused.fault).body
            head = service.heads.head(200, len(body), False)
        else:
            body = f"{refused.why}\n".encode()
            head = service.heads.head(refused.status, len(body), False, "text/plain", refused.more)
        self._state = _LINGER
        self._buffer.clear()
        self._chunks = None
        service.connections.unread.release(self)
        service.access_log.refused(self.caller, refused)
        self._transport.write(head + body)
        # Closing with unread bytes would reset the connection and take the answer away from the sender.
        self._transport.write_eof()
        self.deadline = monotonic() + service.limits.linger_timeout

    def _reset(self) -> None:
        """Give up the connection and what is not sent; else the kernel would keep trying for minutes."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None and os.name == "posix":
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()

    def _close(self) -> None:
        """Close once everything is written; what is not by the deadline is given up."""
        self._state = _CLOSED
        if not self._paused_writing:
            self.deadline = monotonic() + self._service.limits.write_timeout
        if not self._rest:
            self._transport.close()
