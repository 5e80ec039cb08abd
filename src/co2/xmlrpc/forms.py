"""The form of a message in XML-RPC: its keys side by side with ``host_id``, ``client_address`` and ``position``.

Keys that the protocol uses itself travel in a dictionary under ``keys``, so that none is lost.
"""

from collections.abc import Mapping
from typing import Any

from co2.errors import BadParams, UsageError
from co2.protocol.wire.channel_patterns import check_channel
from co2.values import Message, channel_of, pack, unpack

__all__ = ["PROTOCOL_KEYS", "message_in", "plain_form"]

PROTOCOL_KEYS = frozenset(("host_id", "client_address", "id", "position", "gaps", "keys", "log_id"))
"""Names that the envelope uses beside a message's own keys, in both directions."""

_ADDED = PROTOCOL_KEYS | {"at"}
"""Names that hosts add. In what comes in ``at`` is the sender's own: it was free before messages had a time."""


def message_in(argument: Mapping[str, Any]) -> tuple[bytes, tuple[str, ...]]:
    """Encode the message in a dictionary; return it with the channels for its frame.

    Raises:
        BadParams: no ``data``, or not a message.
    """
    try:
        keys = argument.get("keys", {})
        if not isinstance(keys, dict):
            raise BadParams(f"key 'keys': expected a dictionary, got {type(keys).__name__}")
        message = {**{k: v for k, v in argument.items() if k not in PROTOCOL_KEYS}, **keys}
        packed = pack(message)
        check_channel(channel := channel_of(message))
        return packed, (channel,)
    except UsageError as error:
        raise BadParams(str(error)) from None


def plain_form(packed: bytes) -> Message:
    """Return the keys of an encoded message in the plain form; the caller adds the envelope."""
    message: Message = {}
    hidden: Message = {}
    for key, value in unpack(packed).items():
        (hidden if key in _ADDED else message)[key] = value
    if hidden:
        message["keys"] = hidden
    return message
