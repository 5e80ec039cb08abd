"""The WebSocket of links and viewers, without I/O: parses bytes into whole messages (RFC 6455).

Our own implementation, because every frame on the link passes here twice: the work of a general library for each
message (a queue, a future, a turn of the event loop) took longer than all other work of a relay on it.
"""

import base64
import hashlib

from co2.errors import BadWebSocket

__all__ = [
    "CLOSE",
    "MAX_CONTROLS",
    "MAX_MESSAGES",
    "MAX_SMALL_PARTS",
    "NORMAL",
    "PING",
    "POLICY",
    "PONG",
    "SMALL_PART",
    "WebSocketReader",
    "accept_key",
    "close_words",
    "control_frame",
    "message_head",
]

CLOSE = 0x8
PING = 0x9
PONG = 0xA

NORMAL = 1000
"""Close code of an end in good order (RFC 6455, 7.4.1)."""

PROTOCOL_ERROR = 1002
UNSUPPORTED = 1003
POLICY = 1008
TOO_BIG = 1009

_CLOSE_WORDS = {
    PROTOCOL_ERROR: "it reports a WebSocket protocol error",
    UNSUPPORTED: "it does not accept messages of that kind",
    POLICY: "a limit was exceeded",
    TOO_BIG: "the message was too long for it",
}

MAX_MESSAGES = 512
"""Messages that are parsed at once: a read of 256 KiB may have 26,000."""

MAX_CONTROLS = 50
"""Control frames allowed at once, and within a second; more end the link with code 1008."""

SMALL_PART = 512
MAX_SMALL_PARTS = 16
"""Bytes below which a part of a message is small, and how many small parts, besides the last, a message may have.

Hosts of co2 send no parts, and nobody cuts messages in two to send a few bytes at a time: 43,000 empty parts, of
one read, take 40 ms, and a message of them is taken as any other one.
"""

_CONTINUATION = 0x0
_TEXT = 0x1
_BINARY = 0x2
_FIN = 0x80
_MASKED = 0x80
_MAX_CONTROL = 125
"""Bytes of a control frame; also the largest size that fits the second byte."""
_NO_MASK = bytes(4)
_WRONG_KIND = {
    _TEXT: "a text message; the link's messages are binary",
    _BINARY: "a binary message; the messages here are text",
}
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_key(key: str) -> str:
    """Return a server's answer to a client's ``Sec-WebSocket-Key`` (RFC 6455, 4.2.2)."""
    digest = hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def message_head(size: int, masked: bool, is_text: bool = False) -> bytes:
    """Return the head of a message of ``size`` bytes; the message follows directly.

    Args:
        size: bytes of the message.
        masked: as what a client sends must be. The mask is zeros; ``docs/reference/protocol.md`` says why.
        is_text: whether it is text; else it is binary.
    """
    first = _FIN | (_TEXT if is_text else _BINARY)
    mask = _NO_MASK if masked else b""
    bit = _MASKED if masked else 0
    if size < 126:
        return bytes((first, bit | size)) + mask
    if size < 65_536:
        return bytes((first, bit | 126)) + size.to_bytes(2, "big") + mask
    return bytes((first, bit | 127)) + size.to_bytes(8, "big") + mask


def control_frame(opcode: int, payload: bytes, masked: bool) -> bytes:
    """Return a whole control frame: :data:`PING`, :data:`PONG` or :data:`CLOSE`, at most 125 bytes of payload."""
    bit = _MASKED if masked else 0
    return bytes((_FIN | opcode, bit | len(payload))) + (_NO_MASK if masked else b"") + payload


def close_words(payload: bytes) -> str:
    """Return why the other side closed the connection, '' if it reports no error.

    Args:
        payload: of its Close.
    """
    code = int.from_bytes(payload[:2], "big")
    what = _CLOSE_WORDS.get(code, "")
    return f"the other side has closed the connection: {what} (WebSocket code {code})" if what else ""


