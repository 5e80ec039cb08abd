"""The links of a relay: WebSockets on one side, the state machine on the other, the log beneath.

One task per link reads; nobody waits for anybody when writing: what a link's transport does not take stays in the
log, behind that link's cursor.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any, Protocol

from co2.errors import BadParams, CallTimeout, PeerError, RemoteFault, TooBig, Unreachable, ValueRefused
from co2.protocol import goodbyes
from co2.protocol.link_frames import Call, Result
from co2.protocol.log import Log, Reading
from co2.protocol.relay import CallReceived, DiskWanted, IdReused, Joined, Left, RelayCore, ResultReceived
from co2.protocol.streams import CHUNK, Peer, Stream
from co2.server.link_door import LinkConnection, joined
from co2.values import pack_value, unpack_value

__all__ = ["CLOSE_TIMEOUT", "MAX_BACKLOG", "MAX_CALLS", "DurableLog", "Links", "Owner"]

CLOSE_TIMEOUT = 0.5
"""Seconds in which links close when the relay stops."""

MAX_BACKLOG = 16 * 1024 * 1024
"""Bytes waiting for the disk above which links are not read."""

MAX_CALLS = 1000
"""Calls to satellites that may be under way; one more is refused."""

_logger = logging.getLogger("co2.relay")


class DurableLog(Log, Protocol):
    """A log that has a disk."""

    @property
    def backlog(self) -> int:
        """Bytes that wait for the disk."""

    def read_disk(self, after: int, max_bytes: int) -> Reading:
        """Read on from a cursor; takes its time."""


class Owner(Protocol):
    """Who is told about links."""

    def joined(self, peer: Peer) -> None:
        """A satellite has come, or tells other methods."""

    def left(self, peer: Peer, reason: str, text: str) -> None:
        """A link has ended."""

    async def called(self, peer: Peer, method: str, argument: Any) -> Any:
        """A satellite calls a method of the relay's."""


