"""All viewers at ``/live``: each message is written as JSON once, for all who want it and have room for it.

Stored messages are read from the memory of the log, live ones are taken as they pass. Who does not read in time
misses messages, and gets their number: a viewer is never a reason to keep anything.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from co2.errors import BadRequest, ValueRefused
from co2.protocol.relay.log import Entry
from co2.protocol.wire.batch import DROPPED, split_batch
from co2.relay.durable_log import DurableLog
from co2.relay.live_viewer import LOOK, Viewer
from co2.relay.log_lines import channel_of_packed, gap_text, message_text
from co2.relay.message_methods import MessageMethods
from co2.relay.message_reader import DEAR, LogMessage, MessageReader, unreadable
from co2.server.door.common import CommonRoutes
from co2.server.door.live_frames import SUBPROTOCOL, hello_frame, messages_frame
from co2.server.http.limits import Limits
from co2.server.http.refused import Refused
from co2.server.http.websocket_upgrade import WebSocketEndpoint
from co2.server.link.websocket_transport import WebSocketTransport
from co2.server.rpc.answer_turns import STEP, AnswerTurns
from co2.sources import LOOPBACK, BySource, source_of
from co2.tasks import TaskSet
from co2.xmlrpc.registry import Caller

__all__ = ["LIVE_PATH", "MAX_VIEWERS", "MAX_VIEWERS_OF_ADDRESS", "LiveViewers"]

LIVE_PATH = "/live"

MAX_VIEWERS = 32
"""Viewers at once; for more, 503."""

MAX_VIEWERS_OF_ADDRESS = 16
"""The same for one address; this machine's loopback interface may have all."""

MAX_LIVE_BYTES = 4 * 1024 * 1024
MAX_LIVE_ENTRIES = 4_096
"""Live messages that wait to be written for viewers, in bytes and frames; of more, the oldest are skipped."""

FRAME = 64 * 1024
"""Bytes of messages after which a frame is sent."""

MAX_LONG = 16 * 1024 * 1024
"""Bytes that all viewers together have not read, above which none gets a message longer than :data:`FRAME`."""

READ = 256 * 1024
"""Bytes that are read from the log's memory at once."""

_logger = logging.getLogger("co2.relay")


