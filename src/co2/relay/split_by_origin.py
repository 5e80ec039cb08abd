"""The first senders of messages that a relay plugin sends: a message does not go back to its first sender."""

from collections.abc import Iterator
from typing import Any

import msgspec

from co2.errors import BadRequest
from co2.host_id import HostId
from co2.protocol.wire.batch import make_batch, split_batch

__all__ = ["by_first_sender"]


class _FirstSender(msgspec.Struct):
    """The one key of a message that names its first sender."""

    origin_host_id: Any = ""


_first_sender = msgspec.msgpack.Decoder(_FirstSender).decode


def by_first_sender(batch: bytes, count: int) -> Iterator[tuple[str, bytes, int]]:
    """Split a batch of ``count`` messages by the hosts that they name as their first senders.

    Yields:
        The host's origin, '' for none, with a batch and the number of messages in it.
    """
    if b"origin_host_id" not in batch:
        yield "", batch, count
        return
    part: list[bytes] = []
    of = ""
    for message in split_batch(batch):
        origin = _origin_in(message)
        if part and origin != of:
            yield of, make_batch(part), len(part)
            part = []
        of = origin
        part.append(message)
    yield of, make_batch(part), len(part)


def _origin_in(message: bytes) -> str:
    try:
        return HostId.parse(_first_sender(message).origin_host_id).origin
    except (msgspec.MsgspecError, ValueError, TypeError, AttributeError, BadRequest):
        return ""  # missing, or not a host's
