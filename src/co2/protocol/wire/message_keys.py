"""The keys of encoded messages that hosts look at: channel, ttl and cause. Never on the way of a message.

Hosts move batches unread. Only whoever asks for last values makes its relay look into some of them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from co2.errors import BadRequest, ValueRefused
from co2.protocol.wire.batch import DROPPED, split_batch
from co2.values import channel_of, is_duration, unpack

__all__ = ["MessageKeys", "cause_of", "channels_in", "has_expired", "keys_of", "parts_of", "with_keys"]


class MessageKeys(msgspec.Struct):
    """Keys of a message; both may have any value, as its sender chose.

    Attributes:
        channel: text, '' for none.
        ttl: seconds for which the message is a last value, None for any time.
    """

    channel: Any = ""
    ttl: Any = None


_MAP16, _MAP32 = 0xDE, 0xDF

_encode = msgspec.msgpack.Encoder().encode
_one = msgspec.msgpack.Decoder(MessageKeys).decode
_all = msgspec.msgpack.Decoder(list[MessageKeys | None]).decode


def keys_of(packed: bytes) -> MessageKeys | None:
    """Return the keys of a message, None for one that was dropped or that no receiver could decode."""
    if packed == DROPPED:
        return None
    try:
        return _one(packed)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    try:  # as a receiver does, which is slower
        message = unpack(packed)
    except ValueRefused:
        return None
    return MessageKeys(channel_of(message), message.get("ttl"))


class _Cause(msgspec.Struct):
    cause: Any = None


_decode_cause = msgspec.msgpack.Decoder(_Cause).decode


def cause_of(packed: bytes) -> Any:
    """Return the cause of a message, as its sender chose it; None for none, or if it cannot be decoded."""
    try:
        return _decode_cause(packed).cause
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def channels_in(batch: bytes) -> tuple[str, ...]:
    """Return the channels of a batch's messages, each once, without ''."""
    keys: Iterable[MessageKeys | None]
    try:
        keys = _all(batch)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        keys = map(keys_of, parts_of(batch))
    return tuple(
        {one.channel: None for one in keys if one is not None and type(one.channel) is str and one.channel}
    )


def with_keys(packed: bytes, keys: Mapping[str, Any]) -> bytes:
    """Return a message with more keys, without decoding it.

    Keys of the same names, which its sender has set, no longer count. What is no dictionary stays as it is.
    """
    first = packed[0] if packed else 0xC0
    if first & 0xF0 == 0x80:
        count, begin = first & 0x0F, 1
    elif first == _MAP16:
        count, begin = int.from_bytes(packed[1:3], "big"), 3
    elif first == _MAP32:
        count, begin = int.from_bytes(packed[1:5], "big"), 5
    else:
        return packed
    more = b"".join(_encode(key) + _encode(value) for key, value in keys.items())
    count += len(keys)
    head = bytes((0x80 + count,)) if count < 16 else bytes((_MAP32,)) + count.to_bytes(4, "big")
    return head + packed[begin:] + more


def parts_of(batch: bytes) -> list[bytes]:
    """Return the encoded messages of a batch, none for one that is malformed."""
    try:
        return split_batch(batch)
    except BadRequest:
        return []


def has_expired(ttl: Any, age: float | None) -> bool:
    """Return whether a message is no last value any more: its ``ttl`` is over, or perhaps over.

    Args:
        ttl: of the message; one that is no number of seconds has no effect.
        age: in seconds, None if it is unknown.
    """
    return is_duration(ttl) and (age is None or age >= ttl)
