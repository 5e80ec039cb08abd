"""Dead letters of a satellite: written to disk beside the event loop; listed, dropped or repeated on request."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import apsw

from co2.errors import BadParams, Denied, StorageFailed, ValueRefused
from co2.protocol.wire.plugin_frames.frames import DeadLetter
from co2.server.rpc.arguments import integer, one_dict, text
from co2.store.dead_letters import DeadLetterStore, StoredLetter
from co2.values import Message
from co2.web.text import brief
from co2.xmlrpc.forms import plain_form
from co2.xmlrpc.registry import Caller, Registry

__all__ = ["MAX_ANSWER", "MAX_WAITING", "MAX_WAITING_BYTES", "DeadLetters", "message_of"]

MAX_WAITING = 2_000
MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Dead letters that wait for the disk, and the bytes of their messages; further ones are lost and counted."""

MAX_ANSWER = 256 * 1024
"""Bytes of messages in one answer; at least one message is returned."""

MAX_LETTERS = 1_000
"""Dead letters in one answer."""

RETRY = 1.0
"""Seconds between two attempts on a disk that is full or fails."""

TELL_INTERVAL = 10.0
"""Seconds between two log lines about lost letters."""

CLOSE_TIMEOUT = 1.0
"""Seconds within which waiting letters are written when the satellite stops."""

P = ParamSpec("P")
T = TypeVar("T")

_HIGHEST = 2**63 - 1

_logger = logging.getLogger("co2.satellite")

Repeat = Callable[[str, DeadLetter], Awaitable[None]]


