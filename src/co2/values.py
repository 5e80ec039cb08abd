"""The values that ``data`` may hold, and their form at the edges of co2.

Inside co2 a message is a dictionary in MessagePack, encoded once by its sender and decoded once by each receiver.
:func:`pack` accepts what ``msgspec.msgpack`` encodes and refuses the rest with :class:`~co2.errors.ValueRefused`;
receivers get the decoded form (tuples and sets as lists, Decimal, UUID and naive datetimes as strings, dataclasses
as dictionaries, …). The edges are total: every decoded form can be written as JSON (:func:`to_jsonable`) and as
XML (``xmlrpc/writer.py``).
"""

import base64
import math
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from co2.errors import MessageError, TooBig, ValueRefused

__all__ = [
    "MAX_MESSAGE_SIZE",
    "MAX_RUN",
    "RECURSION_LIMIT",
    "Message",
    "channel_of",
    "is_cause",
    "is_duration",
    "key_text",
    "pack",
    "pack_value",
    "to_jsonable",
    "unpack",
    "unpack_batch",
    "unpack_value",
    "unused_key",
]

Message = dict[str, Any]

MAX_MESSAGE_SIZE = 720 * 1024
"""Bytes of one encoded message. In base64, with its envelope, it stays below the XML gate's 1 MiB."""

RECURSION_LIMIT = 4000
"""Python recursion limit of the hosts. A sender encodes under the default of 1,000, so a host can always read and
write what a sender could nest.

Since Python 3.12 it limits Python code only. C code, and so encoder and decoder, has a fixed limit: 1,500 in 3.12,
10,000 in 3.13. A message that is nested deeper than a receiver can read is an error at the receiver."""

MAX_RUN = 2**31 - 1
"""The largest number for a run of a satellite in a cause: the last 31 bits of the run, for clients of any kind."""

_SET_BY_HOST = ("host_id", "client_address")

_encoder = msgspec.msgpack.Encoder()
_decode_message = msgspec.msgpack.Decoder(dict[str, Any]).decode
_decode_batch = msgspec.msgpack.Decoder(list[dict[str, Any] | None]).decode
_decode_value = msgspec.msgpack.Decoder().decode


def pack(message: Mapping[str, Any]) -> bytes:
    """Encode a message. ``host_id`` and ``client_address`` are left out: hosts set them.

    Raises:
        MessageError: not a dictionary, or no key ``data``, or a key that is not a string.
        ValueRefused: a value that cannot travel, or a ``ttl`` that is no number of seconds; the text names it.
        TooBig: over :data:`MAX_MESSAGE_SIZE`.
    """
    if not isinstance(message, Mapping):
        raise MessageError(f"a message must be a dictionary with the key 'data', not {type(message).__name__}")
    if "data" not in message:
        raise MessageError("the key 'data' is mandatory: send({'data': value})")
    if "host_id" in message or "client_address" in message:
        message = {key: value for key, value in message.items() if key not in _SET_BY_HOST}
    if "ttl" in message and not is_duration(message["ttl"]):
        raise ValueRefused(f"the key 'ttl' is a number of seconds, 0 or more, not {message['ttl']!r:.80}")
    for key in message:
        if not isinstance(key, str):
            raise MessageError(f"the keys of a message must be strings, not {type(key).__name__}: {key!r:.80}")
    return pack_value(message)


def is_duration(value: Any) -> bool:
    """Return whether a value is a number of seconds: finite, and 0 or more."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def is_cause(value: Any) -> bool:
    """Return whether a value can be the cause of a message: a position, or [run, number] of a satellite."""
    if isinstance(value, list | tuple) and len(value) == 2:
        run, number = value
        return type(run) is type(number) is int and 0 < run <= MAX_RUN and 0 < number < 2**63
    return type(value) is int and 0 <= value < 2**63


def pack_value(value: Any) -> bytes:
    """Encode any value.

    Raises:
        ValueRefused: the value cannot travel.
        TooBig: over :data:`MAX_MESSAGE_SIZE`.
    """
    try:
        packed = _encoder.encode(value)
    except RecursionError:
        raise ValueRefused("cannot be sent: nested too deep, or contains itself") from None
    except UnicodeEncodeError as error:
        raise ValueRefused(f"cannot be sent: text that is not valid Unicode ({error.reason})") from None
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise ValueRefused(f"cannot be sent: {error}") from None
    if len(packed) > MAX_MESSAGE_SIZE:
        raise TooBig(len(packed), MAX_MESSAGE_SIZE)
    return packed


def unpack(packed: bytes) -> Message:
    """Decode a message.

    Raises:
        ValueRefused: the bytes are not one MessagePack dictionary with string keys.
    """
    try:
        return _decode_message(packed)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ValueRefused(f"not a message: {error}") from None


def unpack_batch(batch: bytes) -> list[Message]:
    """Decode all messages of a batch at once; None stands for each message that was dropped on the way.

    Raises:
        ValueRefused: one of them cannot be decoded; ``protocol.batch.split_batch`` and :func:`unpack` find which.
    """
    try:
        return _decode_batch(batch)  # type: ignore[return-value]  # None is rare, and callers check for it
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ValueRefused(f"not a batch of messages: {error}") from None


def unpack_value(packed: bytes) -> Any:
    """Decode any value.

    Raises:
        ValueRefused: the bytes are not one MessagePack value.
    """
    try:
        return _decode_value(packed)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ValueRefused(f"not a value: {error}") from None


def channel_of(message: Mapping[str, Any]) -> str:
    """Return the channel of a decoded message, '' for none."""
    channel = message.get("channel", "")
    return channel if isinstance(channel, str) else ""


def key_text(key: Any) -> str:
    """Return a dictionary key as text."""
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return base64.b64encode(key).decode()
    if isinstance(key, datetime):
        return key.isoformat()
    return str(key)


def to_jsonable(value: Any) -> Any:
    """Convert a decoded value to one that ``json.dumps`` writes as strict JSON.

    Bytes become base64 text, NaN and infinities null, datetimes ISO 8601 in UTC, other keys strings. Keys that are
    equal as text keep their values: the later one gets ``#2``, ``#3`` … appended.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    if isinstance(value, Mapping):
        result: dict[str, Any] = {}
        for key, item in value.items():
            result[unused_key(key_text(key), result)] = to_jsonable(item)
        return result
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    if isinstance(value, msgspec.msgpack.Ext):
        return base64.b64encode(value.data).decode()
    return str(value)


def unused_key(text: str, taken: Container[str], numbers: dict[str, int] | None = None) -> str:
    """Return ``text`` or, where that key exists, ``text#2``, ``text#3`` …

    Args:
        text: the key as it should be.
        taken: the existing keys; none is ever removed.
        numbers: kept by the caller beside ``taken``, so that many keys of one text cost no search each.
    """
    if text not in taken:
        return text
    number = 2 if numbers is None else numbers.get(text, 2)
    while f"{text}#{number}" in taken:
        number += 1
    if numbers is not None:
        numbers[text] = number + 1
    return f"{text}#{number}"
