"""A parser and an encoder of OSC 1.0 datagrams.

========  ==========================  =======================================
type tag  OSC                         Python
========  ==========================  =======================================
i, h      32 and 64 bit integer       int
f, d      32 and 64 bit float         float; a 32 bit float comes back exactly
s, S      string, symbol              str
b         blob                        bytes
c         character                   str of length 1
r         colour                      int, 0xRRGGBBAA
m         MIDI                        list: port, status, data1, data2
t         time tag                    list: NTP seconds, fraction (1/2**32 s)
T, F      true, false                 True, False
N         nil                         None
I         impulse ("bang")            True
[ ]       array                       list
========  ==========================  =======================================
"""

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = [
    "IMMEDIATELY",
    "MAX_DATAGRAM_SIZE",
    "MalformedPacket",
    "OscBundle",
    "OscMessage",
    "Packet",
    "Unsendable",
    "build",
    "fits",
    "infer_types",
    "parse",
]

MAX_DATAGRAM_SIZE = 65_507
"""Bytes of one UDP datagram over IPv4."""
MAX_BUNDLE_DEPTH = 16
MAX_ARRAY_DEPTH = 32

SMALLEST_DOUBLE = float(1 << 24)
"""From this number on a 32 bit float cannot represent every whole number."""

Time = tuple[int, int]
IMMEDIATELY: Time = (0, 1)
"""The time tag that means "now"."""

_NTP_EPOCH = datetime(1900, 1, 1, tzinfo=UTC)
_BUNDLE_HEAD = b"#bundle\0"

_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")
_FLOAT = struct.Struct(">f")
_DOUBLE = struct.Struct(">d")
_COLOUR = struct.Struct(">I")
_MIDI = struct.Struct(">4B")
_TIME = struct.Struct(">II")

_Reader = Callable[[bytes, int], tuple[Any, int]]
"""Takes a datagram and the index of an argument; returns the value and the index of the next argument."""


class MalformedPacket(ValueError):
    """A datagram is not valid OSC; the text says what is wrong."""


class Unsendable(ValueError):
    """OSC has no type for a value, or a packet is longer than :data:`MAX_DATAGRAM_SIZE`."""


@dataclass(frozen=True, slots=True)
class OscMessage:
    """One OSC message.

    Attributes:
        address: starts with ``/``; may be an OSC address pattern.
        types: type tags without the comma, with the brackets of arrays.
        args: values, as in the table at the top of this module.
    """

    address: str
    types: str
    args: list[Any]


@dataclass(frozen=True, slots=True)
class OscBundle:
    """One OSC bundle: messages and bundles that belong together.

    Attributes:
        time: NTP time: seconds since 1900, and the fraction of a second in 1/2**32 s.
        elements: in order.
    """

    time: Time
    elements: tuple["OscMessage | OscBundle", ...]


Packet = OscMessage | OscBundle


def parse(datagram: bytes) -> Packet:
    """Parse one datagram.

    Raises:
        MalformedPacket: it is not valid OSC, or nested too deep.
    """
    return _parse_packet(datagram, 0)


def build(packet: Packet) -> bytes:
    """Encode one datagram.

    Raises:
        Unsendable: an argument does not fit its type tag, or the datagram is too long.
    """
    datagram = _build_packet(packet)
    if len(datagram) > MAX_DATAGRAM_SIZE:
        raise Unsendable(f"{len(datagram)} bytes; the limit of a datagram is {MAX_DATAGRAM_SIZE}")
    return datagram


def infer_types(args: Sequence[Any]) -> str:
    """Return type tags for values without any.

    Floats become ``f``, which every OSC program understands; from :data:`SMALLEST_DOUBLE` on, as times are, they
    become ``d``.

    Raises:
        Unsendable: OSC has no type for a value, or arrays are nested too deep.
    """
    return "".join(_infer(value, 0) for value in args)


def fits(args: Sequence[Any], types: str) -> bool:
    """Return whether these values can be encoded with these type tags."""
    try:
        _build_arguments(args, types)
    except Unsendable:
        return False
    return True


def _parse_packet(data: bytes, depth: int) -> Packet:
    if data.startswith(b"/"):
        return _parse_message(data)
    if data.startswith(_BUNDLE_HEAD):
        return _parse_bundle(data, depth)
    raise MalformedPacket("begins neither with '/' nor with '#bundle'")