class Links:
    """All links.

    Args:
        log: the relay's.
        host_id: the relay's own.
        owner: is told what happens.
        max_links: gives how many there may be now.
        now: monotonic seconds.
    """

    def __init__(
        self,
        log: DurableLog,
        host_id: str,
        owner: Owner,
        *,
        max_links: Callable[[], int],
        now: Callable[[], float],
    ) -> None:
        self.core = RelayCore(log, host_id, max_peers=max_links, now=now)
        self.reused_numbers = 0
        self._log = log
        self._owner = owner
        self._connections: dict[Peer, LinkConnection] = {}
        self._calls: dict[tuple[Peer, int], asyncio.Future[Result]] = {}
        self._numbers = itertools.count(1)
        self._commits = asyncio.Event()
        self._stopping = False
        self._tasks: set[asyncio.Task[Any]] = set()

    async def carry(self, connection: LinkConnection) -> None:
        """Carry one link from its beginning to its end: the handler of ``/link``."""
        core = self.core
        peer = core.opened(connection.address)
        self._connections[peer] = connection
        connection.watch(lambda: core.pause(peer), lambda: self._resume(peer))
        why = "the connection was closed"
        try:
            while peer.state != "closed":
                if self._log.backlog > MAX_BACKLOG:
                    await self._disk_keeps_up()
                frames = await connection.receive()
                if not frames:
                    break
                core.receive(peer, *frames)
                self.flush()
        except Exception as error:
            _logger.exception("the link of %s failed", peer.host_id if peer.origin else connection.address[0])
            why = f"an error of ours: {type(error).__name__}"
        finally:
            core.lost(peer, why)
            self.flush()
            del self._connections[peer]

    def committed(self, position: int) -> None:
        """Everything up to this position is on disk."""
        self.core.committed(position)
        self._commits.set()
        self.flush()

    def flush(self) -> None:
        """Act on what has happened, and write what is out."""
        core = self.core
        while core.events or core.ready:
            while core.events:
                self._take(core.events.popleft())
            ready, core.ready = core.ready, {}
            last: list[bytes] = []
            messages: list[bytes] = []
            for peer in ready:
                connection = self._connections.get(peer)
                frames = core.taken(peer)
                if connection is None:
                    continue
                if frames != last:  # what all get is the same objects, so this is quick, and they are joined once
                    last, messages = frames, joined(frames)
                connection.write(messages)

    async def call(self, peer: Peer, method: str, argument: Any, timeout: float) -> Any:
        """Call a method of a satellite.

        Raises:
            BadParams: the argument cannot travel.
            RemoteFault: it answered with a Fault.
            Unreachable: its link has ended, or too many calls are under way.
            CallTimeout: no answer in time.
        """
        if len(self._calls) >= MAX_CALLS or peer.state != "open":
            raise Unreachable(
                f"{peer.host_id}: {'too many calls' if peer.state == 'open' else 'its link has ended'}"
            )
        try:
            packed = pack_value(argument)
        except (ValueRefused, TooBig) as error:
            raise BadParams(str(error)) from None
        key = (peer, next(self._numbers))
        answer = self._calls[key] = asyncio.get_running_loop().create_future()
        self.core.call(peer, Call(key[1], method, packed, timeout))
        self.flush()
        try:
            async with asyncio.timeout(timeout):
                result = await answer
        except TimeoutError:
            raise CallTimeout(f"{method} on {peer.host_id}", timeout) from None
        finally:
            del self._calls[key]
        if result.code:
            raise RemoteFault(result.code, result.error)
        return unpack_value(result.value)

    async def stop(self) -> None:
        """Say goodbye to everybody."""
        self._stopping = True
        for peer in list(self._connections):
            self.core.end(peer, goodbyes.STOPPING, "the relay stops")
        connections = list(self._connections.values())
        self.flush()
        closing = [asyncio.ensure_future(connection.close()) for connection in connections]
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_TIMEOUT)
        for connection in connections:
            connection.abort()
        for task in [*closing, *self._tasks]:
            task.cancel()
        await asyncio.gather(*closing, *self._tasks, return_exceptions=True)

    async def _disk_keeps_up(self) -> None:
        """Read no more from a link while too much waits for the disk: its sender then waits, and knows it."""
        while self._log.backlog > MAX_BACKLOG:
            self._commits.clear()
            await self._commits.wait()

    def _resume(self, peer: Peer) -> None:
        self.core.resume(peer)
        self.flush()

    def _take(self, event: Any) -> None:
        match event:
            case DiskWanted(stream):
                self._spawn(self._read_disk(stream))
            case CallReceived(peer, call):
                self._spawn(self._answer(peer, call))
            case ResultReceived(peer, result):
                answer = self._calls.get((peer, result.call_id))
                if answer is not None and not answer.done():
                    answer.set_result(result)
            case Joined(peer):
                self._owner.joined(peer)
            case Left(peer, reason, text):
                self._left(peer, reason, text)
            case IdReused(peer, epoch, seq):
                self.reused_numbers += 1
                _logger.error(
                    "E_ID_REUSE: %s used number %d of run %d for two messages: a restored or copied state folder; "
                    "the second was not passed on",
                    peer.host_id, seq, epoch,
                )  # fmt: skip

    def _left(self, peer: Peer, reason: str, text: str) -> None:
        for (whose, _), answer in list(self._calls.items()):
            if whose is peer and not answer.done():
                answer.set_result(Result(0, b"", Unreachable.code, f"{peer.host_id}: its link has ended"))
        connection = self._connections.get(peer)
        if connection is not None and not self._stopping:
            self._spawn(connection.close())
        self._owner.left(peer, reason, text)

    async def _read_disk(self, stream: Stream) -> None:
        reading = await asyncio.to_thread(self._log.read_disk, stream.position, CHUNK)
        self.core.disk_read(stream, reading)
        self.flush()

    async def _answer(self, peer: Peer, call: Call) -> None:
        try:
            async with asyncio.timeout(call.timeout):
                value = await self._owner.called(peer, call.method, unpack_value(call.argument))
            result = Result(call.call_id, pack_value(value))
        except TimeoutError:
            result = Result(call.call_id, b"", CallTimeout.code, f"{call.method}: no answer in time")
        except (ValueRefused, TooBig) as error:
            result = Result(call.call_id, b"", BadParams.code, str(error))
        except PeerError as error:
            result = Result(call.call_id, b"", error.code, str(error)[:4096])
        self.core.answer(peer, result)
        self.flush()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("a task of the relay ended", exc_info=error)
