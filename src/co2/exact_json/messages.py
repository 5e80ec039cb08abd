"""The form of a message in JSON: its own keys side by side with those of the relay."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from co2.errors import BadParams, UsageError, ValueRefused
from co2.exact_json.writer import exact
from co2.protocol.wire.channel_patterns import check_channel
from co2.values import channel_of, pack, unpack

__all__ = ["PROTOCOL_KEYS", "SentMessage", "message_in", "message_out"]

PROTOCOL_KEYS = frozenset(
    ("at", "client_address", "gap", "gaps", "host_id", "id", "keys", "live", "log_id", "plugin", "position")
)
"""Names that are not a message's own; its own keys of these names travel in a dictionary under ``keys``."""

_SENT_KEYS = frozenset(("live", "keys"))


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message that was sent as JSON.

    Attributes:
        packed: as it travels.
        channel: '' for none.
        is_live: whether it is worthless a second later, and is in no log.
    """

    packed: bytes
    channel: str
    is_live: bool


def message_in(value: Any) -> SentMessage:
    """Encode a message that was read from JSON.

    Raises:
        BadParams: not a message; the text says why.
    """
    if not isinstance(value, dict):
        raise BadParams(f"a message must be a dictionary with the key 'data', not {_kind(value)}")
    for key in value:
        if not isinstance(key, str):
            raise BadParams(f"the keys of a message must be text, not {key!r:.80}")
    taken = sorted(PROTOCOL_KEYS.intersection(value) - _SENT_KEYS)
    if taken:
        raise BadParams(
            f"key {taken[0]!r} is the relay's, not the sender's; write a key of your own with this name into a "
            "dictionary under 'keys'"
        )
    live, keys = value.get("live", False), value.get("keys", {})
    if not isinstance(live, bool):
        raise BadParams(f"key 'live': expected true or false, got {_kind(live)}")
    if not isinstance(keys, dict):
        raise BadParams(f"key 'keys': expected a dictionary, got {_kind(keys)}")
    try:
        message = {**{key: one for key, one in value.items() if key not in _SENT_KEYS}, **keys}
        packed = pack(message)
        check_channel(channel := channel_of(message))
    except UsageError as error:
        raise BadParams(str(error)) from None
    if live and not channel:
        raise BadParams("key 'live': a live message needs a channel")
    return SentMessage(packed, channel, live)


def message_out(packed: bytes, envelope: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message for JSON: the envelope, then the message's own keys.

    Args:
        packed: as it travels.
        envelope: what the relay knows of it, with keys of :data:`PROTOCOL_KEYS`.

    Raises:
        ValueRefused: it cannot be decoded, or is nested too deep.
    """
    told = dict(envelope)
    hidden: dict[str, Any] = {}
    try:
        for key, value in unpack(packed).items():
            (hidden if key in PROTOCOL_KEYS else told)[key] = exact(value)
    except RecursionError:
        raise ValueRefused("nested too deep to be written as JSON") from None
    if hidden:
        told["keys"] = hidden
    return told


def _kind(value: Any) -> str:
    names = {dict: "a dictionary", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
