"""A parser of datagrams, which have one or several JSON objects, a line each; and an encoder of such lines.

====================================  ===========================================================================
``{"data": 1, "channel": "a.b"}``     sends a message to the network; other keys are sent along
``{"subscribe": ["stage.*"]}``        this address gets messages of these channels from now on; ``[]`` ends that
``{"ping": 1}``                       is answered with ``{"pong": 1}``
====================================  ===========================================================================
"""

import base64
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from co2 import plugin

__all__ = [
    "MAX_DATAGRAM_SIZE",
    "MAX_DEPTH",
    "MAX_DEPTH_OUT",
    "MAX_LINES",
    "MAX_PATTERNS",
    "MAX_PATTERN_SIZE",
    "MalformedLine",
    "NetworkMessage",
    "Ping",
    "Subscribe",
    "Unwritable",
    "lines_of",
    "parse",
    "write",
]

MAX_DATAGRAM_SIZE = 8192
"""Bytes of a datagram in either direction. A longer one is refused, or not sent."""

MAX_LINES = 64
"""Lines of a datagram; more are refused."""

MAX_DEPTH = 32
"""Levels of nested lists and objects in a received line."""

MAX_DEPTH_OUT = 256
"""Levels in a line that is sent. Without it Python would set the limit: 1,000 in 3.11, 10,000 in 3.13."""

MAX_PATTERNS = 16
"""Channel patterns of one address."""

MAX_PATTERN_SIZE = 256
"""Characters of one pattern."""

_OURS = ("host_id", "client_address", "origin_host_id", "udp")
"""Keys that are removed from a received line, because they name the sender of a message."""

_KINDS = ("data", "subscribe", "ping")

_NINETEEN_DIGITS = re.compile(rb"[0-9]{19}")
"""Every integer that is out of range matches this."""

_TEXT_OR_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*+"?|(-?[0-9]+)(\.[0-9]+)?([eE][+-]?[0-9]+)?', re.DOTALL)

_SHOWN_DIGITS = 24
"""Characters of a number that an error shows."""


class MalformedLine(ValueError):
    """A line is none of the three above, or a datagram is too long; the text says why, within 200 characters."""


class Unwritable(ValueError):
    """A message cannot be a line: it is too long, or nested too deep."""