class WebSocketReader:
    """Parses a stream of bytes into messages.

    After a Close or a violation of the protocol nothing more is parsed; earlier messages are returned.

    Args:
        max_size: bytes of a message, at least 125; may be changed.
        masked: whether the other side masks: clients do, servers do not.
        is_text: whether its messages are text, which is not decoded here; else they are binary.

    Attributes:
        is_cut_short: :meth:`feed` has returned :data:`MAX_MESSAGES`, and more whole ones may be held.
        control: received control frames, as (opcode, payload); the owner removes them.
        error: the violation that ended the stream, None for none.
    """

    def __init__(self, max_size: int, masked: bool, is_text: bool = False) -> None:
        self.control: list[tuple[int, bytes]] = []
        self.error: BadWebSocket | None = None
        self.is_cut_short = False
        self.max_size = max_size
        self._bit = _MASKED if masked else 0
        self._kind = _TEXT if is_text else _BINARY
        self._whole = _FIN | self._kind
        self._buffer = bytearray()
        self._needed = 0
        self._parts = bytearray()
        self._parts_size = 0
        self._small_parts = 0
        self._fragmented = False
        self._over = False

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a message."""
        return not self._buffer and not self._fragmented and not self._over

    @property
    def held(self) -> int:
        """Bytes of an incomplete message."""
        return len(self._buffer) + len(self._parts)

    def feed(self, data: bytes | memoryview, most: int = MAX_MESSAGES) -> list[bytes | memoryview]:
        """Parse received bytes; return the complete messages as views, to be used at once.

        Args:
            data: received bytes; after :attr:`is_cut_short` they may be empty.
            most: messages that are returned at once.
        """
        messages: list[bytes | memoryview] = []
        self.is_cut_short = False
        if self._over:
            return messages
        buffer = self._buffer
        try:
            if not buffer:
                used = self._cut(data, messages, most)
                if used != len(data):
                    buffer += data[used:] if used else data
                return messages
            buffer += data
            if len(buffer) >= self._needed:
                # A copy, once per message: a view of the rest must not pin the buffer.
                used = self._cut(bytes(buffer), messages, most)
                del buffer[:used]
        except BadWebSocket as error:
            self.error = error.with_traceback(None)  # whose frame has this object, which has the error
            self._over = True
            buffer.clear()
        return messages

    def _cut(self, data: bytes | memoryview, messages: list[bytes | memoryview], most: int) -> int:
        """Parse whole frames at the front, up to so many messages; return the number of bytes used."""
        start, end, whole = 0, len(data), self._whole
        view = memoryview(data)
        mask_size = 4 if self._bit else 0
        while end - start >= 2:
            first, second = data[start], data[start + 1]
            if second & _MASKED != self._bit:
                raise BadWebSocket(PROTOCOL_ERROR, "wrong masking: a client masks its frames, a server does not")
            size = second & 0x7F
            at = start + 2
            if size > _MAX_CONTROL:
                if first & CLOSE:
                    raise BadWebSocket(PROTOCOL_ERROR, "a control frame is too long")
                at += 2 if size == 126 else 8
                if end < at:
                    self._needed = at - start
                    return start
                size = int.from_bytes(data[start + 2 : at], "big")
                if size + self._parts_size > self.max_size:
                    raise BadWebSocket(TOO_BIG, f"a message of {size} bytes; the limit is {self.max_size}")
            at += mask_size
            if end - at < size:
                self._needed = at + size - start
                return start
            payload: bytes | memoryview = view[at : at + size]
            if mask_size and (mask := data[at - 4 : at]) != _NO_MASK:
                payload = _unmasked(bytes(payload), bytes(mask))
            start = at + size
            if first == whole and not self._fragmented:
                messages.append(payload)
                if len(messages) == most:
                    self.is_cut_short = start < end
                    break
            else:
                self._process_frame(first, bytes(payload), messages)
                if self._over:
                    return end
        self._needed = 2
        return start

    def _process_frame(self, first: int, payload: bytes, messages: list[bytes | memoryview]) -> None:
        """Process a frame that is not a whole message."""
        opcode = first & 0x0F
        if first & 0x70 or opcode not in (_CONTINUATION, _TEXT, _BINARY, CLOSE, PING, PONG):
            raise BadWebSocket(PROTOCOL_ERROR, f"invalid first byte of a frame: 0x{first:02x}")
        if opcode >= CLOSE:
            if not first & _FIN:
                raise BadWebSocket(PROTOCOL_ERROR, "a fragmented control frame")
            self.control.append((opcode, payload))
            if len(self.control) > MAX_CONTROLS:
                raise BadWebSocket(POLICY, f"more than {MAX_CONTROLS} control frames at once")
            self._over = opcode == CLOSE
            return
        if opcode not in (_CONTINUATION, self._kind):
            raise BadWebSocket(UNSUPPORTED, _WRONG_KIND[opcode])
        if (opcode == _CONTINUATION) != self._fragmented:
            raise BadWebSocket(PROTOCOL_ERROR, "a fragment of a message out of order")
        self._parts += payload  # one buffer: an object per part would cost more than its content
        self._parts_size += len(payload)
        if self._parts_size > self.max_size:
            raise BadWebSocket(TOO_BIG, f"a fragmented message of more than {self.max_size} bytes")
        self._fragmented = not first & _FIN
        self._small_parts += self._fragmented and len(payload) < SMALL_PART
        if self._small_parts > MAX_SMALL_PARTS:
            raise BadWebSocket(
                POLICY, f"a message with more than {MAX_SMALL_PARTS} fragments of under {SMALL_PART} bytes"
            )
        if not self._fragmented:
            messages.append(bytes(self._parts))
            self._parts.clear()
            self._parts_size = self._small_parts = 0


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = mask * (size // 4 + 1)
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key[:size], "little")).to_bytes(size, "little")
