"""One viewer at ``/live``: a WebSocket over which messages come as JSON, and go, and methods are called."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from co2.errors import PeerError, UsageError
from co2.protocol.wire.channel_patterns import Interests
from co2.protocol.wire.websocket import NORMAL, POLICY
from co2.relay.long_turns import LONG
from co2.relay.message_methods import MessageMethods
from co2.server.door.common import CommonRoutes
from co2.server.door.live_frames import (
    CallFrame,
    Ref,
    SendFrame,
    WantFrame,
    error_frame,
    position_frame,
    read_frame,
    ref_of,
    result_frame,
    skipped_frame,
)
from co2.server.link.websocket_transport import WebSocketTransport, joined
from co2.server.rpc.answer_turns import STEP, AnswerTurns
from co2.xmlrpc.faults import fault_of
from co2.xmlrpc.registry import Caller

__all__ = ["LOOK", "MAX_BEHIND", "MAX_UNDER_WAY", "MAX_WAITING", "PROGRESS", "SLOW", "Viewer"]

MAX_BEHIND = 256 * 1024
"""Bytes that a viewer has not read above which it gets no more messages, but their number later."""

CAUGHT_UP = 64 * 1024
"""Bytes that it has not read below which it gets messages again."""

SLOW = 30.0
"""Seconds for which a viewer may be behind; then it is closed with code 1008."""

MAX_WAITING = 64
"""Frames of one viewer that wait to be handled; while there are more, nothing is read from it."""

MAX_WAITING_BYTES = 1024 * 1024
"""Bytes of these frames, likewise."""

MAX_UNDER_WAY = 16
"""Sends and calls of one viewer that wait for their results; further frames wait."""

LOOK = 0.25
"""Seconds between two looks at whether a viewer has read on."""

PROGRESS = 5.0
"""Seconds between two frames that say up to which position a viewer has got all that it wants."""

_NOTHING = Interests(())


class Viewer:
    """The owner of a viewer's WebSocket.

    Args:
        wire: its WebSocket.
        caller: who has opened it.
        routes: call methods, read and write long values.
        messages: takes what it sends.
        turns: of the event loop.
        position: returns that of the newest message.
        ended: called once at the end.

    Attributes:
        caller: who has opened it.
        channels: the messages that it wants.
        skipped: messages that it did not get and has not been told of.
    """

    def __init__(
        self,
        wire: WebSocketTransport,
        caller: Caller,
        *,
        routes: CommonRoutes,
        messages: MessageMethods,
        turns: AnswerTurns,
        position: Callable[[], int],
        ended: Callable[["Viewer"], None],
    ) -> None:
        self.caller = caller
        self.channels = _NOTHING
        self.skipped = 0
        self._wire = wire
        self._routes = routes
        self._messages = messages
        self._turns = turns
        self._position = position
        self._ended = ended
        self._behind_since = 0.0
        self._progress = -1
        self._progress_at = monotonic()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._handling: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._room: asyncio.Future[None] | None = None
        self._order = asyncio.Lock()
        self._in_order = 0
        wire.read_behind()  # messages of links are read first

    # ---- calls of the transport ------------------------------------------------------------------------

    def received(self, frames: list[bytes | memoryview], more: bool = False) -> None:
        """Queue frames; they are handled in turns, so that a flood of them delays its sender only."""
        for frame in frames:
            self._waiting.append(bytes(frame))
            self._waiting_bytes += len(frame)
        if self._is_full:
            self._wire.pause_reading()
        if self._handling is None:
            self._handling = asyncio.get_running_loop().create_task(self._handle_all())

    def filled(self) -> None:
        """Do nothing: a viewer that does not read gets nothing more, see :meth:`give`."""

    def drained(self) -> None:
        """Do nothing, see :meth:`look`."""

    def ended(self, why: str) -> None:
        """Cancel what is under way."""
        self.stop()
        self._ended(self)

    # ---- from the host to the viewer -------------------------------------------------------------------

    def give(self, frame: bytes, count: int) -> None:
        """Send a frame with so many messages, or count them if the viewer is behind."""
        if self._is_behind():
            self.skipped += count
        else:
            self.tell(frame)

    def miss(self, count: int) -> None:
        """Count messages that it cannot get, and say so at once unless it is behind."""
        self.skipped += count
        if not self._is_behind():
            self.tell(skipped_frame(self.skipped))
            self.skipped = 0

    @property
    def unread(self) -> int:
        """Bytes that wait for it to read."""
        return self._wire.buffered

    def close(self, why: str) -> None:
        """Close in good order."""
        self._wire.close(NORMAL, why)

    def tell(self, frame: bytes) -> None:
        """Send a frame."""
        self._wire.write(joined([frame], is_text=True))

    def show_progress(self, position: int) -> None:
        """Say that all messages up to a position that it wants have been given, if that has not been said lately.

        A viewer that comes back asks the log for what it has missed from there on, even if nothing that it wants
        has come for long.
        """
        now = monotonic()
        if now - self._progress_at < PROGRESS or position == self._progress or self.channels is _NOTHING:
            return
        if self._is_behind():
            return
        self._progress, self._progress_at = position, now
        self.tell(position_frame(position))

    def look(self) -> None:
        """Say what was skipped once the viewer has caught up; close one that has been behind for too long."""
        if self._is_behind() and monotonic() - self._behind_since > SLOW:
            self._wire.close(POLICY, f"it has been behind for {SLOW:g} s")

    def stop(self) -> None:
        """Cancel what is under way."""
        if self._handling is not None:
            self._handling.cancel()
        for task in self._under_way:
            task.cancel()

    def _is_behind(self) -> bool:
        waiting = self._wire.buffered
        if not self._behind_since:
            if waiting <= MAX_BEHIND:
                return False
            self._behind_since = monotonic()
        elif waiting <= CAUGHT_UP:
            self._behind_since = 0.0
            if self.skipped:
                self.tell(skipped_frame(self.skipped))
                self.skipped = 0
            return False
        return True

    # ---- from the viewer to the host -------------------------------------------------------------------

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) > MAX_WAITING or self._waiting_bytes > MAX_WAITING_BYTES

    async def _handle_all(self) -> None:
        began = monotonic()
        try:
            while self._waiting:
                frame = self._waiting.popleft()
                self._waiting_bytes -= len(frame)
                await self._handle(frame)
                if not self._is_full:
                    self._wire.resume_reading()
                if monotonic() - began > STEP:
                    began = await self._turns.pause(began)
        finally:
            self._handling = None
            self._turns.spend(began)

    async def _handle(self, text: bytes) -> None:
        """Handle a frame as far as its order counts; the rest of a send or call is done beside the next frames."""
        while len(self._under_way) >= MAX_UNDER_WAY or self._wire.buffered > MAX_BEHIND:
            await self._has_room()
        ref: Ref = None
        try:
            value = await self._routes.long.read(text)
            ref = ref_of(value)
            frame = read_frame(value)
        except PeerError as error:
            self.tell(error_frame(error.code, str(error), ref))
            return
        if isinstance(frame, WantFrame):
            self.channels = frame.channels
            await self._answer(frame.ref, self._wanted())
        elif isinstance(frame, SendFrame):
            self._begin(frame.ref, self._send(frame))
        else:
            self._begin(frame.ref, self._call(frame))

    async def _has_room(self) -> None:
        """Wait until something has ended, or some time has passed in which the viewer may have read."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(LOOK)

    def _begin(self, ref: Ref, work: Awaitable[Any]) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(ref, work))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _answer(self, ref: Ref, work: Awaitable[Any]) -> None:
        try:
            result = await self._routes.long.write(await work)
        except UsageError as error:
            self.tell(error_frame(PeerError.code, str(error), ref))
        except Exception as error:
            self.tell(error_frame(*fault_of(error, "a frame of a viewer"), ref))
        else:
            if ref is not None:
                self.tell(result_frame(result, ref))

    async def _wanted(self) -> dict[str, Any]:
        return {"position": self._position()}

    async def _send(self, frame: SendFrame) -> dict[str, Any]:
        """Send messages; behind long ones, which may wait for their turn, until these are sent."""
        if not self._in_order and sum(len(one.packed) for one in frame.messages) <= LONG:
            return {"position": await self._messages.send(frame.messages, self.caller)}
        self._in_order += 1
        try:
            async with self._order:
                return {"position": await self._messages.send(frame.messages, self.caller)}
        finally:
            self._in_order -= 1

    async def _call(self, frame: CallFrame) -> Any:
        return await self._routes.call_method(frame.method, frame.data, frame.host, self.caller)