class DeadLetters:
    """The messages that plugins did not accept. Used in the event loop.

    Args:
        path: of the file.
        repeat: gives (package, letter) to its plugin once more, and returns when the plugin has accepted it.

    Attributes:
        lost: letters that found no room while they waited for the disk.
    """

    def __init__(self, path: Path, repeat: Repeat) -> None:
        self.lost = 0
        self._store = DeadLetterStore(path)
        self._repeat = repeat
        self._waiting: deque[StoredLetter] = deque()
        self._waiting_bytes = 0
        self._failing = ""
        self._told = 0
        self._told_at = 0.0
        self._wakeup = asyncio.Event()
        self._closing = False
        self._writer: asyncio.Task[None] | None = None
        self._repeating: set[int] = set()

    @property
    def kept(self) -> int:
        """Letters that can be listed."""
        return self._store.kept

    @property
    def problem(self) -> str:
        """Why dead letters do not get to disk, '' if they do."""
        if not self._failing:
            return ""
        return (
            f"{len(self._waiting)} dead letters wait in memory, because the disk does not accept them: "
            f"{self._failing}"
        )

    @property
    def gone(self) -> int:
        """Letters that can no longer be listed: the oldest, when there were too many, and the lost ones."""
        return self._store.gone + self.lost

    async def start(self) -> None:
        """Open the file of earlier runs, and start writing."""
        try:
            await asyncio.to_thread(self._store.open)
        except (apsw.Error, OSError) as error:
            _logger.error("earlier dead letters cannot be read: %s", error)
        self._writer = asyncio.create_task(self._write_all())

    async def close(self) -> None:
        """Write the rest, and end."""
        self._closing = True
        self._wakeup.set()
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=CLOSE_TIMEOUT)
            self._writer.cancel()
        if self._waiting:
            _logger.error("%d dead letters could not be written, and are lost", len(self._waiting))
        self._tell_gone(at_last=True)
        await asyncio.to_thread(self._store.close)

    def take(self, package: str, letter: DeadLetter) -> None:
        """Queue a letter for writing."""
        size = len(letter.message)
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            self.lost += 1
            self._tell_gone()
            return
        self._waiting_bytes += size
        self._waiting.append(
            StoredLetter(
                time.time(),
                package,
                letter.plugin,
                letter.host_id,
                letter.client_address,
                letter.reason,
                letter.message,
            )
        )
        self._wakeup.set()

    async def last(self, package: str, max_letters: int) -> list[StoredLetter]:
        """Return the newest letters of a package, newest first; none if the disk fails."""
        try:
            return await asyncio.to_thread(self._store.last, max_letters, package)
        except (apsw.Error, OSError) as error:
            _logger.error("dead letters cannot be read: %s", error)
            return []

    async def read(self, after: int, max_letters: int, max_bytes: int, package: str | None) -> list[StoredLetter]:
        """Return letters, oldest first, see :meth:`DeadLetterStore.read`.

        Raises:
            StorageFailed: the disk failed.
        """
        return await self._on_disk(self._store.read, after, max_letters, max_bytes, package)

    async def drop(self, up_to: int, package: str | None) -> int:
        """Delete all letters up to an id, or only those of a package; return how many.

        Raises:
            StorageFailed: the disk failed.
        """
        return await self._on_disk(self._store.drop, up_to, package)

    async def repeat(self, letter_id: int) -> None:
        """Pass a letter to its plugin once more, and delete it when the plugin has accepted it.

        Raises:
            BadParams: there is no such letter, or it is being repeated.
            PeerError: the plugin did not accept it, or does not run.
        """
        if letter_id in self._repeating:
            raise BadParams(f"dead letter {letter_id} is already being repeated")
        self._repeating.add(letter_id)
        try:
            found = await self._on_disk(self._store.find, letter_id)
            if found is None:
                raise BadParams(
                    f"no dead letter has the id {letter_id}; co2 dead-letters, "
                    "or co2.plugin.get_dead_letters, lists them"
                )
            await self._repeat(
                found.package,
                DeadLetter(found.plugin, found.host_id, found.client_address, found.reason, found.message),
            )
            await self._on_disk(self._store.remove, letter_id)
        finally:
            self._repeating.discard(letter_id)

    def add_methods(self, registry: Registry) -> None:
        """Add ``co2.plugin.…_dead_letter…`` to the registry."""
        for handler, signatures in (
            (self.get_dead_letters, [["array"], ["array", "struct"]]),
            (self.drop_dead_letters, [["int", "struct"]]),
            (self.repeat_dead_letter, [["boolean", "struct"]]),
        ):
            name = f"co2.plugin.{handler.__name__}"
            registry.add(name, handler, help=handler.__doc__ or "", signatures=signatures)

    # ---- methods; their docstrings are what callers read -------------------------------------------------

    async def get_dead_letters(self, params: Sequence[Any], caller: Caller) -> list[dict[str, Any]]:
        """List messages that plugins did not take, oldest first.

        Takes {package, after, max}, all of them optional: only those of this plugin package, only those with a
        higher id than ``after``, at most ``max`` (100; 1,000). An answer holds 256 KiB of messages: call again
        with the last id as ``after`` until it is empty. Returns a list of {id, at, package, plugin, host_id,
        reason, message}.
        """
        argument = one_dict(params) if params else {}
        after = integer(argument, "after", 0, 0, _HIGHEST)
        maximum = integer(argument, "max", 100, 1, MAX_LETTERS)
        return await self._on_disk(self._shown, after, maximum, _package(argument), caller.is_local)

    async def drop_dead_letters(self, params: Sequence[Any], caller: Caller) -> int:
        """Delete all dead letters up to an id. Only from the satellite's own machine.

        Takes {up_to, package}; with ``package`` only those of this plugin package. Returns how many it deleted.
        """
        _only_from_here(caller)
        argument = one_dict(params)
        up_to = integer(argument, "up_to", -1, 0, _HIGHEST)
        return await self.drop(up_to, _package(argument))

    async def repeat_dead_letter(self, params: Sequence[Any], caller: Caller) -> bool:
        """Pass a dead letter to its plugin once more, marked ``repeat``. Only from the satellite's own machine.

        Takes {id}. Returns true when ``receive`` has returned; only then the letter is deleted. If it raises
        again, or the plugin does not run, the answer is a Fault and the letter stays.
        """
        _only_from_here(caller)
        await self.repeat(integer(one_dict(params), "id", -1, 0, _HIGHEST))
        return True

    # ---- reading ---------------------------------------------------------------------------------------

    @staticmethod
    async def _on_disk(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(work, *args, **kwargs)
        except (apsw.Error, OSError) as error:
            raise StorageFailed(f"the disk of the dead letters failed: {error}") from None

    def _shown(self, after: int, max_letters: int, package: str | None, here: bool) -> list[dict[str, Any]]:
        return [
            {
                "id": letter.id,
                "at": datetime.fromtimestamp(letter.at, UTC),
                "package": letter.package,
                "plugin": letter.plugin,
                "host_id": letter.host_id,
                "reason": letter.reason if here else brief(letter.reason),
                "message": message_of(letter),
            }
            for letter in self._store.read(after, max_letters, MAX_ANSWER, package)
        ]

    # ---- writing ---------------------------------------------------------------------------------------

    async def _write_all(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wakeup.clear()
                await self._wakeup.wait()
                continue
            letters = list(self._waiting)
            try:
                await asyncio.to_thread(self._store.add, letters)
            except (apsw.Error, OSError) as error:
                self._tell_failing(str(error))
                if self._closing:
                    return
                await asyncio.sleep(RETRY)
                continue
            except Exception:
                _logger.exception("%d dead letters cannot be written, and are lost", len(letters))
                self.lost += len(letters)
            for letter in letters:
                self._waiting.popleft()
                self._waiting_bytes -= len(letter.message)
            if self._failing:
                self._failing = ""
                _logger.warning("dead letters are written to disk again")
            self._tell_gone()

    def _tell_failing(self, why: str) -> None:
        if why != self._failing:
            self._failing = why
            _logger.error("dead letters cannot be written to disk and wait in memory: %s", why)

    def _tell_gone(self, at_last: bool = False) -> None:
        """Log, not too often, how many letters can no longer be listed."""
        now = time.monotonic()
        if self.gone != self._told and (at_last or not self._told or now - self._told_at >= TELL_INTERVAL):
            _logger.warning(
                "%d dead letters were dropped: too many in a short time, or replaced by newer ones",
                self.gone - self._told,
            )
            self._told, self._told_at = self.gone, now


def _package(argument: Message) -> str | None:
    return text(argument, "package") if "package" in argument else None


def _only_from_here(caller: Caller) -> None:
    if not caller.is_local:
        raise Denied("allowed only from the satellite's own machine: call 127.0.0.1, not through a relay")


def message_of(letter: StoredLetter) -> Message | bytes:
    """Return the message as a foreign receiver would have received it; its bytes if it cannot be decoded."""
    try:
        message = plain_form(letter.message)
    except ValueRefused:
        return letter.message
    return {**message, "host_id": letter.host_id, "client_address": list(letter.client_address)}