class LiveViewers:
    """The viewers of a relay.

    Args:
        log: of all messages.
        reader: writes them.
        turns: of the event loop.
        routes: call methods for viewers.
        messages: takes what viewers send.
        about: returns what each viewer gets first.
        listen: called with a function that takes live messages while there are viewers, else with None.
        on_news: called with a function to call after each commit while there are viewers, else with None.
    """

    def __init__(
        self,
        log: DurableLog,
        reader: MessageReader,
        turns: AnswerTurns,
        *,
        routes: CommonRoutes,
        messages: MessageMethods,
        about: Callable[[], Mapping[str, Any]],
        listen: Callable[[Callable[[Entry], None] | None], None],
        on_news: Callable[[Callable[[], None] | None], None],
    ) -> None:
        self._log = log
        self._reader = reader
        self._turns = turns
        self._routes = routes
        self._messages = messages
        self._about = about
        self._listen = listen
        self._on_news = on_news
        self._viewers: BySource[Viewer] = BySource()
        self._frames: dict[Viewer, _Frame] = {}
        self._live: deque[Entry] = deque()
        self._live_bytes = 0
        self._live_number = 0
        self._cursor = 0
        self._news = asyncio.Event()
        self._tasks = TaskSet(_logger, "the task that sends messages to viewers")
        self._is_sending = False

    def __len__(self) -> int:
        return len(self._viewers)

    def endpoint(self) -> WebSocketEndpoint:
        """Return the endpoint at which viewers come."""
        return WebSocketEndpoint(
            path=LIVE_PATH,
            subprotocol=SUBPROTOCOL,
            max_frame=Limits().max_body,
            handler=self._open,
            is_text=True,
            check_room=self._check_room,
        )

    async def stop(self) -> None:
        """Close all viewers."""
        for viewer in self._viewers:
            viewer.close("the relay is stopping")
        await self._tasks.stop()

    def _check_room(self, caller: Caller) -> None:
        source = source_of(caller.address)
        share = MAX_VIEWERS if source == LOOPBACK else MAX_VIEWERS_OF_ADDRESS
        if len(self._viewers) >= MAX_VIEWERS or self._viewers.count(source) >= share:
            raise Refused(503, f"{len(self._viewers)} viewers are here already; close one, or try again later")

    def _open(self, wire: WebSocketTransport, caller: Caller) -> Viewer:
        viewer = Viewer(
            wire,
            caller,
            routes=self._routes,
            messages=self._messages,
            turns=self._turns,
            position=lambda: self._log.committed,
            ended=self._viewers.discard,
        )
        self._viewers.add(source_of(caller.address), viewer)
        # When the handshake is written, and before anything that the viewer asks for.
        asyncio.get_running_loop().call_soon(viewer.tell, hello_frame(self._about()))
        if not self._is_sending:
            self._is_sending = True
            self._tasks.start(self._send())
        return viewer

    async def _send(self) -> None:
        """Send messages to viewers until there are none."""
        self._cursor = self._log.committed
        self._listen(self._take_live)
        self._on_news(self._news.set)
        try:
            while self._viewers:
                self._news.clear()
                await self._send_stored()
                await self._send_live()
                await self._flush()
                for viewer in self._viewers:
                    viewer.show_progress(self._cursor)
                    viewer.look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        await self._news.wait()
        finally:
            self._is_sending = False
            self._listen(None)
            self._on_news(None)
            self._live.clear()
            self._live_bytes = 0

    def _take_live(self, entry: Entry) -> None:
        self._live.append(entry)
        self._live_bytes += len(entry.batch)
        while self._live_bytes > MAX_LIVE_BYTES or len(self._live) > MAX_LIVE_ENTRIES:
            oldest = self._live.popleft()
            self._live_bytes -= len(oldest.batch)
            for viewer in self._wanting(oldest):
                viewer.miss(oldest.count)
        self._news.set()

    def _wanting(self, entry: Entry) -> list[Viewer]:
        return [viewer for viewer in self._viewers if viewer.channels.wants(entry.channels)]

    async def _send_stored(self) -> None:
        began = monotonic()
        while self._cursor < (until := self._log.committed):
            reading = self._log.read(self._cursor, READ)
            if reading.on_disk:
                for viewer in self._viewers:
                    viewer.miss(until - self._cursor)
                self._cursor = until
                return
            for entry in reading.entries:
                if entry.position > until:
                    break
                if wanting := self._wanting(entry):
                    began = await self._send_entry(entry, wanting, began)
                self._cursor = entry.end
                if monotonic() - began > STEP:
                    began = await self._turns.pause(began)
            if not reading.entries:
                self._cursor = until  # nothing is there
        self._turns.spend(began)

    async def _send_entry(self, entry: Entry, wanting: list[Viewer], began: float) -> float:
        try:
            messages = self._reader.messages_of(entry, self._cursor)
        except BadRequest:
            gap = gap_text(unreadable(entry.position - 1, entry.end))
            for viewer in wanting:
                self._end_frame(viewer)
                viewer.give(gap, entry.count)
            return began
        return await self._send_messages(entry, messages, wanting, began)

    async def _send_live(self) -> None:
        began = monotonic()
        while self._live:
            entry = self._live.popleft()
            self._live_bytes -= len(entry.batch)
            wanting = self._wanting(entry)
            if not wanting:
                continue
            first = self._live_number
            self._live_number += entry.count
            try:
                parts = split_batch(entry.batch, patient=False)
            except BadRequest:
                for viewer in wanting:
                    viewer.miss(entry.count)
                continue
            messages = [
                LogMessage(-1 - number, entry.host_id, entry.client_address, packed, entry.plugin, entry.at)
                for number, packed in enumerate(parts, first)
                if packed != DROPPED
            ]
            began = await self._send_messages(entry, messages, wanting, began)
        self._turns.spend(began)

    async def _send_messages(
        self, entry: Entry, messages: list[LogMessage], wanting: list[Viewer], began: float
    ) -> float:
        """Pass the messages of an entry to viewers; return when the part of the turn that is under way began."""
        is_one = entry.channels is not None and len(entry.channels) == 1
        for message in messages:
            viewers = wanting
            if not is_one:
                channel = channel_of_packed(message.packed)
                viewers = [
                    one for one in wanting if one.channels.patterns is None or one.channels.wants_one(channel)
                ]
            if viewers:
                try:
                    is_dear = len(message.packed) > DEAR
                    text = await self._reader.written(message, message_text) if is_dear else message_text(message)
                except ValueRefused:
                    for viewer in viewers:
                        self._end_frame(viewer)
                        viewer.miss(1)
                    continue
                if len(text) > FRAME:
                    began = await self._send_long(text, viewers, began)
                    continue
                for viewer in viewers:
                    self._add(viewer, text)
                    if monotonic() - began > STEP:
                        began = await self._turns.pause(began)
            if monotonic() - began > STEP:
                began = await self._turns.pause(began)
        return began

    async def _send_long(self, text: bytes, viewers: list[Viewer], began: float) -> float:
        """Pass a long message to viewers, one after the other, as far as there is room for it."""
        frame = messages_frame([text])
        for viewer in viewers:
            self._end_frame(viewer)
            if viewer in self._viewers:
                if sum(one.unread for one in self._viewers) + len(frame) > MAX_LONG:
                    viewer.miss(1)
                else:
                    viewer.give(frame, 1)
            if monotonic() - began > STEP:
                began = await self._turns.pause(began)
        return began

    def _add(self, viewer: Viewer, text: bytes) -> None:
        frame = self._frames.get(viewer)
        if frame is None:
            frame = self._frames[viewer] = _Frame()
        frame.texts.append(text)
        frame.size += len(text)
        if frame.size >= FRAME:
            self._end_frame(viewer)

    async def _flush(self) -> None:
        began = monotonic()
        for viewer in [*self._frames]:
            self._end_frame(viewer)
            if monotonic() - began > STEP:
                began = await self._turns.pause(began)
        self._turns.spend(began)

    def _end_frame(self, viewer: Viewer) -> None:
        frame = self._frames.pop(viewer, None)
        if frame is not None and viewer in self._viewers:
            viewer.give(messages_frame(frame.texts), len(frame.texts))


class _Frame:
    """The messages for one viewer that are not sent yet.

    Attributes:
        texts: as JSON.
        size: their bytes.
    """

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.size = 0
