"""One HTTP connection: its requests are answered one at a time and in order.

    READING ──request──▶ BUSY ──answer──▶ READING …
       │
       └──refused──▶ LINGER ──▶ closed

A refused request is answered too; then the connection is closed, once the sender has had time to read the answer.
An XML-RPC call is parsed, called and answered in ``data_received``; a task is created only if its handler is a
coroutine.
"""

import asyncio
import contextlib
import enum
import math
import os
import socket
import struct
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from time import monotonic
from typing import Any, cast

from co2.errors import BadRequest
from co2.host_id import normal_ip
from co2.server.door.answers import DoorAnswer
from co2.server.door.door import JsonDoor, error_answer
from co2.server.express.fair_selector import put_behind, put_first
from co2.server.express.transports import has_unread, let_go, send_without_delay
from co2.server.http.access_log import AccessLog
from co2.server.http.connections import Connections
from co2.server.http.gate import Gate, Request
from co2.server.http.limits import Limits
from co2.server.http.long_body import LongBody
from co2.server.http.pages import PageServer
from co2.server.http.refused import Refused
from co2.server.http.request_parser import RequestParser
from co2.server.http.response_head import CONTINUE, ResponseHeads, page_head
from co2.server.http.websocket_upgrade import WebSocketUpgrade
from co2.server.rpc.answer_turns import AnswerTurns
from co2.server.rpc.endpoint import Encoding, Endpoint, RpcAnswer
from co2.web.page import PageAnswer
from co2.xmlrpc.faults import as_fault
from co2.xmlrpc.registry import Caller

__all__ = ["PIECE", "Connection", "Service"]

PIECE = 64 * 1024
"""Bytes of an answer that the transport gets at once."""

