"""The frames of ``/live``, as JSON text: parse what a client sends, write what the host sends. Sans I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from co2.errors import BadParams, BadRequest
from co2.exact_json.messages import SentMessage, message_in
from co2.exact_json.writer import write
from co2.protocol.wire.channel_patterns import MAX_PATTERNS, Interests
from co2.protocol.wire.host_names import is_method_name
from co2.server.door.routes import FRAMES

__all__ = [
    "MAX_REF",
    "SUBPROTOCOL",
    "CallFrame",
    "ClientFrame",
    "Ref",
    "SendFrame",
    "WantFrame",
    "error_frame",
    "hello_frame",
    "messages_frame",
    "position_frame",
    "read_frame",
    "ref_of",
    "result_frame",
    "skipped_frame",
]

SUBPROTOCOL = "co2.live.1"

MAX_TOKENS = 4_096
"""Tokens of all patterns in one ``want``: what it takes to compare them is made of each at the first message."""

MAX_REF = 64
"""Characters of a ``ref`` that is text."""

MAX_SENT = 256
"""Messages in one frame."""

Ref = int | str | None
"""What a client gives a frame, to know its answer by."""

_KEYS = {
    "want": frozenset(("want", "ref")),
    "send": frozenset(("send", "ref")),
    "call": frozenset(("call", "data", "host", "ref")),
}
assert _KEYS.keys() == FRAMES.keys()


@dataclass(frozen=True, slots=True)
class WantFrame:
    """The messages that the client wants from now on."""

    ref: Ref
    channels: Interests


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Messages to send."""

    ref: Ref
    messages: Sequence[SentMessage]


@dataclass(frozen=True, slots=True)
class CallFrame:
    """A method to call; ``host`` is None for the one host that has it."""

    ref: Ref
    method: str
    data: Any
    host: str | None


ClientFrame = WantFrame | SendFrame | CallFrame


def ref_of(value: Any) -> Ref:
    """Return the ``ref`` of a frame, also of a malformed one; None for none."""
    ref = value.get("ref") if isinstance(value, dict) else None
    if isinstance(ref, bool) or not isinstance(ref, int | str) or (isinstance(ref, str) and len(ref) > MAX_REF):
        return None
    return ref


def read_frame(value: Any) -> ClientFrame:
    """Parse a frame of a client.

    Args:
        value: read from JSON.

    Raises:
        BadParams: malformed; the text says what was expected.
    """
    if not isinstance(value, dict):
        raise BadParams("a frame must be a dictionary with one of the keys 'call', 'send', 'want'")
    kinds = _KEYS.keys() & value.keys()
    if len(kinds) != 1:
        raise BadParams("a frame must have exactly one of the keys 'call', 'send', 'want'")
    kind = kinds.pop()
    if unknown := sorted(str(key)[:40] for key in value.keys() - _KEYS[kind]):
        raise BadParams(f"unknown key {unknown[0]!r} beside {kind!r}; there are {', '.join(sorted(_KEYS[kind]))}")
    if value.get("ref") is not None and ref_of(value) is None:
        raise BadParams(f"key 'ref': expected an integer, or text of at most {MAX_REF} characters")
    ref = ref_of(value)
    if kind == "want":
        return WantFrame(ref, _interests(value["want"]))
    if kind == "send":
        return SendFrame(ref, _messages(value["send"]))
    method, host = value["call"], value.get("host")
    if not isinstance(method, str) or not is_method_name(method):
        raise BadParams("key 'call': expected the name of a method")
    if host is not None and not isinstance(host, str):
        raise BadParams("key 'host': expected the name or host_id of a host")
    return CallFrame(ref, method, value.get("data"), host)


def _interests(wanted: Any) -> Interests:
    if not isinstance(wanted, dict) or wanted.keys() - {"channels"}:
        raise BadParams("key 'want': expected a dictionary with 'channels'")
    channels = wanted.get("channels")
    if channels is None:
        return Interests(None)
    if not isinstance(channels, list) or not all(isinstance(one, str) for one in channels):
        raise BadParams("key 'channels': expected a list of patterns; null for all messages")
    if len(channels) > MAX_PATTERNS:
        raise BadParams(f"key 'channels': {len(channels)} patterns; at most {MAX_PATTERNS}")
    if (tokens := sum(one.count(".") + 1 for one in channels)) > MAX_TOKENS:
        raise BadParams(f"key 'channels': {tokens} tokens in all patterns; at most {MAX_TOKENS}")
    try:
        return Interests(channels)
    except BadRequest as error:
        raise BadParams(f"key 'channels': {error}") from None


def _messages(sent: Any) -> list[SentMessage]:
    if not isinstance(sent, list):
        return [message_in(sent)]
    if not 0 < len(sent) <= MAX_SENT:
        raise BadParams(f"key 'send': expected a message, or a list of 1 to {MAX_SENT}")
    return [message_in(one) for one in sent]


def hello_frame(about: Mapping[str, Any]) -> bytes:
    """Return the first frame of a host."""
    return write({"hello": about})


def messages_frame(texts: Sequence[bytes]) -> bytes:
    """Return a frame of messages, each JSON text."""
    return b'{"messages":[' + b",".join(texts) + b"]}"


def position_frame(position: int) -> bytes:
    """Return the frame that says up to which position the client has got all that it wants."""
    return write({"position": position})


def skipped_frame(count: int) -> bytes:
    """Return the frame that says how many messages the client did not get here."""
    return write({"skipped": count})


def result_frame(result: bytes, ref: Ref) -> bytes:
    """Return an answer; the result is JSON text."""
    return b'{"result":' + result + b',"ref":' + write(ref) + b"}"


def error_frame(code: int, text: str, ref: Ref) -> bytes:
    """Return the answer to a frame that failed; without a ``ref`` if the frame had none."""
    told: dict[str, Any] = {"error": {"code": code, "text": text}}
    return write(told if ref is None else {**told, "ref": ref})