@dataclass(frozen=True, slots=True)
class NetworkMessage:
    """A message for the network."""

    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A subscription.

    Attributes:
        patterns: of the channels; none to end the subscription.
        channels: the channels that these patterns select.
    """

    patterns: tuple[str, ...]
    channels: plugin.Channels


@dataclass(frozen=True, slots=True)
class Ping:
    """A question whether the relay is there.

    Attributes:
        token: the JSON text for the answer.
    """

    token: bytes


def lines_of(datagram: bytes) -> Iterator[bytes]:
    """Yield the lines of a datagram, without empty ones.

    Raises:
        MalformedLine: it is too long, or has too many lines; the first ones are yielded before.
    """
    if len(datagram) > MAX_DATAGRAM_SIZE:
        raise MalformedLine(f"a datagram of more than {MAX_DATAGRAM_SIZE} bytes")
    count = 0
    for line in datagram.split(b"\n"):
        stripped = line.strip()
        if stripped:
            count += 1
            if count > MAX_LINES:
                raise MalformedLine(f"more than {MAX_LINES} lines in a datagram")
            yield stripped


def parse(line: bytes) -> NetworkMessage | Subscribe | Ping:
    """Parse one line.

    Raises:
        MalformedLine: it is none of the three kinds, or over a limit.
    """
    try:
        value = _decode(line)
    except RecursionError:
        raise MalformedLine(f"nested deeper than {MAX_DEPTH}") from None
    except (msgspec.MsgspecError, ValueError) as error:
        _check_numbers(line)
        raise MalformedLine(f"not a JSON object: {error}"[:200]) from None
    kinds = [kind for kind in _KINDS if kind in value]
    if len(kinds) != 1:
        raise MalformedLine("expected exactly one of the keys 'data', 'subscribe' and 'ping'")
    match kinds[0]:
        case "subscribe":
            return _subscription(value["subscribe"])
        case "ping":
            return Ping(bytes(_decode_raw(line)["ping"]))
        case _:
            if _NINETEEN_DIGITS.search(line):
                _check_numbers(line)
            return _said(value)


def write(message: Mapping[str, Any]) -> bytes:
    """Encode a message as a line, without its ``client_address``.

    Bytes become base64 text, NaN and infinities become null, datetimes become text in ISO 8601, and keys that are
    not text become text.

    Raises:
        Unwritable: it is nested too deep, or longer than a datagram.
    """
    shown = {key: value for key, value in message.items() if key != "client_address"}
    try:
        try:
            line = _encode(shown)
        except TypeError:
            line = _encode(_plain(shown))
        # Each level has at least one bracket, so few messages need the slow check.
        is_too_deep = line.count(b"[") + line.count(b"{") > MAX_DEPTH_OUT and _is_deeper(shown, MAX_DEPTH_OUT)
    except RecursionError:
        is_too_deep = True
    if is_too_deep:
        raise Unwritable(f"nested deeper than {MAX_DEPTH_OUT}")
    if len(line) >= MAX_DATAGRAM_SIZE:
        raise Unwritable(f"{len(line)} bytes; the limit of a datagram is {MAX_DATAGRAM_SIZE}")
    return line + b"\n"


def _check_numbers(line: bytes) -> None:
    """Raise MalformedLine for a number that no message can contain."""
    for found in _TEXT_OR_NUMBER.finditer(line):
        whole, fraction, exponent = found.groups()
        if whole is None:
            continue
        if fraction or exponent:
            bounds = "" if math.isfinite(float(found[0])) else "numbers must be from -1.79e308 to 1.79e308"
        else:
            small = len(whole) <= _SHOWN_DIGITS and -(2**63) <= int(whole) < 2**64
            bounds = "" if small else f"integers must be from {-(2**63)} to {2**64 - 1}"
        if bounds:
            number = found[0].decode()
            shown = number if len(number) <= _SHOWN_DIGITS else f"{number[:_SHOWN_DIGITS]}…"
            raise MalformedLine(f"{shown} is out of range: {bounds}; send it as text, in quotes")


def _said(value: dict[str, Any]) -> NetworkMessage:
    channel = value.get("channel", "")
    if type(channel) is not str:
        raise MalformedLine("a channel must be text")
    if _is_deeper(value, MAX_DEPTH):
        raise MalformedLine(f"nested deeper than {MAX_DEPTH}")
    for key in _OURS:
        value.pop(key, None)
    return NetworkMessage(value)


def _subscription(patterns: Any) -> Subscribe:
    if (
        not isinstance(patterns, list)
        or len(patterns) > MAX_PATTERNS
        or not all(isinstance(pattern, str) and len(pattern) <= MAX_PATTERN_SIZE for pattern in patterns)
    ):
        raise MalformedLine(f"'subscribe' must be a list of up to {MAX_PATTERNS} channel patterns")
    try:
        return Subscribe(tuple(patterns), plugin.Channels(patterns))
    except ValueError as error:
        raise MalformedLine(str(error)[:200]) from None


def _is_deeper(value: Any, depth: int) -> bool:
    """Return whether lists and objects are nested deeper than ``depth`` levels."""
    if isinstance(value, dict):
        return depth == 0 or any(_is_deeper(item, depth - 1) for item in value.values())
    if isinstance(value, list):
        return depth == 0 or any(_is_deeper(item, depth - 1) for item in value)
    return False


def _plain(value: Any) -> Any:
    """Convert the values and keys that JSON has no form for."""
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return base64.b64encode(value.data).decode() if isinstance(value, msgspec.msgpack.Ext) else value


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    return base64.b64encode(key).decode() if isinstance(key, bytes) else str(key)


_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