_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Service:
    """The objects that all connections of a server share."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    gate: Gate
    endpoint: Endpoint
    pages: PageServer
    connections: Connections
    access_log: AccessLog
    heads: ResponseHeads
    turns: AnswerTurns
    upgrade: WebSocketUpgrade
    door: JsonDoor


class State(enum.Enum):
    """State of a connection, as in the diagram above.

    READING: it waits for a request. BUSY: a request is being answered. LINGER: a request was refused, and the
    sender has time to read the answer. CLOSED: it is closed, or closing, or has become a link.
    """

    READING = enum.auto()
    BUSY = enum.auto()
    LINGER = enum.auto()
    CLOSED = enum.auto()


# They are read for every packet, and a global is faster than an attribute of an Enum class.
_READING, _BUSY, _LINGER, _CLOSED = State


class Connection(asyncio.Protocol):
    """The asyncio protocol of one connection.

    Args:
        service: the server's shared objects.

    Attributes:
        caller: the other end; known once the connection is made.
        deadline: when :meth:`check` acts, in seconds of the monotonic clock.
    """

    __slots__ = (
        "_descriptor",
        "_ending",
        "_endless",
        "_eof",
        "_parser",
        "_paused_reading",
        "_paused_writing",
        "_quiet",
        "_request",
        "_rest",
        "_room",
        "_service",
        "_since",
        "_state",
        "_task",
        "_transport",
        "caller",
        "deadline",
    )

    def __init__(self, service: Service) -> None:
        self._service = service
        self._state = _READING
        self._since: float
        self._ending = False
        self._eof = False
        self._quiet = (0.0, math.inf)
        self._paused_reading = False
        self._paused_writing = False
        self._descriptor = -1
        self._endless = False
        self._rest: LongBody | None = None
        self._room: asyncio.Future[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._transport: asyncio.Transport
        self._parser: RequestParser
        self._request: Request
        self.caller: Caller
        self.deadline: float

    # ---- calls of the transport ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request, and add the connection to the table."""
        self._transport = cast(asyncio.Transport, transport)
        send_without_delay(transport)
        peer = transport.get_extra_info("peername") or ("0.0.0.0", 0)  # noqa: S104 - gone already, a label only
        address = str(peer[0])
        self.caller = Caller(normal_ip(address) if ":" in address else address, int(peer[1]))
        own = str((transport.get_extra_info("sockname") or ("127.0.0.1", 0))[0])
        over_loopback = own.startswith("127.") or (":" in own and ip_address(normal_ip(own)).is_loopback)
        self._parser = RequestParser(self._service.gate, self._service.limits, over_loopback=over_loopback)
        self._since = monotonic()
        self.deadline = self._since + self._service.limits.head_timeout
        self._service.connections.add(self)
        if (sock := transport.get_extra_info("socket")) is not None:
            self._descriptor = sock.fileno()
            # Many HTTP connections may ask for much at once; messages of links are read before them.
            put_behind(self._service.loop, self._descriptor)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, and serve each request that is complete."""
        state = self._state
        if state is _READING:
            # While the other side does not read its answer, that answer's deadline holds, and no new one begins.
            if not self._paused_writing and not self._parser.in_request:
                self._quiet = self._since, self.deadline
                self._since = monotonic()
                self.deadline = self._since + self._service.limits.head_timeout
            self._parser.feed(data)
            self._advance()
        elif state is _BUSY:
            self._parser.feed(data)
            self._hold_back()

    def eof_received(self) -> bool:
        """Handle the end of the other side's input: refuse an incomplete request, otherwise close.

        While an answer is under way the connection stays open for it. A client such as ``nc -N`` closes its
        sending side behind the request, and would otherwise not learn that its message was accepted.
        """
        self._eof = True
        if self._endless:
            return False  # nobody reads on: otherwise that would be noticed at the next message only
        if self._state is _BUSY or self._paused_writing:
            return True
        self._end_of_input()
        return self._state is _LINGER

    def _end_of_input(self) -> None:
        """Handle the end of the input once no answer is under way."""
        if self._state is not _READING:
            return
        if self._parser.in_request:
            self._refuse(Refused(400, "the connection ended in the middle of a request"))
        elif not self._paused_writing:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what is under way, and remove the connection from the table."""
        self._state = _CLOSED
        self._rest = None
        put_first(self._service.loop, self._descriptor)
        let_go(self._transport)
        self._service.connections.remove(self)
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Serve no more requests until the other side has read its answer; set a deadline for that."""
        self._paused_writing = True
        limits = self._service.limits
        waiting, rest = self._transport.get_write_buffer_size(), self._rest
        left, whole = (rest.left, rest.size) if rest is not None else (0, 0)
        self.deadline = monotonic() + limits.write_timeout + (waiting + left) / limits.write_rate
        # A long answer stays in memory as a whole until the transport has got its last part.
        self._service.connections.unsent.hold(self, waiting + whole)

    def resume_writing(self) -> None:
        """Write the rest of a long answer, then continue with the next request."""
        self._paused_writing = False
        if self._rest is not None:
            deadline = self.deadline
            self._write_on()
            if self._paused_writing:
                self.deadline = deadline  # it is for the whole answer: reading one piece gives no more time
                return
        self._service.connections.unsent.release(self)
        if self._state is _CLOSED:
            self._transport.close()
        elif self._state is _READING:
            if self._parser.in_body:  # it has read "100 Continue", and sends its body now
                self.deadline = self._since + self._service.limits.body_timeout
                self._read_on()
            else:
                self._ready()
            self._serve_next()
        elif self._state is _BUSY:
            self.deadline = math.inf
            if self._room is not None and not self._room.done():
                self._room.set_result(None)

    # ---- calls of the table of connections -------------------------------------------------------------

    @property
    def idle_since(self) -> float | None:
        """When the last answer had left, in seconds of the monotonic clock; None while anything is under way."""
        return self._since if self._is_idle else None

    @property
    def _is_idle(self) -> bool:
        return self._state is _READING and not self._paused_writing and not self._parser.in_request

    def check(self, now: float) -> None:
        """Refuse, close or drop the connection if its deadline is over or its body comes too slowly.

        Args:
            now: the time, in seconds of the monotonic clock.
        """
        if now >= self.deadline:
            if self._is_idle and not self._eof and has_unread(self._descriptor):
                self.deadline = now + self._service.limits.head_timeout  # it has sent: the delay is ours
            elif self._paused_writing:
                self.drop("slow", "it does not read its response")
            elif self._state is not _READING:
                self._reset()
            elif self._parser.in_request:
                self._refuse(Refused(408, "the request took too long"))
            else:
                self._close()
        elif self._state is _READING and self._parser.in_body:
            limits = self._service.limits
            taken = now - self._since
            if taken > limits.body_grace and self._parser.received < taken * limits.body_rate:
                self._refuse(
                    Refused(408, (f"the body is too slow; the minimum is {limits.body_rate} bytes a second"))
                )

    def drop(self, reason: str, text: str) -> None:
        """Close the connection at once, without an answer.

        Args:
            reason: one word, for the counter.
            text: the reason for the log.
        """
        self._state = _CLOSED
        self._service.connections.remove(self)
        self._service.access_log.dropped_one(self.caller, reason, text)
        self._reset()

    def end_after_answer(self) -> None:
        """Serve no more requests: close now, or after the answer that is under way."""
        self._ending = True
        if self._state is not _BUSY:
            self._close()

    # ---- from bytes to requests ------------------------------------------------------------------------

    def _advance(self) -> None:
        """Serve the requests that are complete, until one is incomplete or an answer is under way."""
        parser = self._parser
        try:
            while self._state is _READING and parser.buffered and not self._paused_writing:
                was_in_body = parser.in_body
                found = parser.next()
                if found is None:
                    self._await_rest(was_in_body)
                    break
                self._serve(*found)
                if (
                    self._service.turns.is_over
                    and self._state is _READING
                    and parser.buffered
                    and not self._paused_writing
                ):
                    self._state = _BUSY  # until its turn
                    self.deadline = math.inf
                    self._service.turns.do(self._have_turn)
        except Refused as refused:
            self._refuse(refused)
        self._hold_back()

    def _await_rest(self, was_in_body: bool) -> None:
        """Set the deadline of an incomplete request, and count its bytes."""
        parser = self._parser
        if parser.in_body:
            if not was_in_body:
                self._since = monotonic()
                self.deadline = self._since + self._service.limits.body_timeout
                if parser.awaits_continue:
                    self._transport.write(CONTINUE)
            self._service.connections.unread.hold(self, parser.received)
        elif not parser.in_request:  # only empty lines came, and these give no more time
            self._since, self.deadline = self._quiet

    def _have_turn(self) -> None:
        """Serve the next requests, now that it is this connection's turn again."""
        if self._state is not _BUSY or self._transport.is_closing():
            return
        self._state = _READING
        if self._ending:
            self._close()
            return
        self._ready()
        self._serve_next()

    def _serve_next(self) -> None:
        """Serve the requests that came while an answer was under way."""
        self._advance()
        if self._task is not None:
            self._service.turns.use_up()  # the task has not run yet, so its time is unknown
        if self._eof and not self._paused_writing:
            self._end_of_input()

    def _hold_back(self) -> None:
        """Stop reading if too much has come while an answer is under way or not read."""
        if self._state is not _BUSY and not self._paused_writing:
            return
        if self._paused_reading or self._transport.is_closing():
            return
        if self._parser.buffered > self._service.limits.max_pipelined:
            self._paused_reading = True
            self._transport.pause_reading()

    # ---- from requests to answers ----------------------------------------------------------------------

    def _serve(self, request: Request, body: bytes) -> None:
        service = self._service
        service.connections.proven(self)
        self._request = request
        if request.head.path in service.upgrade:
            self._hand_over(request)
            return
        self._state = _BUSY
        self._since = monotonic()
        self.deadline = math.inf
        if request.route is not None:
            self._serve_door(request, body)
        elif request.is_page:
            self._serve_page(request)
        else:
            self._call(request, body)

    def _call(self, request: Request, body: bytes) -> None:
        service = self._service
        service.connections.unread.release(self)
        answer = service.endpoint.answer(body, self._caller_of(request), request.charset)
        if isinstance(answer, RpcAnswer):
            began = self._since
            self._reply(answer)
            service.turns.spend(began)
        elif isinstance(answer, Encoding):
            service.turns.spend(self._since)
            service.turns.do(partial(self._write_answer, answer))
        else:
            task: asyncio.Task[Encoding | RpcAnswer] = service.loop.create_task(cast(Any, answer))
            self._task = task
            task.add_done_callback(self._answered)

    def _caller_of(self, request: Request) -> Caller:
        """Return the caller of a request: the other end, marked if it passes on the request of another."""
        if not request.relayed and not request.proxied:
            return self.caller
        return replace(self.caller, relayed=request.relayed, proxied=request.proxied)

    def _answered(self, task: "asyncio.Task[Encoding | RpcAnswer]") -> None:
        self._task = None
        if not task.cancelled():
            self._service.turns.do(partial(self._write_answer, task.result()))

    def _write_answer(self, answer: Encoding | RpcAnswer) -> None:
        """Encode an answer, as far as this turn's time allows, and send it when it is complete."""
        if self._state is not _BUSY or self._transport.is_closing():
            return  # nobody is there to read the answer
        if isinstance(answer, Encoding):
            is_new = not answer.is_begun
            complete = answer.step()
            if complete is None:
                if self._service.turns.go_on(partial(self._write_answer, answer), is_new=is_new):
                    answer.begin_anew()
                return
            answer = complete
        self._reply(answer)
        self._serve_next()

    def _reply(self, answer: RpcAnswer) -> None:
        service = self._service
        keep = self._request.head.keep and not self._ending
        head = service.heads.head(200, answer.size, keep)
        self._write(head, answer.pieces, keep, f"POST {answer.method or '-'}", 200)

    def _write(self, head: bytes, pieces: Sequence[bytes], keep: bool, what: str, status: int) -> None:
        """Write an answer, then wait for the next request or close the connection.

        Args:
            head: of the answer.
            pieces: of its body, in order.
            keep: whether the connection stays open.
            what: HTTP method, and path or XML-RPC method, for the access log.
            status: HTTP status of the answer.
        """
        self._state = _READING
        size = sum(map(len, pieces))
        if size <= PIECE:
            self._transport.write(b"".join((head, *pieces)))
        else:
            self._rest = LongBody(pieces)
            self._transport.write(head)
            self._write_on()
        self._service.access_log.answered(self.caller, what, status, size, monotonic() - self._since)
        if keep:
            self._ready()
        else:
            self._close()

    def _write_on(self) -> None:
        """Write parts of a long answer until the transport is full; it copies what it cannot send at once."""
        transport = self._transport
        while self._rest is not None and not self._paused_writing:
            if transport.is_closing():  # asyncio would log a warning for each part
                self._rest = None
                return
            part = self._rest.take(PIECE)
            if not self._rest.left:
                self._rest = None
            transport.write(part)

    def _serve_page(self, request: Request) -> None:
        service = self._service
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
        self._write(page_head(page, keep), (body,), keep, f"{head.method} {head.path}", page.status)
        self._serve_next()

    def _serve_door(self, request: Request, body: bytes) -> None:
        service = self._service
        service.connections.unread.release(self)
        assert request.route is not None
        caller = self._caller_of(request)
        answer = service.door.answer(request.route, request.head.target, body, caller, is_lines=request.is_lines)
        self._task = task = service.loop.create_task(answer)
        task.add_done_callback(self._door_answered)

    def _door_answered(self, task: "asyncio.Task[DoorAnswer]") -> None:
        self._task = None
        if not task.cancelled():
            self._service.turns.do(partial(self._write_door, task.result()))

    def _write_door(self, answer: DoorAnswer) -> None:
        if self._state is not _BUSY or self._transport.is_closing():
            return  # nobody is there to read the answer
        head = self._request.head
        keep = head.keep and not self._ending
        what = f"{head.method} {head.path}"
        if answer.pieces is None:
            first = self._service.heads.head(answer.status, len(answer.body), keep, answer.content_type)
            self._write(first, (answer.body,), keep, what, answer.status)
            self._serve_next()
            return
        keep = keep and head.minor > 0  # HTTP/1.0 has no chunks
        self._transport.write(self._service.heads.streamed(keep, answer.content_type))
        self._endless = answer.is_endless
        self._task = task = self._service.loop.create_task(self._stream(answer.pieces, chunked=keep))
        task.add_done_callback(partial(self._streamed, what, keep))

    async def _stream(self, pieces: AsyncGenerator[bytes, None], *, chunked: bool) -> int:
        """Write pieces as the other side reads them; return the bytes of the body."""
        size = 0
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                if self._paused_writing:
                    self._room = self._service.loop.create_future()
                    await self._room
                    self._room = None
                if self._transport.is_closing():
                    break
                size += len(piece)
                self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        return size

    def _streamed(self, what: str, keep: bool, task: "asyncio.Task[int]") -> None:
        """End a streamed answer; if its pieces ended with an error, so that the other side notices."""
        self._task = None
        self._endless = False
        if task.cancelled() or self._state is not _BUSY or self._transport.is_closing():
            return
        if (error := task.exception()) is not None:
            if isinstance(error, Exception):
                as_fault(error, what)  # logged
            self.drop("failed", f"{what} failed in the middle of its answer")
            return
        if keep:
            self._transport.write(b"0\r\n\r\n")
        self._state = _READING
        self._service.access_log.answered(self.caller, what, 200, task.result(), monotonic() - self._since)
        if keep and not self._ending and not self._eof:
            self._ready()
            self._serve_next()
        else:
            self._close()

    def _hand_over(self, request: Request) -> None:
        """Upgrade the connection to a WebSocket; from then on another protocol handles it."""
        service, caller = self._service, self._caller_of(request)
        service.upgrade.check(request.head, caller)
        service.connections.remove(self)
        rest = self._parser.take_rest()
        self._state = _CLOSED
        self.deadline = math.inf
        status = service.upgrade.admit(self._transport, request.head, caller, rest)
        service.access_log.answered(self.caller, f"GET {request.head.path}", status, 0, 0.0)

    def _ready(self) -> None:
        """Wait for the next request."""
        if self._paused_writing or self._state is not _READING:
            return
        limits = self._service.limits
        self._since = monotonic()
        self._quiet = self._since, self._since + limits.idle_timeout
        self.deadline = self._since + limits.head_timeout if self._parser.in_request else self._quiet[1]
        self._read_on()

    def _read_on(self) -> None:
        """Resume reading if :meth:`_hold_back` has paused it."""
        if self._paused_reading:
            self._paused_reading = False
            self._transport.resume_reading()

    def _refuse(self, refused: Refused) -> None:
        service = self._service
        refused.as_json |= self._parser.wants_json
        if refused.as_json:
            code = BadRequest.code if refused.fault is None else refused.fault.code
            body = error_answer(code, refused.why).body
            head = service.heads.head(refused.status, len(body), False, "application/json", refused.more)
        elif refused.fault is not None:
            (body,) = service.endpoint.fault("", refused.fault).pieces
            head = service.heads.head(200, len(body), False)
        else:
            body = f"{refused.why}\n".encode()
            head = service.heads.head(refused.status, len(body), False, "text/plain", refused.more)
        self._state = _LINGER
        self._parser.clear()
        service.connections.unread.release(self)
        service.access_log.refused(self.caller, refused)
        self._transport.write(head + body)
        # Closing a socket with unread bytes resets the connection, and the sender may lose the answer. So only
        # the sending side is closed; the rest follows at the deadline.
        self._transport.write_eof()
        self.deadline = monotonic() + service.limits.linger_timeout

    def _reset(self) -> None:
        """Abort the connection. Without SO_LINGER the kernel would try for minutes to send what is left."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None and os.name == "posix":
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()

    def _close(self) -> None:
        """Close the connection once everything is written, or at the deadline."""
        self._state = _CLOSED
        if not self._paused_writing:
            self.deadline = monotonic() + self._service.limits.write_timeout
        if self._rest is None:
            self._transport.close()
