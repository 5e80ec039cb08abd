"""Results of calls over a link: a long value is decoded, and encoded as XML, in a thread.

Answers of any host come through here. A value of one byte becomes 20 in XML: in the event loop a long answer
would delay all others while it is encoded.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from co2.errors import AnswerTooBig
from co2.thread_priority import short_turns
from co2.values import MAX_MESSAGE_SIZE, unpack_value
from co2.xmlrpc.writer import WrittenValue, write_value

__all__ = ["LONG", "MAX_WAITING", "Results"]

LONG = 16 * 1024
"""Bytes of a result above which a thread processes it."""

MAX_WAITING = 32 * 1024 * 1024
"""Bytes of results that wait for the thread; more are refused."""


class Results:
    """Decodes results, long ones one after the other: several at once would only take turns."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._waiting = 0

    async def value_of(self, packed: bytes, whose: str, *, written: bool) -> Any:
        """Return the value of a result.

        Args:
            packed: as received.
            whose: name of the answering host, for texts.
            written: the value is for XML; a long one is returned as a :class:`~co2.xmlrpc.writer.WrittenValue`.

        Raises:
            AnswerTooBig: it is larger than the result of any host of ours, or too many results wait already.
            ValueRefused: it is not a value, or cannot be encoded.
        """
        size = len(packed)
        if size > MAX_MESSAGE_SIZE:
            raise AnswerTooBig(f"{whose} answered with {size} bytes; the limit is {MAX_MESSAGE_SIZE}")
        if size <= LONG:
            return unpack_value(packed)
        if self._waiting + size > MAX_WAITING:
            raise AnswerTooBig(
                f"{whose} answered with {size} bytes, but too many long answers are waiting; try again"
            )
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "co2-results")
        self._waiting += size
        try:
            read = _read_and_written if written else _read
            return await asyncio.get_running_loop().run_in_executor(self._pool, read, packed)
        finally:
            self._waiting -= size

    def close(self) -> None:
        """End the thread; results that wait for it are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _read(packed: bytes) -> Any:
    with short_turns():
        return unpack_value(packed)


def _read_and_written(packed: bytes) -> WrittenValue:
    with short_turns():
        value = unpack_value(packed)
        return WrittenValue(write_value(value), value)
