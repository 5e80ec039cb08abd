"""The two loops that every message passes: the quick path into a queue, and the calls of ``receive``.

Compiled (``_speedups.c``) if there was a C compiler when co2 was built or installed, else in Python: the effect is
the same, the speed at full load is not. This file has the Python, and the choice.
"""

import os
import select
import threading
from collections.abc import Callable, Mapping, Sized
from pathlib import Path
from typing import Any, Protocol

import msgspec

from co2.compiled import is_of

__all__ = ["COMPILED", "Level", "Sleeper", "give", "listen", "make_fast_send"]

Send = Callable[[Mapping[str, Any]], None]


class _Level:
    """A queue, as ``send`` sees it.

    Attributes:
        alert: entries that may wait before their sender has to write them.
        cause: position of the message that the plugin is in, 0 for none.
        run: the end of a run of the satellite, if ``cause`` is a number of that run instead; 0 if not.
        thread: the plugin's.
    """

    __slots__ = ("alert", "cause", "run", "thread")
    alert: int
    cause: int
    run: int
    thread: int

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "_Level":
        self = super().__new__(cls)
        self.cause = self.run = self.thread = 0
        return self


class _Sleeper:
    """A writer, as ``send`` sees it.

    Attributes:
        asleep: nobody writes now, and a sender must call ``attend()``.
    """

    __slots__ = ("asleep",)
    asleep: bool


class _QueueWriter(Protocol):
    asleep: bool

    def attend(self) -> None: ...


_encode = msgspec.msgpack.Encoder().encode


def _with_cause(queue: _Level, packed: bytes) -> bytes:
    """Return an encoded message with the key ``cause``, if the plugin is in a message."""
    first = packed[0] if packed else 0
    if queue.thread != threading.get_ident() or not 0x80 <= first < 0x8F:
        return packed
    cause = _encode([queue.run, queue.cause] if queue.run else queue.cause)
    return bytes((first + 1,)) + packed[1:] + b"\xa5cause" + cause


def _make_fast_send(  # noqa: PLR0917 - as the compiled one
    queue: _Level,
    entries: list[Any],
    writer: _QueueWriter,
    encode: Callable[[Any], bytes],
    place: Callable[[bytes, str | None], None],
    other: Send,
    small: int,
    short_channel: int,
) -> Send:
    """Return the function that sends messages of the two common forms: ``data`` alone, or with a ``channel``.

    Args:
        queue: the plugin's.
        entries: the queue's; small messages are appended to it while it has room, with the key ``cause`` if the
            plugin is in a message.
        writer: behind the queue.
        encode: returns the bytes of a message.
        place: takes an encoded message that was not appended, without cause, and its channel, None if it has none.
        other: takes messages of any other form, and those that cannot be encoded.
        small: bytes up to which a message is appended.
        short_channel: characters of a channel up to which a message is appended; -1 for no message with a channel.
    """
    append = entries.append

    def send(data_dict: Mapping[str, Any]) -> None:
        keys = len(data_dict) if type(data_dict) is dict and "data" in data_dict else 0
        channel: Any = None
        if keys != 1 and (keys != 2 or type(channel := data_dict.get("channel")) is not str):
            other(data_dict)
            return
        try:
            packed = encode(data_dict)
        except Exception:
            other(data_dict)
            return
        whole = _with_cause(queue, packed) if queue.cause else packed
        if len(whole) > small or len(entries) >= queue.alert:
            place(packed, channel)
            return
        if channel is None:
            append(whole)
        elif len(channel) <= short_channel:
            append((whole, channel, False))
        else:
            place(packed, channel)
            return
        if writer.asleep:
            writer.attend()

    return send


def _give(  # noqa: PLR0917 - named arguments cost as much as a message
    messages: list[Any],
    at: int,
    end: int,
    words: "memoryview[int]",
    index: int,
    first: int,
    jobs: Sized,
    wants: Callable[[Any], bool] | None,
    receive: Callable[[Any], Any],
    host_id: str,
    client_address: tuple[str, int],
    level: _Level | None = None,
    cause: int = 0,
    /,
) -> tuple[int, Any]:
    """Pass messages to a plugin until there is other work.

    Args:
        messages: decoded; None for one that was dropped on its way and keeps its place. Messages that were given
            may be removed, so that their memory is freed while it is still in the processor's cache.
        at, end: index of the first one to give, and of the first one after them.
        words: progress words.
        index: of the word with the message that the plugin is in; it keeps that message if this raises.
        first: value of the word for the message at index 0; two more for each after it.
        jobs: calls that go before the next message; checked between two messages.
        wants: returns whether a message is wanted, None for all of them.
        receive: the plugin's.
        host_id, client_address: put into each message.
        level: of the plugin's queue, None for none: its ``cause`` says which message the plugin is in. After a
            result it still says so, since the result may have to be awaited.
        cause: of the message at index 0, one more for each after it; 0 if they have none.

    Returns:
        The number of messages passed, and the result of ``receive`` for the last of them, None for none. If not
        all are passed and there is no result, jobs wait.

    Raises:
        An exception of ``receive`` or ``wants``, or of setting a key in a message.
    """
    word = first + 2 * at
    result: Any = None
    try:
        for passed in range(at, end):
            if jobs:
                return passed, None
            message = messages[passed]
            words[index] = word  # inside this one, done with all before it
            word += 2
            if message is None or (wants is not None and type(message) is dict and not wants(message)):
                continue
            if level is not None and cause:
                level.cause = cause + passed
            message["host_id"] = host_id
            message["client_address"] = client_address
            result = receive(message)
            if result is not None:
                return passed + 1, result
        return end, None
    finally:
        if level is not None and result is None:
            level.cause = 0


class _Poll(threading.local):
    """The poll object of each thread."""

    def __init__(self) -> None:
        self.ends = (-1, -1)
        self.poll = select.poll()


_own = _Poll()


def _listen(data: int, wakeup: int, buffer: memoryview, /) -> int:
    """Wait for bytes, or for a wakeup, and read them.

    Args:
        data: descriptor to read.
        wakeup: descriptor that is only polled.
        buffer: takes the bytes.

    Returns:
        The number of bytes; 0 for the end of the stream, -1 for none.
    """
    if _own.ends != (data, wakeup):
        _own.ends, _own.poll = (data, wakeup), select.poll()
        _own.poll.register(data, select.POLLIN)
        _own.poll.register(wakeup, select.POLLIN)
    if all(end != data for end, _ in _own.poll.poll()):
        return -1
    try:
        return os.readv(data, [buffer])
    except BlockingIOError:
        return -1


try:
    from co2.plugin.child._speedups import SOURCE, Level, Sleeper, give, listen
    from co2.plugin.child._speedups import Send as make_fast_send

    COMPILED = is_of(SOURCE, Path(__file__).with_name("_speedups.c"))
except ImportError:
    COMPILED = False
if not COMPILED:
    Level, Sleeper, make_fast_send = _Level, _Sleeper, _make_fast_send  # type: ignore[misc,assignment]
    give, listen = _give, _listen
