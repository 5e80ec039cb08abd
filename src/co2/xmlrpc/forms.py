"""How a message looks in XML-RPC: the plain form for everybody, the packed form between our own hosts.

Plain: the sender's keys side by side with ``host_id``, ``client_address`` and ``position``. Keys whose names are
the protocol's own words travel in a dictionary under ``keys``, so that none is lost. Packed: the message as its
sender encoded it, under ``packed``.
"""

from collections.abc import Mapping
from typing import Any

from co2.errors import BadParams, UsageError
from co2.values import Message, pack, unpack

__all__ = ["PROTOCOL_KEYS", "message_in", "plain_form"]

PROTOCOL_KEYS = frozenset(("host_id", "client_address", "id", "position", "gaps", "keys", "packed", "log_id"))
"""Names that the envelope uses beside a message's own keys."""


def message_in(argument: Mapping[str, Any]) -> bytes:
    """Take the message out of a dictionary in either form; encoded, and checked.

    Raises:
        BadParams: no ``data``, or something that is no message.
    """
    try:
        if "packed" in argument:
            return _checked(argument["packed"])
        keys = argument.get("keys", {})
        if not isinstance(keys, dict):
            raise BadParams(f"key 'keys': a dictionary is wanted, got {type(keys).__name__}")
        return pack({**{k: v for k, v in argument.items() if k not in PROTOCOL_KEYS}, **keys})
    except UsageError as error:
        raise BadParams(str(error)) from None


def plain_form(packed: bytes) -> Message:
    """Give an encoded message's keys as they stand in the plain form; the envelope is added by the caller."""
    message: Message = {}
    hidden: Message = {}
    for key, value in unpack(packed).items():
        (hidden if key in PROTOCOL_KEYS else message)[key] = value
    if hidden:
        message["keys"] = hidden
    return message


def _checked(packed: Any) -> bytes:
    if not isinstance(packed, bytes):
        raise BadParams(f"key 'packed': base64 is wanted, got {type(packed).__name__}")
    message = unpack(packed)
    if "data" in message and "host_id" not in message and "client_address" not in message:
        return packed
    return pack(message)