def _parse_bundle(data: bytes, depth: int) -> OscBundle:
    if depth >= MAX_BUNDLE_DEPTH:
        raise MalformedPacket(f"bundles nested deeper than {MAX_BUNDLE_DEPTH}")
    if len(data) < 16:
        raise MalformedPacket("truncated time tag of a bundle")
    elements: list[Packet] = []
    index = 16
    while index < len(data):
        size, index = _get_int(data, index)
        if size <= 0 or size % 4 or index + size > len(data):
            raise MalformedPacket(f"a bundle element of {size} bytes, but only {len(data) - index} are left")
        elements.append(_parse_packet(data[index : index + size], depth + 1))
        index += size
    return OscBundle(_TIME.unpack_from(data, 8), tuple(elements))


def _parse_message(data: bytes) -> OscMessage:
    address, index = _get_string(data, 0)
    if index >= len(data):
        return OscMessage(address, "", [])  # very old programs send no type tags
    tags, index = _get_string(data, index)
    if not tags.startswith(","):
        raise MalformedPacket("no type tags after the address")
    arrays: list[list[Any]] = [[]]
    for tag in tags[1:]:
        if tag == "[":
            if len(arrays) > MAX_ARRAY_DEPTH:
                raise MalformedPacket(f"arrays nested deeper than {MAX_ARRAY_DEPTH}")
            inner: list[Any] = []
            arrays[-1].append(inner)
            arrays.append(inner)
        elif tag == "]":
            if len(arrays) == 1:
                raise MalformedPacket("type tag ']' without '['")
            arrays.pop()
        elif tag in _CONSTANTS:
            arrays[-1].append(_CONSTANTS[tag])
        elif tag in _READERS:
            value, index = _READERS[tag](data, index)
            arrays[-1].append(value)
        else:
            raise MalformedPacket(f"unknown type tag {tag!r}")
    if len(arrays) != 1:
        raise MalformedPacket("type tag '[' without ']'")
    return OscMessage(address, tags[1:], arrays[0])


def _get_string(data: bytes, index: int) -> tuple[str, int]:
    end = data.find(b"\0", index)
    after = end + 4 - (end - index) % 4
    if end < 0 or after > len(data):
        raise MalformedPacket("truncated string")
    try:
        return data[index:end].decode("utf-8"), after
    except UnicodeDecodeError as error:
        raise MalformedPacket(f"a string that is not UTF-8: {error}") from None


def _get_fields(layout: struct.Struct, data: bytes, index: int) -> tuple[tuple[Any, ...], int]:
    after = index + layout.size
    if after > len(data):
        raise MalformedPacket(f"expected {layout.size} bytes, but only {max(0, len(data) - index)} are left")
    return layout.unpack_from(data, index), after


def _number(layout: struct.Struct) -> _Reader:
    def get(data: bytes, index: int) -> tuple[Any, int]:
        (value,), after = _get_fields(layout, data, index)
        return value, after

    return get


def _list(layout: struct.Struct) -> _Reader:
    def get(data: bytes, index: int) -> tuple[Any, int]:
        values, after = _get_fields(layout, data, index)
        return list(values), after

    return get


def _get_float(data: bytes, index: int) -> tuple[float, int]:
    # Reaktor omits zero bytes at the end of a datagram.
    return _FLOAT.unpack(data[index : index + 4].ljust(4, b"\0"))[0], index + 4


_get_int = _number(_INT)


def _get_blob(data: bytes, index: int) -> tuple[bytes, int]:
    size, index = _get_int(data, index)
    after = index + size + -size % 4
    if size < 0 or after > len(data):
        raise MalformedPacket(f"a blob of {size} bytes, but only {len(data) - index} are left")
    return data[index : index + size], after


def _get_char(data: bytes, index: int) -> tuple[str, int]:
    code, index = _get_int(data, index)
    if not 0 <= code < 0x110000 or 0xD800 <= code < 0xE000:
        raise MalformedPacket(f"invalid character code {code}")
    return chr(code), index


_CONSTANTS: dict[str, Any] = {"T": True, "F": False, "N": None, "I": True}
_READERS: dict[str, _Reader] = {
    "i": _get_int,
    "h": _number(_LONG),
    "f": _get_float,
    "d": _number(_DOUBLE),
    "s": _get_string,
    "S": _get_string,
    "b": _get_blob,
    "c": _get_char,
    "r": _number(_COLOUR),
    "m": _list(_MIDI),
    "t": _list(_TIME),
}


def _build_packet(packet: Packet) -> bytes:
    if isinstance(packet, OscMessage):
        if not packet.address.startswith("/"):
            raise Unsendable(f"an address must begin with '/', not {packet.address[:80]!r}")
        head = _put_string(packet.address) + _put_string("," + packet.types)
        return head + _build_arguments(packet.args, packet.types)
    parts = [_BUNDLE_HEAD, _put_time(packet.time)]
    for element in packet.elements:
        body = _build_packet(element)
        parts += [len(body).to_bytes(4, "big"), body]
    return b"".join(parts)


def _build_arguments(args: Sequence[Any], types: str) -> bytes:
    parts: list[bytes] = []
    values: list[Iterator[Any]] = [iter(args)]
    missing = object()
    for tag in types:
        if tag == "]":
            if len(values) == 1 or next(values.pop(), missing) is not missing:
                raise Unsendable(f"arguments do not match the type tags {types[:80]!r}")
            continue
        value = next(values[-1], missing)
        if value is missing:
            raise Unsendable(f"fewer arguments than type tags {types[:80]!r}")
        if tag == "[":
            if not isinstance(value, list | tuple) or len(values) > MAX_ARRAY_DEPTH:
                raise Unsendable(f"not an array: {value!r:.80}")
            values.append(iter(value))
        elif tag in _CONSTANTS:
            if value is not _CONSTANTS[tag]:
                raise Unsendable(f"not of type {tag!r}: {value!r:.80}")
        else:
            parts.append(_put(tag, value))
    if len(values) != 1 or next(values[0], missing) is not missing:
        raise Unsendable(f"more arguments than type tags {types[:80]!r}")
    return b"".join(parts)


def _put(tag: str, value: Any) -> bytes:
    kind, write = _WRITERS.get(tag, (None, None))
    if kind is None or write is None:
        raise Unsendable(f"unknown type tag {tag[:8]!r}")
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Unsendable(f"not of type {tag!r}: {value!r:.80}")
    try:
        return write(value)
    except (struct.error, OverflowError, ValueError, TypeError) as error:
        raise Unsendable(f"{value!r:.80} as type {tag!r}: {error}") from None


def _put_string(text: str) -> bytes:
    if "\0" in text:  # it would end the string, and the receiver would take the rest for other arguments
        raise Unsendable("a string with a NUL character")
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Unsendable(f"a string that is not Unicode: {error}") from None
    return data + bytes(4 - len(data) % 4)


def _put_blob(data: bytes) -> bytes:
    return _INT.pack(len(data)) + data + bytes(-len(data) % 4)


def _put_char(text: str) -> bytes:
    return _INT.pack(ord(text))


def _put_midi(value: Sequence[int]) -> bytes:
    return _MIDI.pack(*value)


def _put_time(value: Sequence[int] | datetime) -> bytes:
    if isinstance(value, datetime):
        micros = (value.astimezone(UTC) - _NTP_EPOCH) // timedelta(microseconds=1)
        value = (micros // 1_000_000, (micros % 1_000_000 << 32) // 1_000_000)
    return _TIME.pack(*value)


_WRITERS: dict[str, tuple[Any, Callable[[Any], bytes]]] = {
    "i": (int, _INT.pack),
    "h": (int, _LONG.pack),
    "f": (float | int, _FLOAT.pack),
    "d": (float | int, _DOUBLE.pack),
    "s": (str, _put_string),
    "S": (str, _put_string),
    "b": (bytes, _put_blob),
    "c": (str, _put_char),
    "r": (int, _COLOUR.pack),
    "m": (list | tuple, _put_midi),
    "t": (list | tuple | datetime, _put_time),
}


def _infer(value: Any, depth: int) -> str:
    if value is None or isinstance(value, bool):
        return "N" if value is None else "FT"[value]
    if isinstance(value, int):
        if value.bit_length() > 63 and value != -(1 << 63):
            raise Unsendable("an integer of more than 64 bits")
        return "i" if -(1 << 31) <= value < 1 << 31 else "h"
    if isinstance(value, float):
        return "d" if SMALLEST_DOUBLE <= abs(value) < math.inf else "f"
    if isinstance(value, str):
        return "s"
    if isinstance(value, bytes):
        return "b"
    if isinstance(value, datetime):
        return "t"
    if isinstance(value, list | tuple):
        if depth >= MAX_ARRAY_DEPTH:
            raise Unsendable(f"arrays nested deeper than {MAX_ARRAY_DEPTH}")
        return "[" + "".join(_infer(item, depth + 1) for item in value) + "]"
    raise Unsendable(f"OSC has no type for {type(value).__name__}")
